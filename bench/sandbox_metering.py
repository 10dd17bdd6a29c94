"""Part of the sandbox benchmark: metered against unmetered Wasm, in turns, by CPU time.

Unmetered is the module as it was compiled, with the sandbox's engine settings and again with wasmtime's own: the difference
between these two is what deterministic floats and reserved memories cost. Host functions are stubs in all three.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from typing import Any

import wasmtime
from wasmtime import Func, FuncType, Linker, Module, Store, Val

from bench.report import Figure
from bench.sandbox_kit import CANISTERS, emit, median
from configs.limits import SubnetLimits
from sandbox.engine_config import make_engine
from sandbox.wasm.instrumentation import COUNTER
from sandbox.wasm.prepare import prepare

REPEATS = 9
AIM = "<= 1.3"
CANDID_NOTHING = b"DIDL\0\0"
KERNELS = {
    "SHA-256": "sha256.wasm",
    "sorting": "sorting.wasm",
    "matrix product": "matrix.wasm",
    "Motoko with garbage collection": "garbage.wasm",
}


class Program:
    """An instance of a module whose imports do next to nothing."""

    def __init__(self, engine: wasmtime.Engine, code: bytes, *, metered: bool) -> None:
        module, linker = Module(engine, code), Linker(engine)
        self.store = Store(engine)
        for wanted in module.imports:
            kind = wanted.type
            assert isinstance(kind, FuncType)
            stub = Func(self.store, kind, self._stub(wanted.name or "", len(kind.results)), access_caller=False)
            linker.define(self.store, wanted.module, wanted.name or "", stub)
        self.exports = linker.instantiate(self.store, module).exports(self.store)
        self.counter = self.exports[COUNTER] if metered else None
        self.memory = next((m for m in self.exports.values() if isinstance(m, wasmtime.Memory)), None)
        for name in ("canister_start", "canister_init"):
            if self.exports.get(name) is not None:
                self.run(name)

    def _stub(self, name: str, results: int) -> Callable[..., Any]:
        def trapped(*_: int) -> None:
            raise RuntimeError(f"the module called {name}")

        def argument(dst: int, offset: int, size: int) -> None:
            assert self.memory is not None
            base = ctypes.addressof(self.memory.data_ptr(self.store).contents)
            ctypes.memmove(base + dst, CANDID_NOTHING[offset : offset + size], size)

        known: dict[str, Callable[..., Any]] = {
            "msg_arg_data_size": lambda: len(CANDID_NOTHING),
            "msg_arg_data_copy": argument,
            "try_grow_wasm_memory": lambda granted, _extra: granted,
            "trap": trapped,
            "internal_trap": trapped,
            "out_of_instructions": trapped,
        }
        return known.get(name) or ((lambda *_: 0) if results else (lambda *_: None))

    def run(self, name: str) -> float:
        """CPU seconds of one call."""
        if self.counter is not None:
            self.counter.set_value(self.store, Val.i64(1 << 62))
        function = self.exports[name]
        began = time.thread_time()
        function(self.store)
        return time.thread_time() - began


def own_settings() -> wasmtime.Engine:
    """wasmtime's default engine, with 64-bit memories."""
    config = wasmtime.Config()
    config.wasm_memory64 = True
    return wasmtime.Engine(config)


def measure(wasm: bytes) -> tuple[float, float, float]:
    """CPU seconds: metered, unmetered, unmetered with wasmtime's own settings."""
    programs = (
        Program(make_engine(), prepare(wasm, SubnetLimits()).code, metered=True),
        Program(make_engine(), wasm, metered=False),
        Program(own_settings(), wasm, metered=False),
    )
    found: list[list[float]] = [[], [], []]
    for repeat in range(REPEATS + 1):
        for times, program in zip(found, programs, strict=True):
            seconds = program.run("canister_update run")
            if repeat:
                times.append(seconds)
    metered, plain, default = found
    typical = median(metered)
    pairs = (median([a / b for a, b in zip(metered, other, strict=True)]) for other in (plain, default))
    ratio_plain, ratio_default = pairs
    return typical, typical / ratio_plain, typical / ratio_default


def figures() -> list[Figure]:
    """Every kernel, the means, the tightest loop."""
    made, ratios = [], []
    tightest = bytes(wasmtime.wat2wasm((CANISTERS / "tightest.wat").read_text()))
    modules = {name: (CANISTERS / file).read_bytes() for name, file in KERNELS.items()}
    for name, wasm in {**modules, "tightest loop": tightest}.items():
        metered, plain, default = measure(wasm)
        if name in modules:
            ratios.append((metered / plain, metered / default))
        made.append(
            Figure(
                name=f"metered, {name}", value=metered * 1e3, unit="ms CPU", reference_name="unmetered", reference=plain * 1e3
            )
        )
        made.append(
            Figure(
                name=f"metered, {name}, wasmtime's own settings",
                value=metered * 1e3,
                unit="ms CPU",
                reference_name="unmetered",
                reference=default * 1e3,
            )
        )
    for k, settings in enumerate(("", ", wasmtime's own settings")):
        mean = math.exp(sum(math.log(pair[k]) for pair in ratios) / len(ratios))
        figure = Figure(
            name=f"metered / unmetered{settings}, geometric mean of {len(ratios)}",
            value=mean,
            unit="",
            reference_name="unmetered",
            reference=1.0,
            aim=AIM,
        )
        made.insert(k, figure)
    return made


if __name__ == "__main__":
    emit(figures())
