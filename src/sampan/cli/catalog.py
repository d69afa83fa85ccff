"""Which module holds which command. Hot: names only, so that a command imports its own family and no other.

Docker's management forms (`container ls`, `image rm`) are other names of the same commands.
"""

# Command -> module of this room, whose COMMANDS has it. In the order of `sampan help`.
FAMILIES = {
    "run": "run",
    "create": "run",
    "exec": "exec",
    "ps": "listing",
    "logs": "logs",
    "attach": "container",
    "start": "container",
    "stop": "container",
    "restart": "container",
    "kill": "container",
    "wait": "container",
    "rm": "container",
    "inspect": "inspect",
    "build": "build",
    "images": "image",
    "tag": "image",
    "rmi": "image",
    "import": "archive",
    "save": "archive",
    "load": "archive",
    "version": "system",
    "system reset": "system",
}

_CONTAINER = ("run", "create", "exec", "logs", "attach", "start", "stop", "restart", "kill", "wait", "rm", "inspect")
# Management word -> its sub-commands -> the command that they are.
GROUPS = {
    "container": {name: name for name in _CONTAINER} | {"ls": "ps", "list": "ps", "ps": "ps", "remove": "rm"},
    "image": {
        "build": "build",
        "import": "import",
        "inspect": "inspect",
        "list": "images",
        "load": "load",
        "ls": "images",
        "remove": "rmi",
        "rm": "rmi",
        "save": "save",
        "tag": "tag",
    },
    "builder": {"build": "build"},
    "buildx": {"build": "build"},
    "system": {"reset": "system reset"},
}
