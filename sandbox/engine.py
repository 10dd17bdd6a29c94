"""Wasm code of one canister, loaded and run through wasmtime's C interface.

Plumbing. The calls that every message makes go straight to the C functions, with addresses as plain integers: wasmtime-py's
objects cost several microseconds per access. Only this module, `engine_config` and the compiler know wasmtime.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import byref, c_bool, c_size_t, c_uint8, c_uint64, c_void_p
from typing import Any, Final

import wasmtime
from wasmtime import _bindings, _ffi

from ic_types.errors import SandboxFailure
from ic_types.units import WASM_PAGE_BYTES
from sandbox.engine_types import define, direct, imports_of
from sandbox.host_functions import HostFunctions, signature
from sandbox.system_api.traps import (
    HEAP_OUT_OF_BOUNDS,
    CanisterTrap,
    contract_violation,
    engine_failure,
    function_not_found,
    method_not_found,
    wasm_trap,
)

COUNTER: Final = "canister counter_instructions"
DIRTY_PAGES_LEFT: Final = "canister counter_dirty_pages"
ACCESSED_PAGES_LEFT: Final = "canister counter_accessed_pages"
_BUDGETS: Final = (COUNTER, DIRTY_PAGES_LEFT, ACCESSED_PAGES_LEFT)
_I64, _V128 = 1, 4
_SIXTY_FOUR_BIT: Final = 1
"""The bit that i64 (1) and f64 (3) have in their kind, i32 and f32 not."""
_MAX_TABLES, _MAX_TABLE_ELEMENTS = 1, 1_000_000
_TRAPS: Final = {
    "STACK_OVERFLOW": "stack overflow",
    "MEMORY_OUT_OF_BOUNDS": HEAP_OUT_OF_BOUNDS,
    "TABLE_OUT_OF_BOUNDS": "table out of bounds",
    "INTEGER_DIVISION_BY_ZERO": "integer division by 0",
    "UNREACHABLE": "unreachable",
}
_BAD_SIGNATURE: Final = "function invocation does not match its signature"


_call = direct("wasmtime_func_call_unchecked", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)
_global_get = direct("wasmtime_global_get", None, c_void_p, c_void_p, c_void_p)
_global_set = direct("wasmtime_global_set", c_void_p, c_void_p, c_void_p, c_void_p)
_memory_data = direct("wasmtime_memory_data", c_void_p, c_void_p, c_void_p)
_memory_size = direct("wasmtime_memory_data_size", c_size_t, c_void_p, c_void_p)
_memory_grow = direct("wasmtime_memory_grow", c_void_p, c_void_p, c_void_p, c_uint64, c_void_p)
_table_get = direct("wasmtime_table_get", c_bool, c_void_p, c_void_p, c_uint64, c_void_p)
_trap_new = direct("wasmtime_trap_new", c_void_p, ctypes.c_char_p, c_size_t)
_trap_code = direct("wasmtime_trap_code", c_bool, c_void_p, c_void_p)
_trap_delete = direct("wasm_trap_delete", None, c_void_p)


def new_trap() -> int:
    """A trap that unwinds Wasm; what it stands for is kept beside."""
    return int(_trap_new(b"host", 4))


class Program:
    """A compiled module with its imports bound: instances are made from it.

    Raises: SandboxFailure when the artefact can't be loaded or needs an import that doesn't exist.
    """

    def __init__(self, engine: wasmtime.Engine, artefact: int, host: HostFunctions, global_exports: tuple[str, ...]) -> None:
        """`global_exports`: names of the globals that persist, in the node's order."""
        self.engine, self.host, self.globals = engine, host, global_exports
        try:
            self.module = _load(engine, artefact)
            self.linker = wasmtime.Linker(engine)
            for namespace, call, callback in host.imports(imports_of(self.module)):
                define(self.linker, namespace, call.name, signature(call, wide=host.state.wasm64), callback)
            self.instances = self.linker.instantiate_pre(self.module)
        except wasmtime.WasmtimeError as error:
            raise SandboxFailure(f"the compiled module can't be loaded: {error}") from error


