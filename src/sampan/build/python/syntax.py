"""What one Python file says about itself, read from its syntax tree and never by importing it.

The tree comes from `compile(…, PyCF_ONLY_AST)` and is looked at through `_ast`, since `ast` costs 8 ms and this runs on
every rebuild. Walks keep their own stack: a hostile file nests deeper than ours may.
"""

import _ast

from sampan.errors import InvalidArgument, Place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# Include/cpython/compile.h: only the tree; no code object is made.
_PYCF_ONLY_AST = 0x400
_FACTORY_NAMES = ("create_app", "make_app")


class Named:
    """A name bound at module level, and the line where it is."""

    __slots__ = ("line", "name")

    def __init__(self, name: str, line: int) -> None:
        self.name = name
        self.line = line


class Run:
    """A call of `app.run(…)`: its port where that is a literal or has a literal default, and if it asks for debug."""

    __slots__ = ("debug", "line", "port")

    def __init__(self, line: int, port: int | None, *, debug: bool) -> None:
        self.line = line
        self.port = port
        self.debug = debug


class Module:
    """What a file binds: Flask objects, factories of them (`needs`: those that want arguments), runs, a main guard."""

    __slots__ = ("factories", "flask_line", "guard_line", "needs", "objects", "runs")

    def __init__(self) -> None:
        self.objects: list[Named] = []
        self.factories: list[Named] = []
        self.needs: list[Named] = []
        self.runs: list[Run] = []
        self.flask_line: int | None = None
        self.guard_line: int | None = None


def read(path: str, source: bytes) -> Module:
    """Read the file `path`; raise InvalidArgument with its place where it is no Python that this interpreter knows."""
    return _Reader(_tree(path, source)).module


def line_of(source: bytes, line: int) -> str:
    """Return the text of the 1-based `line`, for showing it."""
    lines = source.splitlines()
    return lines[line - 1].decode(errors="replace").rstrip()[:200] if 0 < line <= len(lines) else ""


def _tree(path: str, source: bytes) -> _ast.Module:
    import sys
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's opinion of escapes in somebody's file is not ours to print
            tree = compile(source, path, "exec", _PYCF_ONLY_AST, dont_inherit=True)
    except SyntaxError as error:
        line = error.lineno or 1
        hints = (
            f"run `python3 -m py_compile {path}`",
            f"Sampan runs on Python {sys.version_info[0]}.{sys.version_info[1]} here and reads no newer syntax",
            'to go on, name the application in pyproject.toml: `[tool.sampan]` with `app = "module:name"`',
        )
        place = Place(path, line, line_of(source, line))
        raise InvalidArgument(f"`{path}` is not valid Python: {error.msg}", hints=hints, at=place) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InvalidArgument(f"`{path}` cannot be parsed as Python", at=Place(path)) from error
    if not isinstance(tree, _ast.Module):
        raise InvalidArgument(f"`{path}` cannot be parsed as Python", at=Place(path))
    return tree


