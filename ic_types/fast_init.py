"""Frozen records at a third of the price: an `__init__` that assigns its fields plainly.

Plumbing. Not in the spec. A frozen dataclass with slots sets each field through `object.__setattr__`, which is most of what it
costs to make one, and every message makes a dozen. Here the new object belongs, while it is filled, to a twin class with the
same slots that isn't frozen; nobody else has seen it by then.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")
_UNSET: Any = object()


def fast_init(cls: type[T]) -> type[T]:
    """Class decorator for a frozen dataclass with slots; others, and those with a `__post_init__`, stay as they are."""
    assert dataclasses.is_dataclass(cls), f"{cls} is not a dataclass"
    fields = dataclasses.fields(cls)
    frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    plain = cls.__bases__ == (object,) and not hasattr(cls, "__post_init__") and all(field.init for field in fields)
    if not (fields and frozen and plain and "__slots__" in cls.__dict__):
        return cls
    scope: dict[str, Any] = {
        "twin": type(cls.__name__, (), {"__slots__": tuple(field.name for field in fields)}),
        "own": cls,
        "change": object.__setattr__,
        "UNSET": _UNSET,
    }
    positional = [_parameter(field, scope) for field in fields if not field.kw_only]
    named = [_parameter(field, scope) for field in fields if field.kw_only]
    parameters = ", ".join(["self", *positional, *(["*"] if named else []), *named])
    lines = [f"def __init__({parameters}):", '    change(self, "__class__", twin)']
    lines += [f"    self.{field.name} = {_value(field)}" for field in fields]
    exec("\n".join([*lines, "    self.__class__ = own"]), scope)
    made = scope["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    made.__module__ = cls.__module__
    cls.__init__ = made  # type: ignore[method-assign]
    return cls


def fill_in(record: object, name: str, value: object) -> None:
    """Set a field of a frozen record that was just made and that nobody else has seen."""
    object.__setattr__(record, name, value)


def _parameter(field: dataclasses.Field[Any], scope: dict[str, Any]) -> str:
    if field.default is not dataclasses.MISSING:
        scope[f"default_{field.name}"] = field.default
        return f"{field.name}=default_{field.name}"
    if field.default_factory is not dataclasses.MISSING:
        scope[f"make_{field.name}"] = field.default_factory
        return f"{field.name}=UNSET"
    return field.name


def _value(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is dataclasses.MISSING:
        return field.name
    return f"make_{field.name}() if {field.name} is UNSET else {field.name}"