def _load(engine: wasmtime.Engine, artefact: int) -> wasmtime.Module:
    try:
        # By file, the code's pages are shared by all sandboxes of the module.
        return wasmtime.Module.deserialize_file(engine, f"/proc/self/fd/{artefact}")
    except (wasmtime.WasmtimeError, OSError):
        return wasmtime.Module.deserialize(engine, os.pread(artefact, os.lseek(artefact, 0, os.SEEK_END), 0))


class Memory:
    """One linear memory of an instance: where it lies, and how large it is."""

    __slots__ = ("_context", "_memory", "base", "kept")

    def __init__(self, context: int, extern: Any) -> None:
        self._context, self._memory, self.kept = context, ctypes.addressof(extern.of), extern
        self.base = int(_memory_data(context, self._memory) or 0)

    def size(self) -> int:
        """Bytes."""
        return int(_memory_size(self._context, self._memory))

    def grow_to(self, pages: int) -> None:
        """Make it `pages` Wasm pages large; it is smaller now or the same.

        Raises: SandboxFailure when the engine can't.
        """
        missing = pages - self.size() // WASM_PAGE_BYTES
        previous = c_uint64()
        if missing > 0 and _memory_grow(self._context, self._memory, missing, ctypes.addressof(previous)):
            raise SandboxFailure(f"memory can't be grown to {pages} Wasm pages")
        assert missing >= 0, "a memory never shrinks"
        assert _memory_data(self._context, self._memory) == self.base, "linear memory has moved"


