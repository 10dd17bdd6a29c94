"""Arguments of calls and installs: Candid text with placeholders, or plain bytes.

Rule module. Not in the spec: placeholders are ours.

| placeholder       | stands for                                                                |
|-------------------|---------------------------------------------------------------------------|
| `{i}`             | number of the call in its phase, from 0; in `init`: number of the copy    |
| `{round}`         | round of the phase in which the call is submitted, from 0                 |
| `{caller}`        | principal of the calling identity                                         |
| `{target}`        | principal of the called canister                                          |
| `{canister:NAME}` | principal of a canister; NAME of copies: copy `i` modulo their count      |
| `{identity:NAME}` | principal of an identity; NAME of numbered ones: number `i` modulo count  |
| `{identity:NAME+K}` | the same, K further on (copies too)                                     |
| `{rand:N}`        | number from 0 below N, decided by the seed, the phase, the call and the place in the text |

A principal is written as the Candid value `principal "..."`, and as its bare text inside quotes, so that
`service "{canister:ledger}"` works. `variant {i}` would be replaced too: write `variant { i }`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ic_types.candid.text import encode_text
from ic_types.candid.types import Type
from ic_types.errors import ConfigError
from ic_types.principal import Principal

_PLACE = re.compile(r"\{(i|round|caller|target|canister:[^{}\s]*|identity:[^{}\s]*|rand:[^{}\s]*)\}")
_PIECE = re.compile(r'"(?:\\.|[^"\\])*"|' + _PLACE.pattern)
_GROUP = re.compile(r"(.+)\*([0-9]+)\+([0-9]+)\Z")
_PER_CALL = ("{i}", "{round}", "{caller}", "{target}", "{rand:", "*")


@dataclass(frozen=True, slots=True)
class Names:
    """How the principals of the running network are found; both raise KeyError for a name that isn't there."""

    canister: Callable[[str], Principal]
    identity: Callable[[str], Principal]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlace:
    """Which call an argument is for."""

    phase: str = ""
    seed: int = 0
    number: int = 0
    """Of the call in its phase, or of the copy in an install."""
    round: int = 0
    caller: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """An argument as the topology gives it."""

    text: str = "()"
    raw: bytes | None = None
    """The bytes themselves, when they were given in hexadecimal."""
    types: tuple[Type, ...] | None = None
    """From the service file; None when there is none and types are inferred."""

    @property
    def varies(self) -> bool:
        """Whether it may differ from call to call."""
        return self.raw is None and any(mark in self.text for mark in _PER_CALL)

    def encode(self, names: Names, place: CallPlace) -> bytes:
        """The bytes of the argument for one call.

        Raises: ConfigError when a placeholder names nothing; CandidError when the text isn't Candid of the method's type.
        """
        if self.raw is not None:
            return self.raw
        return _encoded(self.expand(names, place), self.types)

    def expand(self, names: Names, place: CallPlace) -> str:
        """The text with every placeholder replaced."""
        draw = 0

        def value(what: str, quoted: bool) -> str:
            nonlocal draw
            if what.startswith("rand:"):
                draw += 1
                return str(_random(what, place, draw))
            return _value(what, names, place, quoted)

        def piece(match: re.Match[str]) -> str:
            if match[1] is not None:
                return value(match[1], False)
            return _PLACE.sub(lambda inner: value(inner[1], True), match[0])

        return _PIECE.sub(piece, self.text)


@lru_cache(maxsize=4096)
def _encoded(text: str, types: tuple[Type, ...] | None) -> bytes:
    return encode_text(text, types)


def _value(what: str, names: Names, place: CallPlace, quoted: bool) -> str:
    if what == "i":
        return str(place.number)
    if what == "round":
        return str(place.round)
    kind, _, name = what.partition(":")
    if kind == "caller":
        kind, name = "identity", place.caller
    elif kind == "target":
        kind, name = "canister", place.target
    if not name:
        raise ConfigError(f"{{{what}}} has no meaning here")
    if group := _GROUP.match(name):
        name = f"{group[1]}-{(place.number + int(group[3] or 0)) % int(group[2])}"
    try:
        found = names.canister(name) if kind == "canister" else names.identity(name)
    except KeyError as error:
        raise ConfigError(f"{{{what}}}: {error.args[0] if error.args else f'there is no {kind} {name!r}'}") from None
    return found.to_text() if quoted else f'principal "{found}"'


def numbered(text: str, groups: Mapping[str, int]) -> str:
    """The text with the names of groups marked with their sizes, `{identity:trader*20+0}`; `groups` has `kind:NAME` as keys."""

    def _mark(match: re.Match[str]) -> str:
        name, _, shift = match[1].partition("+")
        size = groups.get(name)
        return f"{{{name}*{size}+{shift or 0}}}" if size and (not shift or shift.isdecimal()) else match[0]

    return _PLACE.sub(_mark, text)


def _random(what: str, place: CallPlace, draw: int) -> int:
    text = what.removeprefix("rand:").replace("_", "")
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ConfigError(f"{{{what}}}: expected a number above 0, such as {{rand:100}}")
    material = f"icsim argument|{place.seed}|{place.phase}|{place.number}|{draw}".encode()
    return int.from_bytes(hashlib.sha256(material).digest()[:16], "big") % int(text)
