"""The nodes of a parsed template. Each knows the offset `at` where it begins."""

from typing import NamedTuple, Union


class Constant(NamedTuple):
    """A string, number, true, false or nil."""

    value: str | int | float | bool | None
    at: int


class Dot(NamedTuple):
    """`.`: what the block is about."""

    at: int


class Field(NamedTuple):
    """`.A.B`: fields of dot."""

    names: tuple[str, ...]
    at: int


class Variable(NamedTuple):
    """`$x.A.B`; `$` is what the template was given."""

    name: str
    names: tuple[str, ...]
    at: int


class Function(NamedTuple):
    """The name of a function."""

    name: str
    at: int


class Chain(NamedTuple):
    """`(pipeline).A.B`: fields of a pipeline's value."""

    operand: "Pipe"
    names: tuple[str, ...]
    at: int


Operand = Union[Constant, Dot, Field, Variable, Function, Chain, "Pipe"]


class Command(NamedTuple):
    """What stands between two bars: an operand, and its arguments."""

    operands: tuple[Operand, ...]
    at: int


class Pipe(NamedTuple):
    """`$x := a | b`: `declared` are the variables, new ones unless `assigns`."""

    declared: tuple[str, ...]
    assigns: bool
    commands: tuple[Command, ...]
    at: int


class Text(NamedTuple):
    """What stands outside of `{{ }}`."""

    text: str


class Action(NamedTuple):
    """A pipeline whose value is printed."""

    pipe: Pipe


class Branch(NamedTuple):
    """`if`, `with` or `range`, and what is done otherwise."""

    word: str
    pipe: Pipe
    body: tuple["Node", ...]
    otherwise: tuple["Node", ...]


class Leave(NamedTuple):
    """`break` or `continue`."""

    word: str
    at: int


class Call(NamedTuple):
    """`template "name" pipeline`: another template, with the pipeline's value as its dot."""

    name: str
    pipe: Pipe | None
    at: int


Node = Text | Action | Branch | Leave | Call


class Template(NamedTuple):
    """A whole template: its text, what it does, and the templates that it defines."""

    text: str
    body: tuple[Node, ...]
    defined: dict[str, tuple[Node, ...]]
