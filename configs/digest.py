"""A fingerprint of what a topology resolves to: equal digests, equal networks.

Rule module. Not in it: paths and file names, so that the same network has the same digest on every machine. Modules
enter by their hashes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from configs.argument import Argument
from configs.topology import Topology
from configs.wasm_info import WasmInfo
from ic_types.candid.did import DidFile
from ic_types.candid.types import resolve
from ic_types.principal import Principal

_Update: TypeAlias = Callable[[bytes], None]


def digest(topology: Topology) -> str:
    """SHA-256 over all records, as hexadecimal."""
    hasher = hashlib.sha256(b"icsim topology 1")
    _feed(hasher.update, topology)
    return hasher.hexdigest()


def _feed(update: _Update, value: object) -> None:
    """Every value with its kind and length, so that no two records look alike."""
    match value:
        case WasmInfo():
            _bytes(update, b"w", value.sha256)
        case Path():
            update(b"p")
        case DidFile():
            named = sorted(f"{name} = {resolve(kind)}" for name, kind in value.types.items())
            _bytes(update, b"d", "; ".join([*named, str(value.service), *map(str, value.init)]).encode())
        case Argument():
            _bytes(update, b"a", f"{value.text} : {', '.join(map(str, value.types or ('?',)))}".encode())
            _feed(update, value.raw)
        case None:
            update(b"n")
        case bool():
            update(b"t" if value else b"f")
        case int():
            _bytes(update, b"i", str(value).encode())
        case str():
            _bytes(update, b"s", value.encode())
        case bytes():
            _bytes(update, b"r" if isinstance(value, Principal) else b"b", bytes(value))
        case Enum():
            _bytes(update, b"e", str(value.value).encode())
        case tuple():
            _bytes(update, b"l", str(len(value)).encode())
            for item in value:
                _feed(update, item)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = dataclasses.fields(value)
            _bytes(update, b"c", f"{type(value).__name__} {len(fields)}".encode())
            for field in fields:
                _bytes(update, b"k", field.name.encode())
                _feed(update, getattr(value, field.name))
        case _:
            raise TypeError(f"a topology holds no {type(value).__name__}")


def _bytes(update: _Update, kind: bytes, raw: bytes) -> None:
    update(kind + len(raw).to_bytes(8, "big"))
    update(raw)
