"""The one codec between processes: frozen dataclasses as versioned msgpack.

Plumbing. Each message is `[PROTOCOL_VERSION, type name, field, field, ...]`. Decoding trusts nothing:
a wrong version, an unknown type, a missing field or a value of the wrong type is a WireError. Encoders
and decoders are generated once per class as straight-line Python, since every message pays for them.

Field types understood: int (any size), bytes and its subclasses, str, bool, float, None, NewTypes of
these, Enums, tuple[X, ...], tuple[A, B], dict[K, V], X | None, dataclasses and unions of dataclasses.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

import msgpack

from ic_types.errors import WireError

PROTOCOL_VERSION = 1
_LIMIT = 1 << 64

T = TypeVar("T")
Coder = Callable[[Any], Any]

_by_name: dict[str, type] = {}
_encoders: dict[type, Coder] = {}
_decoders: dict[type, Coder] = {}
_needed: dict[type, None] = {}
"""Classes that occur in others."""


def message(cls: type[T]) -> type[T]:
    """Class decorator: this frozen dataclass may travel between processes."""
    assert dataclasses.is_dataclass(cls), f"{cls} is not a dataclass"
    known = _by_name.setdefault(cls.__name__, cls)
    assert known.__module__ == cls.__module__, f"two wire messages are called {cls.__name__}"
    _by_name[cls.__name__] = cls
    return cls


def encode(value: object) -> bytes:
    """The bytes of a message whose class is marked with `message`."""
    cls = type(value)
    body = (_encoders.get(cls) or _compile_encoder(cls))(value)
    return msgpack.packb([PROTOCOL_VERSION, cls.__name__, body], use_bin_type=True)  # type: ignore[no-any-return]


def decode(raw: bytes | memoryview, *allowed: type) -> Any:
    """The message in these bytes, which must be of one of the allowed classes (any marked one if none given).

    Raises: WireError when the bytes are anything else.
    """
    try:
        version, name, body = msgpack.unpackb(raw, raw=False, use_list=True, strict_map_key=False)
    except Exception as error:  # msgpack raises a dozen unrelated classes
        raise WireError(f"not a message: {error}") from error
    if version != PROTOCOL_VERSION:
        raise WireError(f"message of protocol version {version!r}, this process speaks {PROTOCOL_VERSION}")
    cls = _by_name.get(name) if isinstance(name, str) else None
    if cls is None or (allowed and cls not in allowed):
        raise WireError(f"message {name!r} is not expected here")
    return from_plain(cls, body)


def to_plain(value: object) -> Any:
    """The msgpack-ready form of a dataclass (without version and name)."""
    cls = type(value)
    return (_encoders.get(cls) or _compile_encoder(cls))(value)


def from_plain(cls: type[T], body: Any) -> T:
    """The dataclass in a plain form.

    Raises: WireError when the form doesn't fit the class.
    """
    decoder = _decoders.get(cls) or _compile_decoder(cls)
    try:
        return decoder(body)  # type: ignore[no-any-return]
    except WireError:
        raise
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise WireError(f"malformed {cls.__name__}: {error}") from error


def prepare() -> None:
    """Generate the code for all messages known now: a process that forks pays once for all of its children."""
    _needed.update(dict.fromkeys(_by_name.values()))
    while missing := [cls for cls in _needed if cls not in _encoders or cls not in _decoders]:
        for cls in missing:
            _compile_encoder(cls)
            _compile_decoder(cls)


class _Names:
    """Objects that generated code refers to by name."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"_int": _check_int, "_as": _check_type, "_big": _big}

    def add(self, value: object) -> str:
        name = f"_o{len(self.scope)}"
        self.scope[name] = value
        return name


def _big(value: int) -> int | bytes:
    return value if -(1 << 63) <= value < _LIMIT else value.to_bytes(17, "big", signed=True)


