"""Stable memory as a Wasm memory: the functions that replace the `ic0.stable_*` imports.

Rule module. Spec: abstract-behavior, "Stable memory"; order of checks and charges as in the replica's
`system_api_replacements`. Memories: 0 heap, 1 stable memory, 2 bytemap with one byte per stable page of 4 KiB
(bit 0 written, bit 1 accessed), which is all zeros when a message starts. The replica reads pages of a message's first
access through the host; here committed pages lie beneath the stable memory, so every read is a plain copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from sandbox.wasm.assembler import function_body
from sandbox.wasm.charges import STABLE_COPY, STABLE_GROW


class TrapCode(IntEnum):
    """Argument of the hidden import `internal_trap`."""

    UNKNOWN = 0
    HEAP_OUT_OF_BOUNDS = 1
    STABLE_OUT_OF_BOUNDS = 2
    STABLE_TOO_BIG_FOR_32_BIT = 3
    DIRTY_PAGE_LIMIT = 4
    ACCESSED_PAGE_LIMIT = 5
    STABLE_GROW_FAILED = 6


REFERENCE_OPERATORS = {
    "stable_size": 10,
    "stable64_size": 2,
    "stable_grow": 24,
    "stable64_grow": 21,
    "stable_read": 106,
    "stable64_read": 119,
    "stable_write": 91,
    "stable64_write": 107,
}
"""Operators of the replica's own functions, which the compile cost counts; ours differ."""

_CODES = {code.name.lower(): code.value for code in TrapCode}
_NARROW_LOCALS, _WIDE_LOCALS = ("i64",) * 3 + ("i32",) * 5, ("i32",) * 5

_TOO_BIG = "memory.size 1; i64.const 65536; i64.gt_u; if; i32.const $stable_too_big_for_32_bit; call $internal_trap; end"
_RETURN_IF_EMPTY = "local.get $len; i64.eqz; if; return; end"
_WRAPS = """
local.get $at; local.get $len; i64.add; local.get $at; i64.le_u; if; i32.const $stable_out_of_bounds; call $internal_trap; end
"""
_BOUNDS = """
local.get $at; local.get $len; i64.add; memory.size 1; i64.const 65536; i64.mul; i64.gt_u
if; i32.const $stable_out_of_bounds; call $internal_trap; end
"""
_HEAP_RANGE = """
local.get $heap; i64.const $max_heap_address; i64.gt_u; if; i32.const $heap_out_of_bounds; call $internal_trap; end
local.get $len; i64.const $max_heap_address; i64.gt_u; if; i32.const $heap_out_of_bounds; call $internal_trap; end
"""
_COUNT_PAGES = """
local.get $at; i64.const 12; i64.shr_u; i32.wrap_i64; local.tee $first
local.get $at; local.get $len; i64.add; i64.const 1; i64.sub; i64.const 12; i64.shr_u; i64.const 1; i64.add; i32.wrap_i64
local.tee $last; call $count_clean_pages; local.set $unaccessed; local.set $unwritten
local.get $unaccessed; i64.extend_i32_u; global.get $accessed_pages; i64.gt_u
if; i32.const $accessed_page_limit; call $internal_trap; end
"""
_TAKE_ACCESSED = "global.get $accessed_pages; local.get $unaccessed; i64.extend_i32_u; i64.sub; global.set $accessed_pages"
_CHARGE = "local.get $len; i64.const $copy_charge; i64.add; call $decrement; drop"
_READ = f"""
{_COUNT_PAGES}
local.get $unaccessed
if
  local.get $first; local.set $page
  loop
    local.get $page; local.get $page; i32.load8_u 2; i32.const 2; i32.or; i32.store8 2
    local.get $page; i32.const 1; i32.add; local.tee $page; local.get $last; i32.lt_u; br_if 0
  end
end
local.get $heap; $TO_HEAP; local.get $at; local.get $len; $TO_HEAP; memory.copy 0 1
{_TAKE_ACCESSED}
"""
_WRITE = f"""
{_COUNT_PAGES}
local.get $unwritten; i64.extend_i32_u; global.get $dirty_pages; i64.gt_u
if; i32.const $dirty_page_limit; call $internal_trap; end
local.get $unwritten; i64.extend_i32_u; i64.const $dirty_page_overhead; i64.mul; call $decrement; drop
local.get $first; i32.const 3; local.get $last; local.get $first; i32.sub; memory.fill 2
local.get $at; local.get $heap; $TO_HEAP; local.get $len; $TO_HEAP; memory.copy 1 0
global.get $dirty_pages; local.get $unwritten; i64.extend_i32_u; i64.sub; global.set $dirty_pages
{_TAKE_ACCESSED}
"""
_WIDEN = "\n".join(f"local.get {index}; i64.extend_i32_u; local.set {index + 3}" for index in range(3))
_GROW = """
global.get $counter; i64.const 0; i64.lt_s; if; call $out_of_instructions; end
global.get $counter; i64.const $grow_charge; i64.sub; global.set $counter
global.get $counter; i64.const 0; i64.lt_s; if; call $out_of_instructions; end
memory.size 1; local.get $pages; i32.const $api; call $try_grow_stable_memory; i64.const -1; i64.eq
if; $FAILED; return; end
local.get $pages; memory.grow 1; local.tee $pages; i64.const -1; i64.eq
if; i32.const $stable_grow_failed; call $internal_trap; end
local.get $pages
"""

