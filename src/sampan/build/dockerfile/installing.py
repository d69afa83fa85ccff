"""The linter's rules of what RUN leaves in an image: caches, lists, packages that nobody asked for. Pure."""

from sampan.build.dockerfile.finding import Finding
from sampan.build.dockerfile.instruction import Instruction, Pairs, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PIP = ("pip install", "pip3 install")


def check(item: Run, whole: "Sequence[Instruction]") -> "Iterator[Finding]":
    """Yield what is wrong with a RUN; `whole` is all that its stage consists of."""
    command = text(item)
    yield from _pip(item, command, whole)
    yield from _apt(item, command)
    at = item.statement.at
    if command.startswith("cd ") and "&&" not in command:
        why = "the next begins in WORKDIR"
        yield Finding("cd-alone", at, "`cd` holds for this step only", why=why, mend="write `WORKDIR`")
    if f" {command}".find(" sudo ") >= 0:
        why = "a step is root's unless USER says otherwise"
        yield Finding("sudo", at, "RUN uses sudo", why=why, mend="leave `sudo` out")


def _pip(item: Run, command: str, whole: "Sequence[Instruction]") -> "Iterator[Finding]":
    names = [key.strip("\"'") for pairs in whole if isinstance(pairs, Pairs) for key, _ in pairs.items]
    is_off = "--no-cache-dir" in command or "PIP_NO_CACHE_DIR" in names or "PIP_NO_CACHE_DIR" in command
    is_pip = any(word in command for word in _PIP) and "uv pip" not in command
    if is_pip and not is_off and "type=cache" not in " ".join(item.mounts):
        yield Finding(
            "pip-cache",
            item.statement.at,
            "pip's cache stays in the image",
            why="every wheel is in there twice, once as it was downloaded",
            mend="write `pip install --no-cache-dir …`, or give it a cache that is not in the image: "
            "`RUN --mount=type=cache,target=/root/.cache/pip pip install …`",
        )


def _apt(item: Run, command: str) -> "Iterator[Finding]":
    at = item.statement.at
    is_install = "apt-get install" in command or "apt install" in command
    if is_install and "/var/lib/apt/lists" not in command and "/var/lib/apt" not in " ".join(item.mounts):
        yield Finding(
            "apt-lists",
            at,
            "apt's package lists stay in the image",
            why="some 20 MB that nothing in the container reads",
            mend="end the same RUN with `&& rm -rf /var/lib/apt/lists/*`",
        )
    if is_install and "--no-install-recommends" not in command:
        yield Finding(
            "apt-recommends",
            at,
            "apt installs recommended packages too",
            why="they are rarely needed in a container, and each is more to update",
            mend="write `apt-get install --no-install-recommends …`",
        )
    if not is_install and ("apt-get update" in command or "apt update" in command):
        yield Finding(
            "apt-update-alone",
            at,
            "`apt-get update` is a step of its own",
            why="it is kept for months, and a later install then asks for packages that are gone",
            mend="join it with the install: `RUN apt-get update && apt-get install …`",
        )


def text(item: Run) -> str:
    """Return a RUN's command on one line, its blanks single."""
    bodies = " ".join(body.content for body in item.statement.heredocs)
    return " ".join([*" ".join(item.words).split(), *bodies.split()])
