"""Reading past Candid values that nobody expects, within a quota.

Rule module. Spec: Candid specification, "Deserialisation", "Note on implementation". The cost of a skipped value is that of the
canisters' own decoder, unit by unit, so that a message that the real management canister refuses for its surplus is
refused here too:

| value              | cost                                                                                     |
|--------------------|------------------------------------------------------------------------------------------|
| null, bool, number | 1, 1, its bytes                                                                          |
| text, blob         | 1 + bytes                                                                                |
| principal          | 30                                                                                       |
| opt                | 1 + content                                                                              |
| vec                | 1 + 3 per element + elements                                                             |
| record             | 5 + 9 per field + fields                                                                 |
| variant            | 6 + length of the case's label, such as `97,id,unit`, + content                          |
| func, service      | entries of the type table + 30, for a func also 2 + bytes of its name                    |
| table reference    | 2 more, but for the elements of a vec                                                    |
"""

from __future__ import annotations

from ic_types.candid import types as t
from ic_types.candid.byte_reader import ByteReader
from ic_types.errors import CandidError

MAX_DEPTH = 256
"""Nesting of values, both ways; deeper data are refused unless the reader asks for more."""
UNLIMITED = 1 << 62
FREE_VALUES = 200_000
VALUES_PER_BYTE = 4
MANAGEMENT_VALUES = 20_000
"""Many times what any argument of the management canister holds, a blob being one value, and read in little time."""
_PRINCIPAL_COST = 30


class SkippingReader(ByteReader):
    """Reads past values of any type; bounded by nesting, by the number of values and by the quota for skipped ones."""

    __slots__ = ("max_depth", "quota", "table_size", "values_left")

    def __init__(
        self, raw: bytes, position: int, table_size: int, quota: int | None, max_depth: int, max_values: int | None
    ) -> None:
        super().__init__(raw, position)
        self.table_size = table_size
        self.max_depth = max_depth
        self.quota = UNLIMITED if quota is None else quota
        self.values_left = FREE_VALUES + VALUES_PER_BYTE * len(raw) if max_values is None else max_values

    def charge(self, depth: int, values: int = 1) -> None:
        """Count values, those of no bytes too.

        Raises: CandidError when they are too many or nested too deeply.
        """
        if depth > self.max_depth:
            raise CandidError(f"byte {self.position}: values are nested deeper than {self.max_depth} levels")
        self.values_left -= values
        if self.values_left < 0:
            raise CandidError(f"byte {self.position}: the message describes far more values than are allowed")

    def skip(self, wire: t.Type, depth: int) -> None:
        """Read past the next value, which must be well-formed all the same."""
        if type(wire) is t.Rec:
            self._spend(2)
            wire = t.resolve(wire)
        self.charge(depth)
        match wire:
            case t.Prim():
                self._skip_prim(wire, 1)
            case t.Opt(inner):
                self._spend(1)
                if self.flag("an opt"):
                    self.skip(inner, depth + 1)
            case t.Vec(inner):
                self._skip_vec(t.resolve(inner), depth)
            case t.Record(fields):
                self._spend(5 + 9 * len(fields))
                for field in fields:
                    self.skip(field.type, depth + 1)
            case t.Variant():
                self._skip_variant(wire, depth)
            case t.Func():
                method = self.func_ref().method
                self._spend(self.table_size + _PRINCIPAL_COST + 2 + len(method.encode()))
            case t.Service():
                self.principal()
                self._spend(self.table_size + _PRINCIPAL_COST)
            case _:
                self._skip_future()

    def _spend(self, cost: int) -> None:
        self.quota -= cost
        if self.quota < 0:
            raise CandidError(f"byte {self.position}: Skipping cost exceeds the limit")

    def _skip_vec(self, inner: t.Type, depth: int) -> None:
        count = self.unsigned()
        if inner is t.nat8:
            self._spend(1 + count)
            self.take(count)
            return
        self._spend(1 + 3 * count)
        if type(inner) is t.Prim:
            self._skip_prim(inner, count)
            return
        for _ in range(count):
            self.skip(inner, depth + 1)

    def _skip_prim(self, kind: t.Prim, count: int) -> None:
        if kind.size and kind is not t.bool_:
            self._spend(count * kind.size)
            self.take(count * kind.size)
            return
        self.charge(0, count - 1)
        if kind is t.null or kind is t.reserved:
            self._spend(count)
            return
        for _ in range(count):
            self._skip_one(kind)

    def _skip_one(self, kind: t.Prim) -> None:
        if kind is t.nat or kind is t.int_:
            self._spend(self.pass_number())
        elif kind is t.text:
            self._spend(1 + len(self.text().encode()))
        elif kind is t.bool_:
            self.flag("a bool")
            self._spend(1)
        elif kind is t.principal:
            self.principal()
            self._spend(_PRINCIPAL_COST)
        else:
            raise no_value_of_empty(self.position)

    def _skip_variant(self, wire: t.Variant, depth: int) -> None:
        case = self.case(wire)
        accessor = "unit" if case.type is t.null else "newtype"
        self._spend(6 + len(f"{case.id},id,{accessor}"))
        self.skip(case.type, depth + 1)

    def _skip_future(self) -> None:
        size, references = self.unsigned(), self.unsigned()
        self._spend(1 + size)
        self.take(size)
        if references:
            raise CandidError(f"byte {self.position}: a future value with references, which a message can't carry")

    def case(self, wire: t.Variant) -> t.Field:
        """The case of a variant that the next number selects."""
        start = self.position
        number = self.unsigned()
        if number >= len(wire.fields):
            raise self.no_case(start, number, wire)
        return wire.fields[number]

    def no_case(self, start: int, number: int, wire: t.Variant) -> CandidError:
        """What a number gets that selects nothing."""
        return CandidError(f"byte {start}: case {number} of a variant with {len(wire.fields)} cases")


def no_value_of_empty(position: int) -> CandidError:
    """What a message that claims to hold a value of type empty gets."""
    return CandidError(f"byte {position}: a value of type empty can't exist")
