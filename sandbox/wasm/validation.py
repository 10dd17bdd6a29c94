"""The rules a submitted module must keep, in the replica's order and words.

Rule module. Spec: abstract-behavior, "Canister module format"; figures: the replica's `validate_wasm_binary`. Rules about
single operators are checked where functions are walked, in `metering`.
"""

from __future__ import annotations

from ic_types.units import WASM_PAGE_BYTES
from sandbox.module_info import CustomSection
from sandbox.wasm import binary
from sandbox.wasm.binary import I32, I64, TYPE_NAMES
from sandbox.wasm.imports import IC0, SIGNATURES
from sandbox.wasm.module import FunctionType, Kind, Module, ModuleLimits
from sandbox.wasm.rules import BrokenRule, Rule

MAX_CODE_SECTION_BYTES = 12 << 20
MAX_FUNCTION_OPERATORS = 1_000_000
MAX_FUNCTION_COMPLEXITY = 1_000_000
MAX_FUNCTIONS = 50_000
MAX_GLOBALS = 1000
MAX_METHODS = 1000
MAX_METHOD_NAME_BYTES = 20_000
MAX_CUSTOM_SECTIONS = 16
MAX_CUSTOM_SECTION_BYTES = 1 << 20
MAX_TABLES = 1
MAX_TABLE_ELEMENTS = 1_000_000

RESERVED = frozenset(
    {
        "canister counter_instructions",
        "canister counter_dirty_pages",
        "canister counter_accessed_pages",
        "canister_start",
        "stable_memory",
        "stable_bytemap_memory",
    }
)
METHOD_KINDS = ("canister_update", "canister_query", "canister_composite_query")
ENTRY_POINTS = (
    "canister_init",
    "canister_pre_upgrade",
    "canister_post_upgrade",
    "canister_inspect_message",
    "canister_heartbeat",
    "canister_global_timer",
    "canister_on_low_wasm_memory",
)
_NUMBERS = (binary.I32, binary.I64, binary.F32, binary.F64, binary.V128)


def check_code_size(wasm: bytes) -> None:
    """The code section, without its count of functions, is not too large.

    Raises: BrokenRule.
    """
    for part in binary.sections(wasm):
        if part.kind == binary.CODE:
            reader = binary.Reader(wasm, part.start, part.end)
            reader.unsigned()
            size = part.end - reader.pos
            if size > MAX_CODE_SECTION_BYTES:
                why = f"Wasm module code section size of {size} exceeds the maximum allowed size of {MAX_CODE_SECTION_BYTES}"
                raise BrokenRule(Rule.CODE_SECTION_TOO_LARGE, why, offset=part.start)
            return


def check(module: Module, limits: ModuleLimits) -> None:
    """All rules about imports, exports, data, globals, functions and memory.

    Raises: InvalidWasm for the first one broken.
    """
    _check_imports(module)
    _check_exports(module)
    _check_data(module)
    _check_globals(module)
    if len(module.functions) > MAX_FUNCTIONS:
        raise too_many(Rule.TOO_MANY_FUNCTIONS, "functions", len(module.functions), MAX_FUNCTIONS)
    _check_memory(module, limits)


def too_many(rule: Rule, what: str, defined: int, allowed: int) -> BrokenRule:
    """The error for a count above its limit."""
    return BrokenRule(rule, f"Wasm module defined {defined} {what} which exceeds the maximum number allowed {allowed}.")


_INVALID = {
    "import": Rule.INVALID_IMPORT_SECTION,
    "export": Rule.INVALID_EXPORT_SECTION,
    "data": Rule.INVALID_DATA_SECTION,
    "global": Rule.INVALID_GLOBAL_SECTION,
    "custom": Rule.INVALID_CUSTOM_SECTION,
}


def _invalid(section: str, why: str, item: str) -> BrokenRule:
    return BrokenRule(_INVALID[section], f"Wasm module has an invalid {section} section. {why}", item=item)


def _rust(types: bytes) -> str:
    return "[" + ", ".join(TYPE_NAMES.get(one, hex(one)).upper() for one in types) + "]"


def _check_signature(what: str, name: str, expected: tuple[bytes, bytes], found: FunctionType) -> None:
    """Imports and exports have exactly the signature that the System API gives them."""
    for side, wanted, given in (
        ("input params", expected[0], found.params),
        ("return type", expected[1], found.results),
    ):
        if given != wanted:
            why = f"Expected {side} {_rust(wanted)} for '{name}', got {_rust(given)}."
            start = "Wasm module has an invalid function signature."
            raise BrokenRule(Rule.INVALID_FUNCTION_SIGNATURE, f"{start} {why}", item=f"{what} {name!r}")


