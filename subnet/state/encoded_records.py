"""Canonical bytes of records that stay from round to round, so that a round encodes those that changed.

Rule module. Not in the spec: a cache for the state hash. A canister may have hundreds of open calls; a round touches few.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from ic_types import canonical
from ic_types.canonical import Encoded


class EncodedRecords:
    """The records of one dict, all of one dataclass whose fields hold values that never change themselves."""

    __slots__ = ("_known", "_values")

    def __init__(self, kind: type) -> None:
        self._values = attrgetter(*(field.name for field in dataclasses.fields(kind)))
        self._known: dict[Any, tuple[object, Encoded]] = {}

    def of(self, records: Mapping[Any, object]) -> dict[Any, Encoded]:
        """In place of each record its canonical bytes; made anew where a field differs from the last time."""
        known, values = self._known, self._values
        self._known = now = {}
        for key, record in records.items():
            fields, found = values(record), known.get(key)
            if found is None or found[0] != fields:
                found = fields, Encoded(canonical.encode(record))
            now[key] = found
        return {key: found[1] for key, found in now.items()}
