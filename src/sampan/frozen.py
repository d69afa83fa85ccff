"""Frozen values: small classes that compare by their fields, as `dataclass(frozen=True, slots=True)` makes them.

dataclasses imports inspect (8 ms) and writes, compiles and executes each class's methods as text (0.7 ms each), which
compose's twenty classes would make a sixth of every command. Here all classes share their methods. That nobody changes
a value is for mypy to see (PEP 681), not for the interpreter.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_: object) -> object:
        """Be typing's, which only a type checker needs."""
        return lambda function: function


@dataclass_transform(frozen_default=True)
def frozen(cls: "type[T]") -> "type[T]":
    """Make a class with annotated fields a value: slots, `__init__`, `==`, hash, repr and class patterns.

    Arguments go by place or by name, as with a dataclass. Methods may not use `super()`: the class is made anew.
    """
    names = tuple(cls.__annotations__)
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}

    def initialise(self: object, *given: object, **named: object) -> None:
        found = {**defaults, **dict(zip(names, given, strict=False)), **named}
        if len(found) != len(names) or len(given) > len(names):
            raise TypeError(f"{cls.__name__} takes {', '.join(names)}")
        for name in names:
            setattr(self, name, found[name])

    def fields(self: object) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in names)

    body = {key: what for key, what in cls.__dict__.items() if key not in {*names, "__dict__", "__weakref__"}}
    body |= {
        "__slots__": names,
        "__match_args__": names,
        "__init__": initialise,
        "__eq__": lambda self, other: type(self) is type(other) and fields(self) == fields(other),
        "__hash__": lambda self: hash(fields(self)),
        "__repr__": lambda self: f"{cls.__name__}{fields(self)!r}",
    }
    return type(cls.__name__, cls.__bases__, body)


def replace(item: "T", **changes: object) -> "T":
    """Return a value with other fields; raises TypeError for one that it has not."""
    names: tuple[str, ...] = getattr(type(item), "__slots__", ())
    told = {name: getattr(item, name) for name in names}
    return type(item)(**{**told, **changes})
