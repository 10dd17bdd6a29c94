"""Stable memory inside the module: bytes, charges, budgets and traps in the replica's order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import wasmtime

from configs.limits import GIB, SubnetLimits
from sandbox.wasm.instrumentation import ACCESSED_PAGES, BYTEMAP, COUNTER, DIRTY_PAGES, STABLE
from sandbox.wasm.stable_functions import TrapCode
from tests.support.metered import InternalTrap, Metered, OutOfInstructions

PAGE = 4096
NARROW = """(module
  (import "ic0" "stable_size" (func $size (result i32)))
  (import "ic0" "stable_grow" (func $grow (param i32) (result i32)))
  (import "ic0" "stable_read" (func $read (param i32 i32 i32)))
  (import "ic0" "stable_write" (func $write (param i32 i32 i32)))
  (memory 2)
  (export "size" (func $size)) (export "grow" (func $grow)) (export "read" (func $read)) (export "write" (func $write)))"""
WIDE = """(module
  (import "ic0" "stable64_size" (func $size (result i64)))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_read" (func $read (param i64 i64 i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory MEMORY 2)
  (export "size" (func $size)) (export "grow" (func $grow)) (export "read" (func $read)) (export "write" (func $write)))"""
APIS = {"stable": NARROW, "stable64": WIDE.replace("MEMORY", ""), "stable64 in wasm64": WIDE.replace("MEMORY", "i64")}
BOTH = pytest.mark.parametrize("api", list(APIS))
BUDGET = 1 << 40


def _open(api: str, pages: int = 1) -> Metered:
    """An instance with grown stable memory, and the counter set."""
    module = Metered(APIS[api])
    module.memory(STABLE).grow(module.store, pages)
    module.set(COUNTER, BUDGET)
    return module


def _trap(code: TrapCode, step: Callable[[], object]) -> None:
    with pytest.raises(InternalTrap) as caught:
        step()
    assert caught.value.args == (code,)


def _marks(module: Metered, count: int) -> bytes:
    return bytes(module.memory(BYTEMAP).read(module.store, 0, count))


@BOTH
def test_write_then_read(api: str) -> None:
    """Bytes go from the heap to stable memory and back."""
    module = _open(api)
    module.memory("memory").write(module.store, b"some bytes", 100)
    module.run("write", 4090, 100, 10)
    module.run("read", 70_000, 4088, 14)
    assert bytes(module.memory("memory").read(module.store, 70_000, 70_014)) == bytes(2) + b"some bytes" + bytes(2)


@BOTH
def test_write_is_charged_per_byte_and_newly_dirty_page(api: str) -> None:
    """20 + size + 1000 per page not yet written in this message; the budgets shrink alike."""
    module = _open(api)
    assert module.cost("write", 4090, 0, 10) == 20 + 10 + 2000
    assert (module.get(DIRTY_PAGES), module.get(ACCESSED_PAGES)) == (998, 998)
    assert module.cost("write", 4090, 0, 10 + PAGE) == 20 + 10 + PAGE + 1000
    assert (module.get(DIRTY_PAGES), module.get(ACCESSED_PAGES)) == (997, 997)
    assert _marks(module, 4) == bytes((3, 3, 3, 0))


@BOTH
def test_read_is_charged_per_byte_and_marks_pages(api: str) -> None:
    """20 + size; reading dirties nothing, writing a page read before costs the dirty page only."""
    module = _open(api)
    assert module.cost("read", 0, PAGE, 2 * PAGE) == 20 + 2 * PAGE
    assert (module.get(DIRTY_PAGES), module.get(ACCESSED_PAGES)) == (1000, 998)
    assert module.cost("write", PAGE, 0, 1) == 20 + 1 + 1000
    assert (module.get(DIRTY_PAGES), module.get(ACCESSED_PAGES)) == (999, 998)
    assert module.cost("read", 0, PAGE, 1) == 21
    assert _marks(module, 4) == bytes((0, 3, 2, 0))


@BOTH
def test_last_byte_and_end_of_memory(api: str) -> None:
    """The range may end with the memory; one byte more is out of bounds, without any mark."""
    module = _open(api)
    module.run("write", 65_535, 0, 1)
    module.run("read", 0, 0, 65_536)
    fresh = _open(api)
    _trap(TrapCode.STABLE_OUT_OF_BOUNDS, lambda: fresh.run("write", 65_535, 0, 2))
    _trap(TrapCode.STABLE_OUT_OF_BOUNDS, lambda: fresh.run("read", 0, 1, 65_536))
    assert _marks(fresh, 17) == bytes(17)


@BOTH
def test_empty_ranges(api: str) -> None:
    """They cost 20; only the 32-bit write looks at the bounds of an empty range."""
    module = _open(api)
    assert module.cost("read", 1 << 30, 1 << 30, 0) == 20
    if api == "stable":
        _trap(TrapCode.STABLE_OUT_OF_BOUNDS, lambda: module.run("write", 1 << 30, 1 << 30, 0))
    else:
        assert module.cost("write", 1 << 30, 1 << 30, 0) == 20
    assert _marks(module, 4) == bytes(4)


@BOTH
def test_heap_out_of_bounds_is_the_engines_trap(api: str) -> None:
    """The heap's end is found by the copy itself."""
    module = _open(api)
    for name, arguments in (("read", (131_072, 0, 1)), ("write", (0, 131_072, 1))):
        with pytest.raises(wasmtime.Trap) as caught:
            module.run(name, *arguments)
        assert caught.value.trap_code is wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS


