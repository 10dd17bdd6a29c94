"""From a valid module to one that counts instructions, exposes its state and carries its stable memory.

Rule module. Not in the spec: the replica's `instrument`; what is injected and why counts agree is told in
docs/instrumentation.md. Function indices of the result: hidden imports, System API imports, the module's own functions,
helpers, stable memory functions, System API shims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from ic_types.units import WASM_PAGE_BYTES
from sandbox.wasm import binary, imports
from sandbox.wasm.assembler import function_body
from sandbox.wasm.binary import I32, I64, Reader, section, signed, unsigned, vector
from sandbox.wasm.charges import CHARGES
from sandbox.wasm.frames import PROFILE, add_frames
from sandbox.wasm.metering import Meter
from sandbox.wasm.module import Export, FunctionType, Import, Kind, Memory, Module, ModuleLimits
from sandbox.wasm.rules import BrokenRule, Rule, not_instantiable
from sandbox.wasm.segments import moved_elements, passive_data
from sandbox.wasm.shims import shim
from sandbox.wasm.stable_functions import REFERENCE_OPERATORS, count_clean_pages, stable_function
from sandbox.wasm.validation import too_many

COUNTER, DIRTY_PAGES = "canister counter_instructions", "canister counter_dirty_pages"
ACCESSED_PAGES = "canister counter_accessed_pages"
HEAP, STABLE, BYTEMAP, TABLE, START = "memory", "stable_memory", "stable_bytemap_memory", "table", "canister_start"
_HELPER_OPERATORS = 20 + 46
"""Operators of the replica's two helper functions."""
_DECREMENT = """
global.get $counter; local.get 0; i64.sub; local.tee 1; global.get $counter; i64.gt_s
if i64; i64.const -0x8000000000000000; else; local.get 1; end; global.set $counter
global.get $counter; i64.const 0; i64.lt_s; if; call $out_of_instructions; end
local.get 0
"""


@dataclass(frozen=True, slots=True)
class Instrumented:
    """The new module and what only instrumentation knows."""

    code: bytes
    operators: int
    """Operators that the compile cost counts."""
    heap: Memory | None
    """The main memory with its maximum as capped, if the module has one."""
    global_exports: tuple[tuple[str, int], ...]
    """(export name, index) of each mutable global of the module."""
    shown_globals: tuple[int, ...]
    """Indices of all globals that are exported or mutable: the module's own exports in their order, then the others."""
    drops_data: bool


@dataclass(slots=True)
class _Layout:
    """Function types and indices of the module being built."""

    module: Module
    wasm64: bool
    types: list[FunctionType]
    imports: list[Import] = field(default_factory=list)
    function_types: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    index_of: list[int] = field(default_factory=list)
    """New index of each old function."""
    names: dict[str, int] = field(default_factory=dict)
    known: dict[FunctionType, int] = field(default_factory=dict)
    """Index by type; there may be a million."""

    def __post_init__(self) -> None:
        """Look at the module's own types once; of equal ones the first is taken."""
        for index, kind in enumerate(self.types):
            self.known.setdefault(kind, index)

    def type_index(self, params: bytes, results: bytes) -> int:
        """Index of a function type, added if new."""
        wanted = FunctionType(params, results)
        index = self.known.setdefault(wanted, len(self.types))
        if index == len(self.types):
            self.types.append(wanted)
        return index

    def add(self, params: bytes, results: bytes, body: bytes = b"") -> int:
        """A further function; returns its index."""
        self.function_types.append(self.type_index(params, results))
        self.bodies.append(body)
        return len(self.imports) + len(self.function_types) - 1


def instrument(module: Module, limits: ModuleLimits, *, profile: bool = False) -> Instrumented:
    """The instrumented module; with frames around its functions if it is to be profiled.

    Raises: InvalidWasm when a function breaks a limit or the module could not be instantiated.
    """
    heap = _capped_heap(module, limits)
    layout = _lay_out(module, heap, profile)
    stable = _add_functions(layout, limits)
    frames, first_own = _add_frames(layout) if profile else ({}, 0)
    meter = Meter(module.wasm, layout.wasm64, layout.index_of, layout.names)
    own = [meter.function(*place) for place in _bodies(module)]
    layout.bodies[first_own : first_own + len(own)] = own
    for index, frame in frames.items():
        layout.bodies[index] = frame
    exports, global_exports = _exports(module, layout)
    own_exports = [one.index for one in module.exports if one.kind is Kind.GLOBAL]
    operators = meter.operators + _HELPER_OPERATORS + sum(REFERENCE_OPERATORS[api] for api in stable)
    return Instrumented(
        code=_encode(module, layout, _memories(heap, limits), exports),
        operators=operators + 2 * (len(module.globals) + 3),
        heap=heap,
        global_exports=global_exports,
        shown_globals=(*own_exports, *(index for _, index in global_exports if index not in own_exports)),
        drops_data=meter.drops_data,
    )