def _check_imports(module: Module) -> None:
    known = SIGNATURES[module.wasm64]
    for one in module.imports:
        item = f"import {one.module}.{one.name}"
        if one.kind is Kind.FUNCTION:
            if one.name not in known:
                why = f"Module imports function '{one.name}' from '{one.module}' that is not exported by the runtime."
                raise _invalid("import", why, item)
            if one.module != IC0:
                where = f'Module imports function "{one.name}" from "{one.module}"'
                raise _invalid("import", f'{where}, expected to be imported from one of ["{IC0}"] instead.', item)
            _check_signature("import", one.name, known[one.name], module.types[one.type_index])
        elif one.kind is Kind.TABLE:
            if one.name == "table" and one.module != "env":
                raise _invalid("import", "Only tables imported from env.table are allowed.", item)
        elif one.kind is Kind.MEMORY:
            if one.name == "memory" and one.module != "env":
                raise _invalid("import", "Only memory imported from env.memory is allowed.", item)
        else:
            what = "globals" if one.kind is Kind.GLOBAL else "tags"
            raise _invalid("import", f"Importing {what} is not allowed.", item)


def _check_exports(module: Module) -> None:
    methods: dict[str, None] = {}
    name_bytes = 0
    for one in module.exports:
        item = f"export {one.name!r}"
        if one.name in RESERVED:
            raise _invalid("export", f"Exporting reserved symbol {one.name} not allowed.", item)
        if one.kind is not Kind.FUNCTION or not one.name.startswith("canister_"):
            continue
        prefix, space, method = one.name.partition(" ")
        if space and prefix in METHOD_KINDS:
            if method in methods:
                raise BrokenRule(Rule.DUPLICATE_EXPORT, f"Wasm module has duplicate exports of method '{method}'", item=item)
            methods[method] = None
            name_bytes += len(method.encode())
        elif one.name not in ENTRY_POINTS:
            raise _invalid("export", f"Exporting reserved function '{one.name}' with \"canister_\" prefix", item)
        _check_signature("export", one.name, (b"", b""), module.type_of(one.index))
    if len(methods) > MAX_METHODS:
        raise too_many(Rule.TOO_MANY_EXPORTS, "exported methods", len(methods), MAX_METHODS)
    if name_bytes > MAX_METHOD_NAME_BYTES:
        why = f"Wasm module exports methods whose names have a total length of {name_bytes} "
        why += f"which exceeds the maximum allowed {MAX_METHOD_NAME_BYTES}"
        raise BrokenRule(Rule.EXPORTED_NAMES_TOO_LONG, why)


def _check_data(module: Module) -> None:
    expected = I64 if module.wasm64 else I32
    for index, segment in enumerate(module.data):
        if segment.offset is not None and segment.offset_type != expected:
            bits = 64 if module.wasm64 else 32
            why = f"Invalid offset expression in data segment for {bits}bit memory"
            raise _invalid("data", why, f"data segment {index}")


def _check_globals(module: Module) -> None:
    if len(module.globals) > MAX_GLOBALS:
        raise too_many(Rule.TOO_MANY_GLOBALS, "globals", len(module.globals), MAX_GLOBALS)
    for index, one in enumerate(module.globals):
        if one.value_type not in _NUMBERS:
            kind = TYPE_NAMES.get(one.value_type, hex(one.value_type))
            raise _invalid("global", f"Unsupported global type: {kind}", f"global {index}")


def _check_memory(module: Module, limits: ModuleLimits) -> None:
    if module.wasm64 and (declared := module.memories[0].maximum) is not None:
        allowed = limits.max_wasm64_heap // WASM_PAGE_BYTES
        if declared > allowed:
            why = f"Wasm module defined a memory of {declared} pages which exceeds the maximum number allowed {allowed}."
            raise BrokenRule(Rule.WASM_MEMORY_TOO_LARGE, why)


def custom_sections(module: Module) -> tuple[CustomSection, ...]:
    """The `icp:` sections, by name.

    Raises: InvalidWasm.
    """
    found: dict[str, CustomSection] = {}
    size = 0
    for full, content in module.custom:
        if not full.startswith("icp:"):
            continue
        item = f"custom section {full!r}"
        scope, space, name = full.removeprefix("icp:").partition(" ")
        if scope not in ("public", "private"):
            raise _invalid(
                "custom", f"Invalid custom section: Custom section '{full}' has no public/private scope defined.", item
            )
        if not space:
            raise _invalid("custom", "'icp:' section names must have a space after the public/private scope", item)
        if name in found:
            raise _invalid("custom", f"Invalid custom section: name {name} already exists", item)
        size += len(name.encode()) + len(content)
        if size > MAX_CUSTOM_SECTION_BYTES:
            raise _invalid(
                "custom",
                "Invalid custom sections: total size of the custom sections exceeds the maximum allowed: "
                f"size {size} bytes, allowed {MAX_CUSTOM_SECTION_BYTES} bytes",
                item,
            )
        found[name] = CustomSection(name, scope == "public", content)
        if len(found) > MAX_CUSTOM_SECTIONS:
            raise too_many(Rule.TOO_MANY_CUSTOM_SECTIONS, "custom sections", len(found), MAX_CUSTOM_SECTIONS)
    return tuple(found[name] for name in sorted(found))
