"""Networks: the bridge, addresses, published ports, and a normal user's way out.

Nothing here needs a host program but pasta.
Rooms: `endpoint` (values: a container's place on a network, its published ports), `ipam` (addresses, leased in the
database), `bridge` (links and addresses, over netlink), `firewall` (the table `sampan`, over nftables' netlink),
`ports` (`-p` and the sockets that hold a port), `forward` (user-mode forwarding), `rootless` (pasta). May import
floor 3 and below.
"""
