"""The rules that a module can break, by the replica's names for them, and the error that says which one and where.

Rule module. Spec: abstract-behavior, "Canister module format"; figures: the replica's `WasmValidationError`.
"""

from __future__ import annotations

from enum import Enum

from ic_types.errors import InvalidWasm


class Rule(Enum):
    """What every module must keep; the value says it in a sentence."""

    DECODING_ERROR = "a module is plain Wasm, or gzipped with its true size, and at most 100 MiB unpacked"
    CODE_SECTION_TOO_LARGE = "the code section has at most 12 MiB"
    WASMTIME_VALIDATION = (
        "a module is valid by the WebAssembly specification, with bulk memory, reference types, SIMD and memory64 and without "
        "multiple memories, threads, tail calls, relaxed SIMD, exceptions, typed function references and garbage collection"
    )
    INVALID_FUNCTION_SIGNATURE = (
        "System API functions and entry points have exactly the types that the specification gives them"
    )
    INVALID_IMPORT_SECTION = "only functions of the System API are imported, from module `ic0`"
    INVALID_EXPORT_SECTION = (
        "exports named `canister_...` are the entry points that the specification names; some names are reserved"
    )
    INVALID_DATA_SECTION = "the offset of an active data segment is a single constant of the memory's address type"
    INVALID_CUSTOM_SECTION = (
        "`icp:` custom sections are named `icp:public NAME` or `icp:private NAME`, each name once, 1 MiB in all"
    )
    INVALID_GLOBAL_SECTION = "globals are numbers with constant initial values"
    TOO_MANY_GLOBALS = "at most 1000 globals are defined"
    TOO_MANY_FUNCTIONS = "at most 50,000 functions are defined"
    TOO_MANY_CUSTOM_SECTIONS = "there are at most 16 `icp:` custom sections"
    TOO_MANY_EXPORTS = "at most 1000 methods are exported"
    EXPORTED_NAMES_TOO_LONG = "names of methods have at most 20,000 bytes together"
    DUPLICATE_EXPORT = "a method name is exported once, as update, query or composite query"
    FUNCTION_COMPLEXITY_TOO_HIGH = "a function has a complexity of at most 1,000,000"
    FUNCTION_TOO_LARGE = "a function has at most 1,000,000 operators"
    UNSUPPORTED_WASM_INSTRUCTION = "tables are not changed by operators (`table.set`, `grow`, `fill`, `copy`, `init`)"
    WASM_MEMORY_TOO_LARGE = "a memory is not declared larger than the subnet allows"
    INVALID_DATA_SEGMENT = "active data segments lie inside the memory's initial size"
    FAILED_TO_INSTANTIATE_MODULE = (
        "the module can be instantiated: its imports exist, its elements fit its one table of at most 1,000,000"
    )
    COMPILATION_ERROR = "the instrumented module can be compiled"

    @property
    def title(self) -> str:
        """The replica's name: `TooManyGlobals`."""
        return self.name.title().replace("_", "")


class BrokenRule(InvalidWasm):
    """A module breaks a rule; the message is the replica's."""

    def __init__(
        self, rule: Rule, message: str, *, item: str = "", function: int | None = None, offset: int | None = None
    ) -> None:
        super().__init__(message)
        self.rule = rule
        self.item = item
        """The import, export, global or section concerned."""
        self.function = function
        """Index among the module's own functions."""
        self.offset = offset
        """Byte of the plain module."""


def undecodable(why: str, *, item: str = "", function: int | None = None, offset: int | None = None) -> BrokenRule:
    """The error for bytes that can't be read as a module."""
    return BrokenRule(Rule.DECODING_ERROR, f"Failed to decode wasm module: {why}", item=item, function=function, offset=offset)


def not_instantiable(why: str, item: str = "") -> BrokenRule:
    """The error for a module of which no instance can be made."""
    return BrokenRule(Rule.FAILED_TO_INSTANTIATE_MODULE, f"Failed to instantiate module: {why}", item=item)
