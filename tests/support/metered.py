"""Runs an instrumented module with the simplest possible host, to look at its counters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import wasmtime

from configs.limits import GIB, SubnetLimits
from sandbox.engine_config import make_engine
from sandbox.wasm.instrumentation import ACCESSED_PAGES, COUNTER, DIRTY_PAGES
from sandbox.wasm.prepare import prepare
from tests.support.wasm_samples import compile_wat

SMALL = SubnetLimits(max_stable_memory=1 * GIB)
"""Limits with a small bytemap."""
_ENGINE: list[wasmtime.Engine] = []
_OPEN: deque[wasmtime.Store] = deque()
_MOST_OPEN = 16


@lru_cache(maxsize=4)
def _compiled(code: bytes) -> wasmtime.Module:
    return wasmtime.Module(_ENGINE[0], code)


class OutOfInstructions(Exception):
    """The host gave no further slice."""


class InternalTrap(Exception):
    """`internal_trap` was called; its argument is the code."""


@dataclass
class Metered:
    """One instance of a module; `slices` are granted one after the other when the counter is exhausted."""

    source: str | bytes
    limits: SubnetLimits = SMALL
    slices: list[int] = field(default_factory=list)
    answers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    """System API functions; missing ones return 0."""
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    """Host functions called, with their arguments."""

    def __post_init__(self) -> None:
        self.out_of_instructions: Callable[[], None] = self._next_slice
        if not _ENGINE:
            _ENGINE.append(make_engine())
        wasm = compile_wat(self.source) if isinstance(self.source, str) else self.source
        self.prepared = prepare(wasm, self.limits)
        self.store = wasmtime.Store(_ENGINE[0])
        # An instance holds 1.5 TiB of address space, and its host functions keep it alive: close those of earlier tests.
        _OPEN.append(self.store)
        if len(_OPEN) > _MOST_OPEN:
            _OPEN.popleft().close()
        module = _compiled(self.prepared.code)
        linker = wasmtime.Linker(_ENGINE[0])
        for one in module.imports:
            assert isinstance(one.type, wasmtime.FuncType)
            linker.define_func(one.module, one.name or "", one.type, self._host(one.name or "", one.type))
        self.exports = linker.instantiate(self.store, module).exports(self.store)
        pages = self.prepared.info.initial_pages
        for k, page in enumerate(pages.indices):
            self.memory("memory").write(self.store, pages.content[k * 4096 : (k + 1) * 4096], page * 4096)
        self.set(DIRTY_PAGES, 1000)
        self.set(ACCESSED_PAGES, 1000)

    def _host(self, name: str, kind: wasmtime.FuncType) -> Callable[..., Any]:
        own: dict[str, Callable[..., Any]] = {
            "out_of_instructions": lambda: self.out_of_instructions(),
            "internal_trap": self._internal_trap,
            "try_grow_wasm_memory": lambda result, pages: result,
            "try_grow_stable_memory": lambda size, pages, api: size,
        }
        default: Callable[..., Any] = (lambda *arguments: 0) if kind.results else (lambda *arguments: None)
        answer = self.answers.get(name) or own.get(name) or default

        def host(*arguments: Any) -> Any:
            self.calls.append((name, *arguments))
            return answer(*arguments)

        return host

    def _next_slice(self) -> None:
        if not self.slices:
            raise OutOfInstructions
        self.set(COUNTER, self.slices.pop(0))

    def _internal_trap(self, code: int) -> None:
        raise InternalTrap(code)

    def memory(self, name: str) -> wasmtime.Memory:
        """An exported memory."""
        found = self.exports[name]
        assert isinstance(found, wasmtime.Memory)
        return found

    def get(self, name: str) -> int:
        """Value of an exported global."""
        found = self.exports[name]
        assert isinstance(found, wasmtime.Global)
        return int(found.value(self.store))

    def set(self, name: str, value: int) -> None:
        """Change an exported global."""
        found = self.exports[name]
        assert isinstance(found, wasmtime.Global)
        found.set_value(self.store, value)

    def run(self, export: str, *arguments: int) -> Any:
        """Call an export."""
        found = self.exports[export]
        assert isinstance(found, wasmtime.Func)
        return found(self.store, *arguments)

    def cost(self, export: str, *arguments: int, budget: int = 1 << 40) -> int:
        """Instructions that a call takes."""
        self.set(COUNTER, budget)
        self.run(export, *arguments)
        return budget - self.get(COUNTER)