def test_wide_offsets_do_not_wrap() -> None:
    """offset + size beyond 2**64, and heap addresses beyond 2**32, are refused by their own codes."""
    module = _open("stable64")
    _trap(TrapCode.STABLE_OUT_OF_BOUNDS, lambda: module.run("read", 0, -1, 2))
    _trap(TrapCode.HEAP_OUT_OF_BOUNDS, lambda: module.run("read", 1 << 32, 0, 1))
    _trap(TrapCode.HEAP_OUT_OF_BOUNDS, lambda: module.run("write", 0, 1 << 32, 1))


def test_wide_sizes_exhaust_or_trap() -> None:
    """A size beyond any budget exhausts; one whose charge wraps around (as in the replica) is out of bounds anyway."""
    module = _open("stable64")
    with pytest.raises(OutOfInstructions):
        module.run("read", 0, 0, 1 << 62)
    assert module.get(COUNTER) == BUDGET - 20 - (1 << 62)
    module.set(COUNTER, BUDGET)
    _trap(TrapCode.STABLE_OUT_OF_BOUNDS, lambda: module.run("write", 0, 0, -1))
    assert module.get(COUNTER) == BUDGET - 19


@BOTH
def test_budgets(api: str) -> None:
    """Accessed pages are checked before dirty ones; a refused call changes neither."""
    module = _open(api)
    module.set(ACCESSED_PAGES, 2)
    _trap(TrapCode.ACCESSED_PAGE_LIMIT, lambda: module.run("read", 0, 0, 3 * PAGE))
    _trap(TrapCode.ACCESSED_PAGE_LIMIT, lambda: module.run("write", 0, 0, 3 * PAGE))
    module.set(DIRTY_PAGES, 1)
    _trap(TrapCode.DIRTY_PAGE_LIMIT, lambda: module.run("write", 0, 0, 2 * PAGE))
    assert (module.get(DIRTY_PAGES), module.get(ACCESSED_PAGES)) == (1, 2)
    module.run("read", 0, 0, 2 * PAGE)
    module.run("write", 0, 0, PAGE)
    assert (module.get(DIRTY_PAGES), module.get(ACCESSED_PAGES)) == (0, 0)


@BOTH
def test_size_and_grow(api: str) -> None:
    """Size is free; grow costs 100, asks the host first and gives the old size."""
    module = _open(api, 0)
    assert module.cost("size") == 0
    assert module.cost("grow", 3) == 100
    assert module.calls == [("try_grow_stable_memory", 0, 3, 0 if api == "stable" else 1)]
    assert module.run("grow", 2) == 3
    assert module.run("size") == 5


@BOTH
def test_refused_grow_gives_minus_one(api: str) -> None:
    """What the host refuses isn't done."""
    module = Metered(APIS[api], answers={"try_grow_stable_memory": lambda size, pages, which: -1})
    module.set(COUNTER, BUDGET)
    assert module.run("grow", 3) == -1
    assert module.run("size") == 0


def test_native_failure_after_consent_traps() -> None:
    """Beyond the declared maximum the engine refuses although the host agreed."""
    module = _open("stable64", 0)
    _trap(TrapCode.STABLE_GROW_FAILED, lambda: module.run("grow", 1 << 20))


def test_32_bit_api_refuses_a_memory_above_4_gib() -> None:
    """Size, read and write trap; up to exactly 4 GiB they work to the last byte."""
    module = Metered(NARROW, limits=_large())
    module.memory(STABLE).grow(module.store, 65_536)
    module.set(COUNTER, BUDGET)
    module.run("write", 0xFFFF_FFFF - 4, 0, 5)
    assert module.run("size") == 65_536
    module.memory(STABLE).grow(module.store, 1)
    _trap(TrapCode.STABLE_TOO_BIG_FOR_32_BIT, lambda: module.run("size"))
    _trap(TrapCode.STABLE_TOO_BIG_FOR_32_BIT, lambda: module.run("read", 0, 0, 1))
    _trap(TrapCode.STABLE_TOO_BIG_FOR_32_BIT, lambda: module.run("write", 0, 0, 0))
    assert module.run("read", 0, 0, 0) is None


def _large() -> SubnetLimits:

    return SubnetLimits(max_stable_memory=8 * GIB)


def test_module_without_memory() -> None:
    """Stable memory works beside an empty heap, which any copy misses."""
    module = Metered(NARROW.replace("(memory 2)", ""))
    module.set(COUNTER, BUDGET)
    assert module.run("grow", 1) == 0
    assert not module.prepared.info.has_memory
    with pytest.raises(wasmtime.Trap):
        module.run("write", 0, 0, 1)
