"""A Dockerfile and what stands beside it, read for the linter; nothing is run."""

from sampan.build import ignore, stages
from sampan.build.dockerfile import lint, parser
from sampan.build.dockerfile.finding import Surroundings
from sampan.build.python import syntax
from sampan.build.tree import Directory, resolve
from sampan.errors import InvalidArgument, Place, SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.build.dockerfile.finding import Finding

_PROGRAM_BYTES = 1 << 20


def check(directory: str, file: str, today: str) -> "list[Finding]":
    """Return what is wrong with the Dockerfile `file`, or the one in `directory`, which is its context."""
    shown, content = stages.text(directory, file)
    rules = stages.rules(directory, file)
    tree = Directory(directory)
    try:
        around = Surroundings(
            has_ignore_file=rules is not None,
            is_ignored=(rules or ignore.Rules([])).excludes,
            server=_Programs(tree).server,
        )
        return lint.lint(parser.parse(content, shown), around, today)
    finally:
        tree.close()


class _Programs:
    """The context's programs, and what they start."""

    def __init__(self, tree: Directory) -> None:
        self._tree = tree

    def server(self, words: list[str], workdir: str) -> "tuple[Place, bool] | None":
        """Return where a command starts a development server, and whether in debug mode; None where it starts none."""
        if not words:
            return None
        names = [word.rpartition("/")[2] for word in words]
        if "flask" in names and "run" in words:
            return Place(""), "--debug" in words
        if "manage.py" in names and "runserver" in words:
            return Place(""), True
        script = next((word for word in words if word.endswith(".py")), "")
        is_python = any(name.startswith("python") for name in names)
        return self._program(script, workdir) if script and is_python else None

    def _program(self, script: str, workdir: str) -> "tuple[Place, bool] | None":
        path = script.removeprefix(workdir.rstrip("/") + "/").lstrip("/")
        content = self._read(path)
        if content is None:
            return None
        try:
            runs = syntax.read(path, content).runs
        except InvalidArgument:
            return None
        if not runs:
            return None
        worst = next((run for run in runs if run.debug), runs[0])
        return Place(path, worst.line, syntax.line_of(content, worst.line)), worst.debug

    def _read(self, path: str) -> bytes | None:
        try:
            real = resolve(self._tree, path)
            node = self._tree.find(real)
            if node is None or not node.is_file or node.size_bytes > _PROGRAM_BYTES:
                return None
            with self._tree.open(real) as file:
                return file.read()
        except (OSError, SampanError):
            return None
