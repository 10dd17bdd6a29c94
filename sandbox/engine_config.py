"""The one place that configures wasmtime: what compiles an artefact must equal what loads it.

Plumbing. Features are those of the replica's engine; floats are deterministic by canonical NaNs. Optimisation changes speed,
never results or counts (the counter is code of the module). Memories are static reservations of address space behind which
guard pages lie: they never move, a wasm32 heap needs no bounds checks, and wasmtime maps them without reserving swap, so a
stable memory of hundreds of GiB can grow (measured: 470 GiB on a machine with 24).
"""

from __future__ import annotations

import hashlib
import platform
from ctypes import c_bool, c_uint64, c_void_p, cast
from functools import cache
from importlib.metadata import version
from typing import Any

import wasmtime

from sandbox.engine_types import direct

MIB, GIB = 1 << 20, 1 << 30
MEMORY_RESERVATION = 512 * GIB
"""Address space of each linear memory, at least the largest stable memory that a topology may ask for."""
MAX_WASM_STACK = 5 * MIB
"""As the replica's; the main stack of 8 MiB holds it, the interpreter below and host functions above."""
_OPTIMISE_FOR_SPEED = 1
_ON = ("wasm_bulk_memory", "wasm_reference_types", "wasm_multi_value", "wasm_simd", "wasm_memory64")
_OFF = (
    "wasm_threads",
    "wasm_tail_call",
    "wasm_relaxed_simd",
    "wasm_function_references",
    "wasm_gc",
    "wasm_exceptions",
    "wasm_wide_arithmetic",
    "wasm_custom_page_sizes",
    "wasm_stack_switching",
)


def make_engine() -> wasmtime.Engine:
    """A new engine for instrumented modules. Never call it in a process that will fork."""
    return wasmtime.Engine(_config(multi_memory=True))


def make_validation_engine() -> wasmtime.Engine:
    """A new engine that accepts exactly the features a submitted module may use."""
    return wasmtime.Engine(_config(multi_memory=False))


@cache
def fingerprint() -> str:
    """Names everything that an artefact depends on besides the module: engine version, settings, processor."""
    with open("/proc/cpuinfo") as info:
        flags = next((line for line in info if line.startswith(("flags", "Features"))), "")
    parts = (version("wasmtime"), repr(_OFF), str(MEMORY_RESERVATION), str(MAX_WASM_STACK), platform.machine(), flags)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _settings() -> list[tuple[Any, int]]:
    """(setter, value); made once, in the parent of all sandboxes."""
    flags = dict.fromkeys(_ON, True) | dict.fromkeys(_OFF, False)
    flags |= {"parallel_compilation": False, "cranelift_nan_canonicalization": True}
    flags |= {"memory_may_move": False, "memory_init_cow": False}
    numbers = {
        "cranelift_opt_level": _OPTIMISE_FOR_SPEED,
        # The engine refuses a wasm stack larger than the async one, although nothing here is async.
        "async_stack_size": MAX_WASM_STACK + MIB,
        "max_wasm_stack": MAX_WASM_STACK,
        "memory_reservation": MEMORY_RESERVATION,
    }
    made = [(_setter(name, c_bool), value) for name, value in flags.items()]
    return made + [(_setter(name, c_uint64), number) for name, number in numbers.items()]


def _setter(name: str, kind: Any) -> Any:
    return direct(f"wasmtime_config_{name}_set", None, c_void_p, kind)


_SETTINGS = _settings()
_set_multi_memory = _setter("wasm_multi_memory", c_bool)


def _config(multi_memory: bool) -> wasmtime.Config:
    config = wasmtime.Config()
    raw = cast(config.ptr(), c_void_p)
    for put, value in _SETTINGS:
        put(raw, value)
    _set_multi_memory(raw, multi_memory)
    return config