def _capped_heap(module: Module, limits: ModuleLimits) -> Memory | None:
    if not module.memories:
        return None
    heap = module.memories[0]
    cap = (limits.max_wasm64_heap if heap.wasm64 else limits.max_wasm32_heap) // WASM_PAGE_BYTES
    if heap.minimum > cap:
        raise too_many(Rule.WASM_MEMORY_TOO_LARGE, "memory pages", heap.minimum, cap)
    return Memory(heap.wasm64, heap.minimum, cap if heap.maximum is None else min(cap, heap.maximum))


def _memories(heap: Memory | None, limits: ModuleLimits) -> bytes:
    """Heap (an empty one if the module has none), stable memory and its bytemap."""
    stable_pages = limits.max_stable_memory // WASM_PAGE_BYTES
    bytemap_pages = -(-limits.max_stable_memory // 4096 // WASM_PAGE_BYTES)
    three = (heap or Memory(False, 0, 0), Memory(True, 0, stable_pages), Memory(False, bytemap_pages, bytemap_pages))
    return vector(bytes((5 if one.wasm64 else 1,)) + unsigned(one.minimum) + unsigned(one.maximum or 0) for one in three)


def _lay_out(module: Module, heap: Memory | None, profile: bool) -> _Layout:
    """Imports and the module's own functions, before helpers are added."""
    if any(one.kind is not Kind.FUNCTION for one in module.imports):
        other = next(one for one in module.imports if one.kind is not Kind.FUNCTION)
        raise not_instantiable(
            f"unknown import: `{other.module}::{other.name}` has not been defined", f"import {other.module}.{other.name}"
        )
    layout = _Layout(module, bool(heap and heap.wasm64), list(module.types))
    own = {one.name for one in module.imports}
    hidden = imports.hidden_imports(layout.wasm64, own) | ({PROFILE: (bytes((I32, I64)), b"")} if profile else {})
    for name, (params, results) in hidden.items():
        layout.names[name] = len(layout.imports)
        layout.imports.append(Import(imports.HIDDEN, name, Kind.FUNCTION, layout.type_index(params, results)))
    for one in module.imports:
        layout.index_of.append(len(layout.imports))
        if one.name not in REFERENCE_OPERATORS:
            layout.imports.append(one)
    first = len(layout.imports)
    layout.index_of += range(first, first + len(module.functions))
    layout.function_types += module.functions
    layout.bodies += [b""] * len(module.functions)
    layout.names |= {name: len(module.globals) + k for k, name in enumerate(("counter", "dirty_pages", "accessed_pages"))}
    return layout


def _add_functions(layout: _Layout, limits: ModuleLimits) -> list[str]:
    """Adds helpers, stable memory functions and shims, and points imports at them; returns the stable APIs in use."""
    names, wasm64 = layout.names, layout.wasm64
    body = function_body(_DECREMENT, names, ("i64",))
    names["decrement"] = layout.add(bytes((I64,)), bytes((I64,)), body)
    names["count_clean_pages"] = layout.add(bytes((I32, I32)), bytes((I32, I32)), count_clean_pages(names))
    max_heap_address = limits.max_wasm64_heap if wasm64 else 0xFFFFFFFF
    done: dict[str, int] = {}
    stable = []
    for old, one in enumerate(layout.module.imports):
        params, results = imports.SIGNATURES[wasm64][one.name]
        if one.name not in done and one.name in REFERENCE_OPERATORS:
            body = stable_function(one.name, names, wasm64, limits.dirty_page_overhead, max_heap_address)
            done[one.name] = layout.add(params, results, body)
            stable.append(one.name)
        elif one.name not in done and one.name in CHARGES:
            body = shim(CHARGES[one.name], len(params), layout.index_of[old], names, wasm64)
            done[one.name] = layout.add(params, results, body)
        layout.index_of[old] = done.get(one.name, layout.index_of[old])
    return stable


def _add_frames(layout: _Layout) -> tuple[dict[int, bytes], int]:
    """Frames by own function, and where among all bodies the functions proper begin."""
    module, imported = layout.module, len(layout.module.imports)
    kinds = [module.types[one.type_index] for one in module.imports] + [module.types[index] for index in module.functions]
    first_own = len(layout.bodies) + imported
    return add_frames(layout, kinds, imported), first_own


def _bodies(module: Module) -> Iterator[tuple[int, int, int, int]]:
    """(index among local functions, start, end, parameters) of each body."""
    if binary.CODE not in module.raw:
        return
    reader = Reader(module.wasm, *module.raw[binary.CODE])
    for index in range(reader.unsigned()):
        size = reader.unsigned()
        yield index, reader.pos, reader.pos + size, len(module.types[module.functions[index]].params)
        reader.pos += size


def _exports(module: Module, layout: _Layout) -> tuple[list[Export], tuple[tuple[str, int], ...]]:
    """Exports of the new module, and those of mutable globals."""
    first = len(module.globals)
    kept = [one for one in module.exports if one.kind not in (Kind.MEMORY, Kind.TABLE)]
    found = [Export(one.name, one.kind, layout.index_of[one.index]) if one.kind is Kind.FUNCTION else one for one in kept]
    # Every export of memory and table takes the name that the runtime wants, so there can't be two, as in the replica.
    found += [Export(HEAP, Kind.MEMORY, 0) for one in module.exports if one.kind is Kind.MEMORY] or [
        Export(HEAP, Kind.MEMORY, 0)
    ]
    found += [Export(STABLE, Kind.MEMORY, 1), Export(BYTEMAP, Kind.MEMORY, 2)]
    if module.tables:
        tables = [Export(TABLE, Kind.TABLE, one.index) for one in module.exports if one.kind is Kind.TABLE]
        found += tables or [Export(TABLE, Kind.TABLE, 0)]
    exported = {one.index: one.name for one in reversed(kept) if one.kind is Kind.GLOBAL}
    global_exports = []
    for index, one in enumerate(module.globals):
        if one.mutable:
            name = exported.get(index)
            if name is None:
                name = f"__persistent_mutable_global_{index}"
                found.append(Export(name, Kind.GLOBAL, index))
            global_exports.append((name, index))
    found += [Export(name, Kind.GLOBAL, first + k) for k, name in enumerate((COUNTER, DIRTY_PAGES, ACCESSED_PAGES))]
    if module.start is not None:
        found.append(Export(START, Kind.FUNCTION, layout.index_of[module.start]))
    names: dict[str, None] = {}
    for export in found:
        if export.name in names:
            why = f"Wasm module has an invalid export section. Name {export.name} is needed by the runtime."
            raise BrokenRule(Rule.INVALID_EXPORT_SECTION, why, item=f"export {export.name!r}")
        names[export.name] = None
    return found, tuple(global_exports)


def _encode(module: Module, layout: _Layout, memories: bytes, exports: list[Export]) -> bytes:
    """The bytes of the new module; custom sections are left out."""
    counters = b"".join(bytes((I64, 1, 0x42)) + signed(0) + b"\x0b" for _ in range(3))
    globals_reader = Reader(module.payload(binary.GLOBAL))
    if globals_reader.more:
        globals_reader.unsigned()
    own_globals = globals_reader.data[globals_reader.pos :]
    data = passive_data(module)
    parts = [
        section(binary.TYPE, vector(one.encoded() for one in layout.types)),
        section(binary.IMPORT, vector(_import(one) for one in layout.imports)),
        section(binary.FUNCTION, vector(map(unsigned, layout.function_types))),
        section(binary.TABLE, module.payload(binary.TABLE)) if module.tables else b"",
        section(binary.MEMORY, memories),
        section(binary.GLOBAL, unsigned(len(module.globals) + 3) + own_globals + counters),
        section(binary.EXPORT, vector(binary.name(one.name) + bytes((one.kind,)) + unsigned(one.index) for one in exports)),
        section(binary.ELEMENT, moved_elements(module, layout.index_of)) if binary.ELEMENT in module.raw else b"",
        section(binary.DATA_COUNT, unsigned(len(data))) if binary.DATA_COUNT in module.raw else b"",
        section(binary.CODE, vector(layout.bodies)),
        section(binary.DATA, vector(data)) if data else b"",
    ]
    return binary.HEADER + b"".join(parts)


def _import(one: Import) -> bytes:
    return binary.name(one.module) + binary.name(one.name) + b"\x00" + unsigned(one.type_index)