# The 32-bit write looks at bounds before it returns for an empty range; the others after.
_SOURCES = {
    "stable_size": f"{_TOO_BIG}; memory.size 1; i32.wrap_i64",
    "stable64_size": "memory.size 1",
    "stable_grow": f"local.get 0; i64.extend_i32_u; local.set $pages; {_GROW}; i32.wrap_i64".replace("$FAILED", "i32.const -1"),
    "stable64_grow": _GROW.replace("$FAILED", "i64.const -1"),
    "stable_read": f"{_WIDEN}; {_CHARGE}; {_RETURN_IF_EMPTY}; {_TOO_BIG}; {_BOUNDS}; {_READ}",
    "stable_write": f"{_WIDEN}; {_CHARGE}; {_TOO_BIG}; {_BOUNDS}; {_RETURN_IF_EMPTY}; {_WRITE}",
    "stable64_read": f"{_CHARGE}; {_RETURN_IF_EMPTY}; {_WRAPS}; {_BOUNDS}; {_HEAP_RANGE}; {_READ}",
    "stable64_write": f"{_CHARGE}; {_RETURN_IF_EMPTY}; {_WRAPS}; {_BOUNDS}; {_HEAP_RANGE}; {_WRITE}",
}
_COUNT_CLEAN = """
local.get 0; local.set 2
loop
  local.get 2; i32.load8_u 2; local.tee 3; i32.const 1; i32.and; local.get 4; i32.add; local.set 4
  local.get 3; i32.const 1; i32.shr_u; local.get 5; i32.add; local.set 5
  local.get 2; i32.const 1; i32.add; local.tee 2; local.get 1; i32.lt_u; br_if 0
end
local.get 1; local.get 0; i32.sub; local.get 4; i32.sub
local.get 1; local.get 0; i32.sub; local.get 5; i32.sub
"""


def count_clean_pages(names: Mapping[str, int]) -> bytes:
    """Body of (first page, page after the last) -> (pages not written, pages not accessed); the range isn't empty."""
    return function_body(_COUNT_CLEAN, names, ("i32",) * 4)


def stable_function(api: str, names: Mapping[str, int], wasm64: bool, dirty_page_overhead: int, max_heap_address: int) -> bytes:
    """Body of the function that replaces an import; `names` has the hidden imports, the counters and the helpers."""
    wide, writes = api.startswith("stable64"), api.endswith("write")
    # Parameters: read (heap, at, len), write (at, heap, len); the 32-bit ones are widened into locals 3..5.
    first = 0 if wide else 3
    scratch = 3 if wide else 6
    numbers = {
        **names,
        **_CODES,
        "heap": first + writes,
        "at": first + (not writes),
        "len": first + 2,
        **{name: scratch + k for k, name in enumerate(("first", "last", "unaccessed", "unwritten", "page"))},
        "pages": 0 if wide else 1,
        "api": int(wide),
        "copy_charge": STABLE_COPY,
        "grow_charge": STABLE_GROW,
        "dirty_page_overhead": dirty_page_overhead,
        "max_heap_address": max_heap_address,
    }
    source = _SOURCES[api].replace("$TO_HEAP", "nop" if wasm64 else "i32.wrap_i64")
    if api.endswith("size"):
        return function_body(source, numbers)
    if api.endswith("grow"):
        return function_body(source, numbers, () if wide else ("i64",))
    return function_body(source, numbers, _WIDE_LOCALS if wide else _NARROW_LOCALS)