class _Reader:
    """One pass over module-level statements for names, one over all nodes for runs."""

    def __init__(self, tree: _ast.Module) -> None:
        self.module = Module()
        self._constructors: set[str] = set()
        self._packages: set[str] = set()
        self._factories: set[str] = set()
        self._constants: dict[str, object] = {}
        for statement in _flat(tree.body):
            self._statement(statement)
        objects = {item.name for item in self.module.objects}
        for node in _walk(tree):
            if isinstance(node, _ast.Call):
                self._call(node, objects)

    def _statement(self, node: _ast.stmt) -> None:
        if isinstance(node, _ast.ImportFrom):
            self._import_from(node)
        elif isinstance(node, _ast.Import):
            for alias in node.names:
                if alias.name == "flask":
                    self._packages.add(alias.asname or "flask")
                    self._saw_flask(node.lineno)
        elif isinstance(node, _ast.ClassDef):
            if any(self._is_constructor(base) for base in node.bases):
                self._constructors.add(node.name)
        elif isinstance(node, _ast.FunctionDef):
            self._function(node)
        elif isinstance(node, _ast.Assign | _ast.AnnAssign):
            self._binding(node)
        elif isinstance(node, _ast.If) and _is_main_guard(node.test) and self.module.guard_line is None:
            self.module.guard_line = node.lineno

    def _import_from(self, node: _ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name
            if node.module == "flask" and node.level == 0:
                self._saw_flask(node.lineno)
                if alias.name == "Flask":
                    self._constructors.add(name)
            elif alias.name in _FACTORY_NAMES:
                self._factories.add(name)

    def _saw_flask(self, line: int) -> None:
        if self.module.flask_line is None:
            self.module.flask_line = line

    def _function(self, node: _ast.FunctionDef) -> None:
        """Note a function that makes a Flask object."""
        if not any(isinstance(inner, _ast.Call) and self._is_constructor(inner.func) for inner in _walk(node)):
            return
        arguments = node.args
        positional = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
        wants = positional > 0 or any(default is None for default in arguments.kw_defaults)
        (self.module.needs if wants else self.module.factories).append(Named(node.name, node.lineno))
        self._factories.add(node.name)

    def _binding(self, node: "_ast.Assign | _ast.AnnAssign") -> None:
        if isinstance(node, _ast.Assign) and len(node.targets) == 1:
            self._assignment(node.targets[0], node.value, node.lineno)
        elif isinstance(node, _ast.AnnAssign) and node.value is not None:
            self._assignment(node.target, node.value, node.lineno)

    def _assignment(self, target: _ast.expr, value: _ast.expr, line: int) -> None:
        if not isinstance(target, _ast.Name):
            return
        if isinstance(value, _ast.Constant):
            self._constants[target.id] = value.value
        elif isinstance(value, _ast.Call):
            made = isinstance(value.func, _ast.Name) and value.func.id in self._factories
            if made or self._is_constructor(value.func):
                self.module.objects.append(Named(target.id, line))

    def _is_constructor(self, node: _ast.expr) -> bool:
        if isinstance(node, _ast.Name):
            return node.id in self._constructors
        is_attribute = isinstance(node, _ast.Attribute) and node.attr == "Flask" and isinstance(node.value, _ast.Name)
        return is_attribute and node.value.id in self._packages  # type: ignore[attr-defined]  # narrowed by is_attribute

    def _call(self, node: _ast.Call, objects: set[str]) -> None:
        """Note `NAME.run(…)` of a Flask object, or of anything called `app`."""
        function = node.func
        if not (
            isinstance(function, _ast.Attribute) and function.attr == "run" and isinstance(function.value, _ast.Name)
        ):
            return
        if function.value.id not in objects | {"app", "application"}:
            return
        keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        # Flask.run(host, port, debug)
        port = keywords.get("port", node.args[1] if len(node.args) > 1 else None)
        debug = keywords.get("debug", node.args[2] if len(node.args) > 2 else None)
        number = _port(self._value(port)) if port is not None else None
        self.module.runs.append(Run(node.lineno, number, debug=debug is not None and self._value(debug) is not False))

    def _value(self, node: _ast.expr | None, depth: int = 0) -> object:
        """Work out a literal, a constant's name, `int(…)`, `a or b`, the default of `os.environ.get(…, default)`."""
        if node is None or depth > 8:
            return None
        if isinstance(node, _ast.Constant):
            return node.value
        if isinstance(node, _ast.Name):
            return self._constants.get(node.id)
        if isinstance(node, _ast.BoolOp):
            return self._value(node.values[-1], depth + 1)
        if isinstance(node, _ast.Call):
            name = node.func.attr if isinstance(node.func, _ast.Attribute) else getattr(node.func, "id", "")
            if name == "int" and node.args:
                return self._value(node.args[0], depth + 1)
            if name in {"get", "getenv"} and len(node.args) == 2:
                return self._value(node.args[1], depth + 1)
        return None


def _port(value: object) -> int | None:
    """Return `value` as a port number, or None."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 5:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536 else None


def _is_main_guard(test: _ast.expr) -> bool:
    """Tell whether `test` is `__name__ == "__main__"`."""
    if not (isinstance(test, _ast.Compare) and len(test.comparators) == 1):
        return False
    sides = (test.left, test.comparators[0])
    names = [side.id for side in sides if isinstance(side, _ast.Name)]
    values = [side.value for side in sides if isinstance(side, _ast.Constant)]
    return names == ["__name__"] and values == ["__main__"]


def _flat(body: "list[_ast.stmt]") -> "Iterator[_ast.stmt]":
    """Yield module-level statements, those inside `if`, `try` and `with` included: they bind module-level names too."""
    stack = list(reversed(body))
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, (_ast.If, _ast.Try, _ast.With)):
            inner = [*node.body, *getattr(node, "orelse", ()), *getattr(node, "finalbody", ())]
            for handler in getattr(node, "handlers", ()):
                inner += handler.body
            stack += reversed(inner)


def _walk(node: _ast.AST) -> "Iterator[_ast.AST]":
    """Yield `node` and all below it, in no order that matters."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, _ast.AST):
                stack.append(value)
            elif isinstance(value, list):
                stack += [item for item in value if isinstance(item, _ast.AST)]
