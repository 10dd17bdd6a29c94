"""How a canister is spoken to: its service as far as it is known, and values or Candid text at its types.

Rule module. Where no service is known, types are inferred from what is given and answers are shown at the types they declare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from configs.argument import Argument, CallPlace, Names
from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.did import DidFile, parse_did
from ic_types.candid.encoder import encode
from ic_types.candid.skipping import MAX_DEPTH
from ic_types.candid.text import to_text
from ic_types.candid.values import FuncRef, Some
from ic_types.errors import BadInput, CandidError
from ic_types.principal import Principal


class Interface:
    """A canister's service, or None when it is unknown."""

    def __init__(self, did: DidFile | None, name: str) -> None:
        self._did = did if did is not None and did.service is not None else None
        self.name = name

    @classmethod
    def parse(cls, text: str, name: str) -> Interface:
        """From the text of a service file; a broken or empty one counts as unknown, since it comes from the module."""
        try:
            return cls(parse_did(text, f"service file of {name}") if text else None, name)
        except CandidError:
            return cls(None, name)

    @property
    def is_known(self) -> bool:
        """Whether there is a service file."""
        return self._did is not None

    def methods(self) -> dict[str, str]:
        """Signatures by name, as in the service file."""
        if self._did is None or self._did.service is None:
            return {}
        return {name: str(self._did.method(name).signature()) for name, _ in self._did.service.methods}

    def function(self, method: str) -> t.Func | None:
        """The type of a method; None when the service is unknown.

        Raises: BadInput naming the methods there are.
        """
        if self._did is None:
            return None
        try:
            return self._did.method(method)
        except CandidError:
            listed = ", ".join(self.methods()) or "none"
            raise BadInput(f"canister {self.name} has no method {method!r} in its service; its methods are: {listed}") from None

    def encode_text(self, method: str, text: str, names: Names, place: CallPlace) -> bytes:
        """An argument given as Candid text, in which `{identity:NAME}` and `{canister:NAME}` stand for principals.

        Raises: BadInput when it doesn't fit the method.
        """
        function = self.function(method)
        stripped = text.strip()
        inner = stripped if stripped.startswith("(") else f"({stripped})"
        return Argument(text=inner, types=None if function is None else function.args).encode(names, place)

    def encode_values(self, method: str, values: Sequence[Any]) -> bytes:
        """An argument given as Python values.

        Raises: CandidError when they don't fit the method.
        """
        function = self.function(method)
        return _encode_values(f"{self.name}.{method}", None if function is None else function.args, values)

    def encode_init(self, values: Sequence[Any], text: str | None, names: Names) -> bytes:
        """The argument of an install, as values or as Candid text; no bytes for nothing where no types are known.

        Raises: CandidError when it doesn't fit.
        """
        types = None if self._did is None else self._did.init
        if text is not None:
            return Argument(text=text, types=types).encode(names, CallPlace())
        if not values and not types:
            return b"" if types is None else encode([], [])
        return _encode_values(f"install of {self.name}", types, values)

    def answer_text(self, method: str, raw: bytes, *, max_depth: int = MAX_DEPTH) -> str:
        """An answer as Candid text; as hexadecimal when it is no Candid."""
        for types in (self._results(method), None):
            try:
                return to_text(raw, types, max_depth=max_depth)
            except CandidError:
                continue
        return f"0x{raw.hex()}"

    def answer_value(self, method: str, raw: bytes) -> Any:
        """An answer as Python values: None, the value, or a tuple of several; bytes when it is no Candid.

        Raises: CandidError when the answer doesn't fit the service file.
        """
        types = self._results(method)
        if types is None and raw[:4] != b"DIDL":
            return raw
        values = decode(raw, types)
        return None if not values else values[0] if len(values) == 1 else tuple(values)

    def _results(self, method: str) -> list[t.Type] | None:
        if self._did is None or method not in self.methods():
            return None
        return list(self._did.method(method).results)


def _encode_values(what: str, expected: Sequence[t.Type] | None, values: Sequence[Any]) -> bytes:
    types = [infer(value) for value in values] if expected is None else list(expected)
    given = list(values)
    while len(given) < len(types) and t.nullable(types[len(given)]):
        given.append(None)
    if len(given) != len(types):
        shown = ", ".join(map(str, types))
        raise CandidError(f"{what} takes ({shown}): {len(types)} values, not {len(values)}")
    try:
        return encode(types, given)
    except CandidError as error:
        raise CandidError(f"{what}: {error}") from None


def infer(value: Any) -> t.Type:
    """The Candid type that a Python value has by itself.

    Raises: CandidError when it has none, or several.
    """
    match value:
        case None:
            return t.null
        case bool():
            return t.bool_
        case int():
            return t.nat if value >= 0 else t.int_
        case float():
            return t.float64
        case str():
            return t.text
        case Principal():
            return t.principal
        case bytes() | bytearray():
            return t.blob
        case Some():
            return t.opt(infer(value.value))
        case FuncRef():
            return t.func()
        case dict():
            return t.record({name: infer(item) for name, item in value.items()})
        case tuple():
            return t.tuple_(*map(infer, value))
        case list():
            kinds = [infer(item) for item in value]
            if any(str(kind) != str(kinds[0]) for kind in kinds):
                raise CandidError("the items of a list have different types; give the canister a service file")
            return t.vec(kinds[0] if kinds else t.empty)
    raise CandidError(f"a {type(value).__name__} has no Candid type")
