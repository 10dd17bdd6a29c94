"""The one codec between processes: frozen dataclasses as versioned msgpack.

Plumbing. Each message is `[PROTOCOL_VERSION, type name, field, field, ...]`. Decoding trusts nothing:
a wrong version, an unknown type, a missing field or a value of the wrong type is a WireError. Encoders
and decoders are generated once per class as straight-line Python, since every message pays for them; a frozen
dataclass is filled in before it becomes one, which is many times faster than calling it.

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
from ic_types.fast_init import fast_init

PROTOCOL_VERSION = 1
_LIMIT = 1 << 64
_KEPT_BYTES = 1 << 20

T = TypeVar("T")
Coder = Callable[[Any], Any]

_by_name: dict[str, type] = {}
_encoders: dict[type, Coder] = {}
_decoders: dict[type, Coder] = {}
_under_way: list[type] = []
"""Classes whose coders are being generated."""
_packer = msgpack.Packer(use_bin_type=True)


def message(cls: type[T]) -> type[T]:
    """Class decorator: this frozen dataclass may travel between processes."""
    assert dataclasses.is_dataclass(cls), f"{cls} is not a dataclass"
    known = _by_name.setdefault(cls.__name__, cls)
    assert known.__module__ == cls.__module__, f"two wire messages are called {cls.__name__}"
    _by_name[cls.__name__] = cls
    return fast_init(cls)


def encode(value: object) -> bytes:
    """The bytes of a message whose class is marked with `message`."""
    cls = type(value)
    body = (_encoders.get(cls) or _compile_encoder(cls))(value)
    raw: bytes = _packer.pack([PROTOCOL_VERSION, cls.__name__, body])
    if len(raw) > _KEPT_BYTES:
        _forget_buffer()
    return raw


def _forget_buffer() -> None:
    """The packer keeps the memory of its largest message: start over with a new one."""
    global _packer
    _packer = msgpack.Packer(use_bin_type=True)


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
    for cls in list(_by_name.values()):
        _encoder_of(cls)
        _decoder_of(cls)


class _Names:
    """Objects that generated code refers to by name."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"_int": _check_int, "_as": _check_type, "_big": _big, "_none": _check_empty}

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


def _check_empty(value: Any) -> tuple[()]:
    _check_type(value, list)
    return ()


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
        return f"{var}._value_"  # as `value`, without the detour over a property
    if isinstance(kind, type) and issubclass(kind, bytes):
        return var  # subclasses are packed as bytes
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return f"{names.add(_encoder_of(kind))}({var})"
    item = f"i{depth}"
    if members := _members(kind):
        rest = [m for m in members if m is not type(None)]
        inner = _enc(rest[0], var, names, depth) if len(rest) == 1 else f"{names.add(_union_encode)}({var})"
        return f"(None if {var} is None else {inner})" if len(rest) < len(members) else inner
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        one = _enc(args[0], item, names, depth + 1)
        return var if one == item else f"([{one} for {item} in {var}] if {var} else ())"
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
        return f"{names.add({member.value: member for member in kind})}[{var}]"
    if isinstance(kind, type) and issubclass(kind, bytes):
        return f"{names.add(kind)}({var} if type({var}) is bytes else _as({var}, bytes))"
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return f"{names.add(_decoder_of(kind))}({var})"
    item, listed = f"i{depth}", f"({var} if type({var}) is list else _as({var}, list))"
    if members := _members(kind):
        rest = [m for m in members if m is not type(None)]
        if len(rest) == 1:
            inner = _dec(rest[0], var, names, depth)
        else:
            table = {m.__name__: _decoder_of(m) for m in rest}
            inner = f"{names.add(table)}[{var}[0]]({var}[1])"
        return f"(None if {var} is None else {inner})" if len(rest) < len(members) else inner
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        empty = f"(() if type({var}) is list else _none({var}))"
        return f"(tuple([{_dec(args[0], item, names, depth + 1)} for {item} in {listed}]) if {var} else {empty})"
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


def _encoder_of(cls: type) -> Coder:
    if cls in _under_way:  # a class within itself
        return lambda value: _encoders[cls](value)
    return _encoders.get(cls) or _compile_encoder(cls)


def _decoder_of(cls: type) -> Coder:
    if cls in _under_way:
        return lambda body: _decoders[cls](body)
    return _decoders.get(cls) or _compile_decoder(cls)


def _fields(cls: type) -> list[tuple[str, Any]]:
    hints = typing.get_type_hints(cls)
    return [(f.name, hints[f.name]) for f in dataclasses.fields(cls)]


def _compile_encoder(cls: type) -> Coder:
    names = _Names()
    _under_way.append(cls)
    try:
        parts = ", ".join(_enc(kind, f"o.{name}", names) for name, kind in _fields(cls))
    finally:
        _under_way.pop()
    encoder: Coder = eval(f"lambda o: [{parts}]", names.scope)
    _encoders[cls] = encoder
    return encoder


def _compile_decoder(cls: type) -> Coder:
    names, fields = _Names(), _fields(cls)
    _under_way.append(cls)
    try:
        values = [(name, _dec(kind, f"b_{name}", names)) for name, kind in fields]
    finally:
        _under_way.pop()
    draft = _draft_of(cls)
    lines = ["def decode(b):", f" if type(b) is not list or len(b) != {len(fields)}: _as(None, list)"]
    if fields:
        lines.append(f" {''.join(f'b_{name}, ' for name, _ in fields)}= b")
    if draft is None:
        lines.append(f" return {names.add(cls)}({', '.join(f'{name}={value}' for name, value in values)})")
    else:
        lines += [f" o = {names.add(draft)}()", *(f" o.{name} = {value}" for name, value in values)]
        lines += [f" o.__class__ = {names.add(cls)}", " return o"]
    exec("\n".join(lines), names.scope)
    decoder: Coder = names.scope["decode"]
    _decoders[cls] = decoder
    return decoder


def _draft_of(cls: type) -> type | None:
    """A class of the same layout whose fields can be set; None where calling `cls` does more than setting fields."""
    fields = dataclasses.fields(cls)
    slots = tuple(f.name for f in fields)
    if cls.__bases__ != (object,) or cls.__dict__.get("__slots__") != slots or hasattr(cls, "__post_init__"):
        return None
    return type(cls.__name__, (), {"__slots__": slots}) if all(f.init for f in fields) else None
