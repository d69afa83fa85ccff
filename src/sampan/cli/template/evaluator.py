"""Nodes and a value to text, as text/template's exec does it: what dot is, scopes of variables, pipelines, calls.

Bounds: `STEPS_AT_MOST` nodes and calls, `OUTPUT_AT_MOST` characters printed or given to one function, `MADE_AT_MOST`
made by functions, `DEPTH_AT_MOST` blocks, parentheses and templates inside of each other.
"""

from collections.abc import Callable, Mapping

from sampan.cli.flags import suggest
from sampan.cli.template import fault, function
from sampan.cli.template.node import (
    Action,
    Branch,
    Call,
    Chain,
    Command,
    Constant,
    Dot,
    Field,
    Function,
    Leave,
    Node,
    Operand,
    Pipe,
    Template,
    Text,
    Variable,
)
from sampan.cli.template.value import NOTHING, Nothing, Struct, Value, is_true, text, type_name

STEPS_AT_MOST = 1_000_000
OUTPUT_AT_MOST = 16 * 1024 * 1024
MADE_AT_MOST = 8 * OUTPUT_AT_MOST
DEPTH_AT_MOST = 100


class _Left(Exception):
    """`break` or `continue` was met."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def execute(
    template: Template,
    value: Value,
    *,
    functions: Mapping[str, function.Entry] = function.FUNCTIONS,
    shown: Callable[[str], str] = str,
) -> str:
    """Fill a template with a value; `shown` is done to each value's text. Raises TemplateError and Exhausted."""
    running = Evaluator(template, value, functions, shown)
    running.run()
    return running.output


