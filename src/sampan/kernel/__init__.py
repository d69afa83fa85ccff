"""What the Linux kernel offers and Python's `os` does not: system calls, mounts, capabilities, filters, netlink.

The only floor that imports ctypes, and `program` the only door to host programs. Every module is hot: it imports only
what FACTS of the design call cheap. May import floors 1 and 2.
"""
