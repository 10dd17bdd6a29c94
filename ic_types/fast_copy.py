"""Shallow copies of records at a fraction of the price of `dataclasses.replace`.

Plumbing. Not in the spec. Every round copies what it changed for the queries that come after it; a copy assigns the fields one
by one, by code that is made once per class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def copier(cls: type[T]) -> Callable[[T], T]:
    """A function that copies records of this class, a dataclass that isn't frozen, field by field."""
    assert dataclasses.is_dataclass(cls), f"{cls} is not a dataclass"
    assert not cls.__dataclass_params__.frozen, f"{cls} is frozen: it needs no copies"  # type: ignore[attr-defined]
    scope: dict[str, Any] = {"new": cls.__new__, "own": cls}
    lines = ["def copy(one):", "    twin = new(own)"]
    lines += [f"    twin.{field.name} = one.{field.name}" for field in dataclasses.fields(cls)]
    exec("\n".join([*lines, "    return twin"]), scope)
    made: Callable[[T], T] = scope["copy"]
    return made