def _check_int(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is bytes and len(value) == 17:
        return int.from_bytes(value, "big", signed=True)
    raise WireError(f"expected an integer, got {type(value).__name__}")


def _check_type(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise WireError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _strip(kind: Any) -> Any:
    while hasattr(kind, "__supertype__"):
        kind = kind.__supertype__
    return kind


def _members(kind: Any) -> tuple[Any, ...] | None:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return typing.get_args(kind)
    return None


def _enc(kind: Any, var: str, names: _Names, depth: int = 0) -> str:
    """A Python expression that encodes variable `var` of this type."""
    kind = _strip(kind)
    if kind is int:
        return f"({var} if -9223372036854775808 <= {var} < 18446744073709551616 else _big({var}))"
    if kind in (str, bool, float, type(None)):
        return var
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"{var}.value"
    if isinstance(kind, type) and issubclass(kind, bytes):
        return var if kind is bytes else f"bytes({var})"
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return f"{names.add(_lazy_encoder(kind))}({var})"
    item = f"i{depth}"
    if members := _members(kind):
        rest = [m for m in members if m is not type(None)]
        inner = _enc(rest[0], var, names, depth) if len(rest) == 1 else f"{names.add(_union_encode)}({var})"
        return f"(None if {var} is None else {inner})" if len(rest) < len(members) else inner
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return f"[{_enc(args[0], item, names, depth + 1)} for {item} in {var}]"
    if origin is tuple:
        parts = ", ".join(_enc(a, f"{var}[{k}]", names, depth) for k, a in enumerate(args))
        return f"[{parts}]"
    if origin is dict:
        key, value = f"k{depth}", f"v{depth}"
        pair = f"[{_enc(args[0], key, names, depth + 1)}, {_enc(args[1], value, names, depth + 1)}]"
        return f"[{pair} for {key}, {value} in {var}.items()]"
    raise TypeError(f"the wire codec has no form for {kind!r}")


def _dec(kind: Any, var: str, names: _Names, depth: int = 0) -> str:
    """A Python expression that checks and decodes variable `var` into this type."""
    kind = _strip(kind)
    if kind is int:
        return f"({var} if type({var}) is int else _int({var}))"
    if kind in (str, bool, float, bytes, type(None)):
        return f"({var} if type({var}) is {kind.__name__} else _as({var}, {names.add(kind)}))".replace("NoneType", "type(None)")
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"{names.add(kind)}({var})"
    if isinstance(kind, type) and issubclass(kind, bytes):
        return f"{names.add(kind)}(_as({var}, bytes))"
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return f"{names.add(_lazy_decoder(kind))}({var})"
    item = f"i{depth}"
    if members := _members(kind):
        rest = [m for m in members if m is not type(None)]
        if len(rest) == 1:
            inner = _dec(rest[0], var, names, depth)
        else:
            table = {m.__name__: _lazy_decoder(m) for m in rest}
            inner = f"{names.add(table)}[{var}[0]]({var}[1])"
        return f"(None if {var} is None else {inner})" if len(rest) < len(members) else inner
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return f"tuple([{_dec(args[0], item, names, depth + 1)} for {item} in _as({var}, list)])"
    if origin is tuple:
        parts = "".join(_dec(a, f"{var}[{k}]", names, depth) + ", " for k, a in enumerate(args))
        return f"(({parts}) if len(_as({var}, list)) == {len(args)} else _as(None, list))"
    if origin is dict:
        key, value = f"k{depth}", f"v{depth}"
        return (
            f"{{{_dec(args[0], key, names, depth + 1)}: {_dec(args[1], value, names, depth + 1)}"
            f" for {key}, {value} in _as({var}, list)}}"
        )
    raise TypeError(f"the wire codec has no form for {kind!r}")


def _union_encode(value: Any) -> list[Any]:
    return [type(value).__name__, to_plain(value)]


def _lazy_encoder(cls: type) -> Coder:
    _needed[cls] = None
    return lambda value: (_encoders.get(cls) or _compile_encoder(cls))(value)


def _lazy_decoder(cls: type) -> Coder:
    _needed[cls] = None
    return lambda body: (_decoders.get(cls) or _compile_decoder(cls))(body)


def _fields(cls: type) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f.name, hints[f.name]) for f in dataclasses.fields(cls)]


def _compile_encoder(cls: type) -> Coder:
    names = _Names()
    parts = ", ".join(_enc(kind, f"o.{name}", names) for name, kind in _fields(cls))
    encoder: Coder = eval(f"lambda o: [{parts}]", names.scope)
    _encoders[cls] = encoder
    return encoder


def _compile_decoder(cls: type) -> Coder:
    names, fields = _Names(), _fields(cls)
    made = names.add(cls)
    parts = ", ".join(f"{name}={_dec(kind, f'b[{k}]', names)}" for k, (name, kind) in enumerate(fields))
    source = f"lambda b: {made}({parts}) if type(b) is list and len(b) == {len(fields)} else _as(None, list)"
    decoder: Coder = eval(source, names.scope)
    _decoders[cls] = decoder
    return decoder
