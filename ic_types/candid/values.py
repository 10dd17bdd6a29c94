"""What Candid values look like in Python.

Rule module. Not in the spec: the mapping is ours.

| Candid                | decoded as                              | also accepted when encoding |
|-----------------------|-----------------------------------------|------------------------------|
| null, reserved        | None                                    | anything, for reserved       |
| bool, text            | bool, str                               |                              |
| nat*, int*            | int                                     |                              |
| float32, float64      | float                                   | int                          |
| principal, service    | Principal                               | bytes, canonical text        |
| func                  | FuncRef                                 |                              |
| opt T                 | None or value; Some(value) where T has null | Some(value) anywhere      |
| vec T                 | list                                    | tuple                        |
| vec nat8 (blob)       | bytes                                   | bytearray, list of int       |
| record                | dict from field name (`_123_` when only the number is known) | missing nullable fields |
| record { A; B }       | tuple, when the type's fields are the unnamed 0, 1, ... | list, dict   |
| variant               | dict of one item: {case: value}         | the case's name alone, when it holds null |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from ic_types.principal import Principal

Value: TypeAlias = Any
"""One of the forms of the table above."""


@dataclass(frozen=True, slots=True)
class Some:
    """A present optional value; needed only where the content may itself be null (`opt opt nat`)."""

    value: Value


@dataclass(frozen=True, slots=True)
class FuncRef:
    """A reference to a canister's method."""

    canister: Principal
    method: str
