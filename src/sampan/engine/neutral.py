"""What docker's inspect document of a container has for things that Sampan does not do, or that nobody asked for.

Data. Scripts and client libraries read these fields without looking whether they are there. What is known of a
container lies over them (`inspection`).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.document import Document

CONTAINER: "Document" = {"AppArmorProfile": "", "MountLabel": "", "ProcessLabel": ""}
CONFIG: "Document" = {"Domainname": "", "OnBuild": None}
HOST_CONFIG: "Document" = {
    "Cgroup": "",
    "ConsoleSize": [0, 0],
    "ContainerIDFile": "",
    "CpuCount": 0,
    "CpuPercent": 0,
    "DeviceRequests": None,
    "IOMaximumBandwidth": 0,
    "IOMaximumIOps": 0,
    "Isolation": "",
}
_IPV6: "Document" = {"GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPv6Gateway": ""}
ENDPOINT: "Document" = {"DriverOpts": None, "EndpointID": "", "GwPriority": 0, "Links": None} | _IPV6
NETWORK_SETTINGS: "Document" = {
    "Bridge": "",
    "EndpointID": "",
    "HairpinMode": False,
    "LinkLocalIPv6Address": "",
    "LinkLocalIPv6PrefixLen": 0,
    "SandboxID": "",
    "SandboxKey": "",
    "SecondaryIPAddresses": None,
    "SecondaryIPv6Addresses": None,
} | _IPV6
