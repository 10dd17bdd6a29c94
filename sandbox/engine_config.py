"""The one place that configures wasmtime: what compiles an artefact must equal what loads it.

Plumbing. Features are those of the replica's engine; floats are deterministic by canonical NaNs. Optimisation changes speed,
never results or counts (the counter is code of the module). Memories are static reservations of address space behind which
guard pages lie: they never move, a wasm32 heap needs no bounds checks, and wasmtime maps them without reserving swap, so a
stable memory of hundreds of GiB can grow (measured: 470 GiB on a machine with 24).
"""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import version

import wasmtime
from wasmtime import _ffi as ffi

MIB, GIB = 1 << 20, 1 << 30
MEMORY_RESERVATION = 512 * GIB
"""Address space of each linear memory, at least the largest stable memory that a topology may ask for."""
MAX_WASM_STACK = 5 * MIB
"""As the replica's; the main stack of 8 MiB holds it, the interpreter below and host functions above."""
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


def _config(multi_memory: bool) -> wasmtime.Config:
    config = wasmtime.Config()
    config.cranelift_opt_level = "speed"
    config.parallel_compilation = False
    config.wasm_bulk_memory = True
    config.wasm_reference_types = True
    config.wasm_multi_value = True
    config.wasm_simd = True
    config.wasm_memory64 = True
    config.wasm_multi_memory = multi_memory
    for feature in _OFF:
        setattr(config, feature, False)
    raw = config.ptr()
    ffi.wasmtime_config_cranelift_nan_canonicalization_set(raw, True)
    # The engine refuses a wasm stack larger than the async one, although nothing here is async.
    ffi.wasmtime_config_async_stack_size_set(raw, MAX_WASM_STACK + MIB)
    config.max_wasm_stack = MAX_WASM_STACK
    ffi.wasmtime_config_memory_reservation_set(raw, MEMORY_RESERVATION)
    ffi.wasmtime_config_memory_may_move_set(raw, False)
    ffi.wasmtime_config_memory_init_cow_set(raw, False)
    return config