class Evaluator:
    """A template on its way: what it has printed, its variables, and what is left of its bounds."""

    def __init__(
        self, template: Template, value: Value, functions: Mapping[str, function.Entry], shown: Callable[[str], str]
    ) -> None:
        self.template = template
        self.functions = functions
        self.shown = shown
        self.variables: list[tuple[str, Value]] = [("$", value)]
        self.pieces: list[str] = []
        self.size = self.made = self.steps = self.depth = 0

    @property
    def output(self) -> str:
        """What was printed so far."""
        return "".join(self.pieces)

    def run(self) -> None:
        """Print everything."""
        self._walk(self.template.body, self.variables[0][1])

    def _walk(self, nodes: tuple[Node, ...], dot: Value) -> None:
        for node in nodes:
            match node:
                case Text():
                    self._print(node.text)
                case Action():
                    value = self._pipe(node.pipe, dot)
                    if not node.pipe.declared:
                        self._print(self.shown(text(value)), node.pipe.at)
                case Branch():
                    self._branch(node, dot)
                case Leave():
                    raise _Left(node.word)
                case Call():
                    self._call_template(node, dot)

    def _branch(self, node: Branch, dot: Value) -> None:
        mark = len(self.variables)
        self._descend(node.pipe.at)
        if node.word == "range":
            self._range(node, dot)
        else:
            value = self._pipe(node.pipe, dot)
            inner = value if node.word == "with" else dot
            if is_true(value):
                self._walk(node.body, inner)
            else:
                self._walk(node.otherwise, dot)
        self.depth -= 1
        del self.variables[mark:]

    def _range(self, node: Branch, dot: Value) -> None:
        pipe = node.pipe
        outer = len(self.variables)
        value = self._pipe(pipe._replace(declared=()), dot)
        pairs = self._pairs(value, pipe.at)
        if not pairs:
            self._walk(node.otherwise, dot)
            return
        depth = self.depth
        for key, element in pairs:
            self._step(pipe.at)
            given = {0: (), 1: (element,), 2: (key, element)}[len(pipe.declared)]
            for name, one in zip(pipe.declared, given, strict=True):
                self._set(name, one, assigns=pipe.assigns)
            try:
                self._walk(node.body, element)
            except _Left as left:
                self.depth = depth
                if left.word == "break":
                    break
            finally:
                del self.variables[outer:]

    def _pairs(self, value: Value, at: int) -> list[tuple[Value, Value]]:
        """Return what a range goes over: indices or sorted keys, with their values."""
        match value:
            case list():
                return list(enumerate(value))
            case dict():
                return sorted(value.items())
            case bool():
                pass
            case int():
                if value > STEPS_AT_MOST:
                    raise fault.exhausted(self.template.text, at, "the template takes too many steps")
                return [(number, number) for number in range(value)]
            case None | Nothing():
                return []
            case _:
                pass
        raise fault.unfit(self.template.text, at, f"`range` cannot go over a {type_name(value)}")

    def _call_template(self, node: Call, dot: Value) -> None:
        body = self.template.defined.get(node.name)
        if body is None:
            near = suggest(node.name, list(self.template.defined))
            hints = (f"did you mean `{near}`?",) if near else ()
            raise fault.unfit(self.template.text, node.at, f"there is no template `{node.name[:40]}`", *hints)
        value = self._pipe(node.pipe, dot) if node.pipe else None
        self._descend(node.at)
        outer, self.variables = self.variables, [("$", value)]
        self._walk(body, value)
        self.variables = outer
        self.depth -= 1

    def _pipe(self, pipe: Pipe, dot: Value) -> Value:
        """Return a pipeline's value; each command's is the next one's last argument."""
        given: tuple[Value, ...] = ()
        value: Value = None
        for command in pipe.commands:
            value = self._command(command, dot, given)
            given = (value,)
        for name in pipe.declared:
            self._set(name, value, assigns=pipe.assigns)
        return value

    def _set(self, name: str, value: Value, *, assigns: bool) -> None:
        if not assigns:
            self.variables.append((name, value))
            return
        index = max(i for i, (known, _) in enumerate(self.variables) if known == name)
        self.variables[index] = (name, value)

    def _command(self, command: Command, dot: Value, given: tuple[Value, ...]) -> Value:
        self._step(command.at)
        first, rest = command.operands[0], command.operands[1:]
        match first:
            case Function():
                return self._call(first, rest, dot, given)
            case Field():
                return self._fields(dot, first.names, first.at, self._arguments(rest, dot, given))
            case Variable() if first.names:
                return self._fields(
                    self._variable(first.name), first.names, first.at, self._arguments(rest, dot, given)
                )
            case Chain():
                inner = self._operand(first.operand, dot)
                return self._fields(inner, first.names, first.at, self._arguments(rest, dot, given))
            case _:
                pass
        if rest or given:
            raise fault.unfit(self.template.text, command.at, "what is not a function takes no arguments")
        if isinstance(first, Constant) and first.value is None:
            raise fault.unfit(self.template.text, command.at, "`nil` alone is not a command")
        return self._operand(first, dot)

    def _arguments(self, operands: tuple[Operand, ...], dot: Value, given: tuple[Value, ...]) -> tuple[Value, ...]:
        return (*(self._operand(operand, dot) for operand in operands), *given)

    def _operand(self, operand: Operand, dot: Value) -> Value:
        match operand:
            case Constant():
                return operand.value
            case Dot():
                return dot
            case Field():
                return self._fields(dot, operand.names, operand.at, ())
            case Variable():
                return self._fields(self._variable(operand.name), operand.names, operand.at, ())
            case Function():
                return self._call(operand, (), dot, ())
            case Chain():
                return self._fields(self._operand(operand.operand, dot), operand.names, operand.at, ())
            case Pipe():
                self._descend(operand.at)
                value = self._pipe(operand, dot)
                self.depth -= 1
                return value

    def _variable(self, name: str) -> Value:
        return next(value for known, value in reversed(self.variables) if known == name)

    def _fields(self, value: Value, names: tuple[str, ...], at: int, arguments: tuple[Value, ...]) -> Value:
        """Follow `.A.B`; the last one gets the arguments."""
        for name in names:
            value = self._field(value, name, at, arguments if name is names[-1] else ())
        return value

    def _field(self, value: Value, name: str, at: int, arguments: tuple[Value, ...]) -> Value:
        source = self.template.text
        if isinstance(value, Struct) and name in value.methods:
            try:
                return value.methods[name](*arguments)
            except TypeError as error:
                raise fault.unfit(
                    source, at, f"`.{name}` takes one name in quotes", f'write `.{name} "name"`'
                ) from error
        if arguments:
            raise fault.unfit(source, at, f"`.{name}` is not a function, it takes no arguments")
        match value:
            case Nothing():
                return NOTHING
            case dict():
                return value.get(name, NOTHING)
            case Struct() if name in value.fields:
                return value.fields[name]
            case Struct() if name in value.absent:
                return value.absent[name]
            case Struct():
                raise fault.unknown_field(source, at, f"there is no field `.{name}`", *_near(name, value.names()))
            case None:
                hint = "ask first: `{{with .Outer}}{{.Inner}}{{end}}`"
                raise fault.unfit(source, at, f"what should have the field `.{name}` is nil", hint)
            case _:
                pass
        hints = (
            ("`{{range .}} {{end}}` goes over a list, `{{index . 0}}` is its first",) if isinstance(value, list) else ()
        )
        raise fault.unfit(source, at, f"a {type_name(value)} has no field `.{name}`", *hints)

    def _call(self, called: Function, operands: tuple[Operand, ...], dot: Value, given: tuple[Value, ...]) -> Value:
        if called.name in function.LAZY:
            return self._logic(called, operands, dot, given)
        arguments = self._arguments(operands, dot, given)
        run, fewest, most = self.functions[called.name]
        source, at = self.template.text, called.at
        if len(arguments) < fewest or (most is not None and len(arguments) > most):
            wanted = f"{fewest}" if fewest == most else f"at least {fewest}" if most is None else f"{fewest} to {most}"
            raise fault.unfit(source, at, f"`{called.name}` takes {wanted} argument(s), not {len(arguments)}")
        if sum(map(_size, arguments)) > OUTPUT_AT_MOST:
            raise self._too_long(at)
        try:
            value = run(*arguments)
        except fault.Misuse as error:
            raise fault.unfit(source, at, f"`{called.name}`: {error}") from None
        self.made += _size(value)
        if self.made > MADE_AT_MOST:
            raise self._too_long(at)
        return value

    def _logic(self, called: Function, operands: tuple[Operand, ...], dot: Value, given: tuple[Value, ...]) -> Value:
        """Do `and` and `or`: the first argument that decides, else the last."""
        if not operands and not given:
            raise fault.unfit(self.template.text, called.at, f"`{called.name}` takes at least 1 argument(s), not 0")
        value: Value = None
        for operand in operands:
            value = self._operand(operand, dot)
            if is_true(value) == (called.name == "or"):
                return value
        return given[0] if given else value

    def _print(self, printed: str, at: int = 0) -> None:
        self._step(at)
        self.size += len(printed)
        if self.size > OUTPUT_AT_MOST:
            raise self._too_long(at)
        self.pieces.append(printed)

    def _step(self, at: int) -> None:
        self.steps += 1
        if self.steps > STEPS_AT_MOST:
            raise fault.exhausted(self.template.text, at, f"the template takes more than {STEPS_AT_MOST} steps")

    def _descend(self, at: int) -> None:
        self.depth += 1
        if self.depth > DEPTH_AT_MOST:
            raise fault.exhausted(self.template.text, at, f"the template goes more than {DEPTH_AT_MOST} deep")

    def _too_long(self, at: int) -> Exception:
        return fault.exhausted(
            self.template.text, at, f"the template makes more than {OUTPUT_AT_MOST >> 20} MiB of text"
        )


def _size(value: Value) -> int:
    return len(value) if isinstance(value, str | list) else 0


def _near(name: str, known: list[str]) -> tuple[str, ...]:
    """Return the hints for a field that is not there."""
    folded = {one.casefold(): one for one in known}
    near = folded.get(name.casefold()) or suggest(name, known)
    listing = ", ".join(f".{one}" for one in sorted(known)[:30])
    return (*((f"did you mean `.{near}`?",) if near else ()), f"fields: {listing}")
