"""Which module holds which command. Hot: names only, so that a command imports its own family and no other.

Docker's management forms (`container ls`, `image rm`) are other names of the same commands.
"""

import os

from sampan.cli import flags
from sampan.errors import InvalidArgument, NotFound, SampanError

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
    "pause": "running",
    "unpause": "running",
    "top": "running",
    "stats": "stats",
    "update": "update",
    "rename": "housekeeping",
    "port": "housekeeping",
    "container prune": "housekeeping",
    "cp": "files",
    "diff": "files",
    "export": "files",
    "commit": "commit",
    "inspect": "inspect",
    "build": "build",
    "bootstrap": "bootstrap",
    "outdated": "bootstrap",
    "lint": "lint",
    "images": "image",
    "tag": "image",
    "rmi": "image",
    "import": "archive",
    "save": "archive",
    "load": "archive",
    "pull": "registry",
    "push": "registry",
    "login": "registry",
    "logout": "registry",
    "network connect": "network",
    "network create": "network",
    "network disconnect": "network",
    "network ls": "network",
    "network inspect": "network",
    "network rm": "network",
    "network prune": "network",
    "volume create": "volume",
    "volume ls": "volume",
    "volume inspect": "volume",
    "volume rm": "volume",
    "volume prune": "volume",
    "compose": "compose.front",
    "events": "events",
    "boot enable": "boot",
    "boot disable": "boot",
    "boot status": "boot",
    "boot start": "boot",
    "boot stop": "boot",
    "doctor": "doctor",
    "completion": "completion",
    "version": "system",
    "info": "info",
    "system df": "df",
    "system prune": "prune",
    "system reset": "system",
}

_CONTAINER = (
    "run create exec logs attach start stop restart kill wait rm pause unpause top stats update cp diff export commit "
    "rename port inspect"
).split()
# Management word -> its sub-commands -> the command that they are.
GROUPS = {
    "container": {name: name for name in _CONTAINER}
    | {"ls": "ps", "list": "ps", "ps": "ps", "remove": "rm", "prune": "container prune"},
    "image": {
        "build": "build",
        "import": "import",
        "inspect": "inspect",
        "list": "images",
        "load": "load",
        "ls": "images",
        "pull": "pull",
        "push": "push",
        "remove": "rmi",
        "rm": "rmi",
        "save": "save",
        "tag": "tag",
    },
    "boot": {name: f"boot {name}" for name in ("enable", "disable", "status", "start", "stop")},
    "builder": {"build": "build"},
    "buildx": {"build": "build"},
    "network": {
        "connect": "network connect",
        "create": "network create",
        "disconnect": "network disconnect",
        "inspect": "network inspect",
        "list": "network ls",
        "ls": "network ls",
        "prune": "network prune",
        "remove": "network rm",
        "rm": "network rm",
    },
    "volume": {
        "create": "volume create",
        "inspect": "volume inspect",
        "list": "volume ls",
        "ls": "volume ls",
        "prune": "volume prune",
        "remove": "volume rm",
        "rm": "volume rm",
    },
    "system": {
        "df": "system df",
        "events": "events",
        "info": "info",
        "prune": "system prune",
        "reset": "system reset",
    },
}

# Commands with commands of their own -> the package of this room whose `front.FAMILIES` says which module has which.
OUTER = ("compose",)


def inner(name: str, word: str = "") -> "tuple[flags.Command, ...]":
    """Return the commands of a command that has its own, or the one that `word` names; raises NotFound."""
    front = __import__(f"sampan.cli.{name}.front", fromlist=["FAMILIES"])
    families: dict[str, str] = front.FAMILIES
    if word and word not in families:
        raise _unknown(word, f"{name} ", list(families))
    return tuple(_load(f"{name} {one}", f"{name}.{families[one]}") for one in ([word] if word else families))


def load(name: str) -> "flags.Command":
    """Return a command of the catalog."""
    return _load(name, FAMILIES[name])


def _load(name: str, family: str) -> "flags.Command":
    # __import__, since `import importlib` costs more than the module that it would bring.
    module = __import__(f"sampan.cli.{family}", fromlist=["COMMANDS"])
    commands: tuple[flags.Command, ...] = module.COMMANDS
    return next(command for command in commands if command.name == name)


def find(words: list[str]) -> tuple[str, list[str]]:
    """Return the command's name and what follows it; the name is `""` for a management word alone."""
    first = words[0]
    if first in FAMILIES:
        return first, words[1:]
    if first not in GROUPS:
        raise _unknown(first, "", [*FAMILIES, *GROUPS])
    group = GROUPS[first]
    if len(words) == 1 or words[1] in {"-h", "--help"}:
        return "", []
    if words[1] not in group:
        raise _unknown(words[1], f"{first} ", list(group))
    return group[words[1]], words[2:]


def _unknown(word: str, group: str, known: list[str]) -> SampanError:
    """Explain a command that is not in the catalog."""
    if not group and os.path.isdir(word):
        return InvalidArgument(f"unknown command: `{word}`", hints=(f"`sampan run ./{word}` runs the project there",))
    near = flags.suggest(word, known)
    hints = (f"did you mean `sampan {group}{near}`?",) if near else ()
    listing = f"`sampan {group.strip() or 'help'}` lists the commands"
    return NotFound(f"unknown command: `{group}{word}`", hints=(*hints, listing))