class Instance:
    """A running module: its memories, globals, functions."""

    def __init__(self, program: Program) -> None:
        self.program, self.host = program, program.host
        self._store = wasmtime.Store(program.engine)
        self._store.set_limits(table_elements=_MAX_TABLE_ELEMENTS, tables=_MAX_TABLES)
        try:
            self._instance = program.instances.instantiate(self._store)
        except (wasmtime.WasmtimeError, wasmtime.Trap) as error:
            raise SandboxFailure(f"the module can't be instantiated: {error}") from error
        self._context = int(ctypes.cast(self._store._context(), c_void_p).value or 0)
        self._entries: dict[str, tuple[int, Any]] = {}
        self._callbacks: dict[int, Any] = {}
        self._value = _bindings.wasmtime_val_t()
        self._value_at = ctypes.addressof(self._value)
        self._kind = c_uint8.from_address(self._value_at)
        self._bits = c_uint64.from_address(ctypes.addressof(self._value.of))
        self._argument = (c_uint64 * 2)()
        self._argument_at = ctypes.addressof(self._argument)
        self._trap = c_void_p()
        self._trap_at = ctypes.addressof(self._trap)
        self._globals = [self._extern(name) for name in program.globals]
        if None in self._globals:
            raise SandboxFailure("the compiled module lacks a global that persists")
        self._globals_at = [self._global(extern) for extern in self._globals]
        self._budgets = [(name, self._extern(name)) for name in _BUDGETS]
        self._budgets_at = {name: ctypes.addressof(extern.of) for name, extern in self._budgets if extern is not None}
        self._counter_at = self._budgets_at.get(COUNTER, 0)
        self._table = self._extern("table")
        self.heap, self.stable, self.bytemap = (self._memory(n) for n in ("memory", "stable_memory", "stable_bytemap_memory"))

    def close(self) -> None:
        """Give memory and code back at once."""
        self._store.close()

    def _extern(self, name: str) -> Any:
        extern, raw = _bindings.wasmtime_extern_t(), name.encode()
        found = _ffi.wasmtime_instance_export_get(
            self._store._context(),
            byref(self._instance._instance),
            ctypes.create_string_buffer(raw, len(raw)),
            len(raw),
            byref(extern),
        )
        return extern if found else None

    def _memory(self, name: str) -> Memory | None:
        extern = self._extern(name)
        return None if extern is None else Memory(self._context, extern)

    # --- globals

    def _global(self, extern: Any) -> tuple[int, int]:
        # The kind is taken from the value: asking the type for v128 aborts the process.
        at = ctypes.addressof(extern.of)
        _global_get(self._context, at, self._value_at)
        return at, self._kind.value

    def counter(self) -> int:
        """The instruction counter (signed)."""
        _global_get(self._context, self._counter_at, self._value_at)
        value = self._bits.value
        return value - (1 << 64) if value >> 63 else value

    def set_counter(self, value: int) -> None:
        """Set the instruction counter."""
        self._kind.value = _I64
        self._bits.value = value
        _global_set(self._context, self._counter_at, self._value_at)

    def set_budget(self, name: str, value: int) -> None:
        """Set one of the counters of stable pages, if the module has it."""
        at = self._budgets_at.get(name)
        if at is not None:
            self._kind.value = _I64
            self._bits.value = value
            _global_set(self._context, at, self._value_at)

    def globals(self) -> tuple[int, ...]:
        """Bits of every persistent global."""
        context, value_at, bits = self._context, self._value_at, self._bits
        found = []
        for at, kind in self._globals_at:
            _global_get(context, at, value_at)
            if kind == _V128:
                found.append(int.from_bytes(bytes(self._value.of.v128), "little"))
            else:
                found.append(bits.value if kind & _SIXTY_FOUR_BIT else bits.value & 0xFFFFFFFF)
        return tuple(found)

    def set_globals(self, values: tuple[int, ...]) -> None:
        """Restore every persistent global."""
        if len(values) != len(self._globals_at):
            raise SandboxFailure(f"module has {len(self._globals_at)} persistent globals, {len(values)} values were given")
        for (at, kind), value in zip(self._globals_at, values, strict=True):
            self._kind.value = kind
            if kind == _V128:
                ctypes.memmove(ctypes.addressof(self._value.of), value.to_bytes(16, "little"), 16)
            else:
                self._bits.value = value
            _global_set(self._context, at, self._value_at)

    # --- running

    def run_export(self, name: str, kind: str) -> None:
        """Call an exported function without parameters.

        Raises: CanisterTrap when it traps or doesn't exist, AbortExecution when the node gave up.
        """
        entry = self._entries.get(name)
        if entry is None:
            extern = self._extern(name)
            if extern is None or extern.kind != _ffi.WASMTIME_EXTERN_FUNC.value:
                raise method_not_found(kind, name.partition(" ")[2] or name)
            entry = self._entries[name] = (ctypes.addressof(extern.of), extern)
        error = _call(self._context, entry[0], self._argument_at, 0, self._trap_at)
        if error is not None or self._trap.value is not None or self.host.failure is not None:
            raise self._failure(error)

    def run_callback(self, index: int, env: int) -> None:
        """Call a function of the table with one pointer-wide argument.

        Raises: CanisterTrap when it traps, isn't in the table or has another type; AbortExecution when the node gave up.
        """
        function = self._callbacks.get(index)
        if function is None:
            function = self._callbacks[index] = self._table_function(index)
        self._argument[0] = env
        error = _call(self._context, ctypes.addressof(function), self._argument_at, 1, self._trap_at)
        if error is not None or self._trap.value is not None or self.host.failure is not None:
            raise self._failure(error)

    def _table_function(self, index: int) -> Any:
        value = _bindings.wasmtime_val_t()
        table = self._table
        if table is None or not _table_get(self._context, ctypes.addressof(table.of), index, ctypes.addressof(value)):
            raise function_not_found(index)
        function = _bindings.wasmtime_func_t.from_buffer_copy(value.of.funcref)
        if function.store_id == 0:
            raise function_not_found(index)
        kind = _ffi.wasmtime_func_type(self._store._context(), byref(function))
        found = wasmtime.FuncType._from_ptr(kind, None)
        expected = "i64" if self.host.state.wasm64 else "i32"
        if [str(t) for t in found.params] != [expected] or found.results:
            raise contract_violation(_BAD_SIGNATURE)
        return function

    def _failure(self, error: int | None) -> BaseException:
        # Returned, not raised: a frame that keeps the exception it raises would live on with it.
        trap, self._trap.value = self._trap.value, None
        failure, self.host.failure = self.host.failure, None
        if error is not None:
            told = wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(_bindings.wasmtime_error_t)))
            return failure or engine_failure(str(told))
        code, known = c_uint8(), False
        if trap is not None:
            known = _trap_code(trap, ctypes.addressof(code))
            _trap_delete(trap)
        return failure or _classify(wasmtime.TrapCode(code.value).name if known else "")


def _classify(code: str) -> CanisterTrap:
    if code == "BAD_SIGNATURE":
        return contract_violation(_BAD_SIGNATURE)
    return wasm_trap(_TRAPS.get(code, "unknown"))
