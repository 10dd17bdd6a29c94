"""The rules for submitted modules: each limit at its edge, each refusal with its reason."""

from __future__ import annotations

import gzip

import pytest

from configs.limits import MIB, SubnetLimits
from ic_types.errors import InvalidWasm
from sandbox.wasm import binary, validation
from sandbox.wasm.decoding import MAX_MODULE_BYTES
from sandbox.wasm.prepare import prepare, refusal_charge
from tests.support.wasm_samples import COUNTER, HEAP_COUNTER, LIFECYCLE, compile_wat, custom_section

LIMITS = SubnetLimits()


def _refused(module: str | bytes, reason: str) -> None:
    wasm = compile_wat(module) if isinstance(module, str) else module
    with pytest.raises(InvalidWasm, match=reason):
        prepare(wasm, LIMITS)


# --- format


def test_gzipped_modules_have_their_own_hash() -> None:
    """The result is that of the plain module, the hash that of the submitted bytes."""
    plain = compile_wat(COUNTER)
    packed = gzip.compress(plain)
    one, other = prepare(plain, LIMITS), prepare(packed, LIMITS)
    assert one.code == other.code
    assert one.info.module_hash != other.info.module_hash


def test_unknown_format() -> None:
    """Anything but the two magic numbers is refused, and charged by its own size."""
    for wasm in (b"", b"\0as", b"hello", b"\x1f\x8b\x07" + bytes(20)):
        _refused(wasm, "unsupported canister module format")
        assert refusal_charge(wasm, LIMITS) == 6000 * len(wasm)


def test_gzip_stream_too_short_or_broken() -> None:
    """Fifteen bytes are too few; a stream must unpack completely."""
    _refused(b"\x1f\x8b\x08" + bytes(12), "too short")
    packed = gzip.compress(compile_wat(COUNTER))
    _refused(packed[:10] + bytes(30) + packed[-4:], "failed to decode compressed Wasm module|does not match")
    _refused(packed[:-8] + packed[-4:], "failed to decode compressed")


def test_gzip_footer_must_tell_the_truth() -> None:
    """Announced size too small, too large and beyond the limit."""
    plain = compile_wat(COUNTER)
    packed = gzip.compress(plain)
    for claimed in (len(plain) - 1, 0, 7):
        _refused(packed[:-4] + claimed.to_bytes(4, "little"), "does not match|compressed")
    _refused(packed[:-4] + (len(plain) + 1).to_bytes(4, "little"), "compressed|does not match")
    bomb = packed[:-4] + (MAX_MODULE_BYTES + 1).to_bytes(4, "little")
    _refused(bomb, "exceeds the maximum allowed size")
    assert refusal_charge(bomb, LIMITS) == 6000 * (MAX_MODULE_BYTES + 1)


def test_gzip_bomb_is_not_unpacked() -> None:
    """A stream of 64 MiB that claims a hundred bytes stops after 101."""
    packed = gzip.compress(bytes(64 * MIB))
    _refused(packed[:-4] + (100).to_bytes(4, "little"), "specified uncompressed size 100 does not match extracted size 101")


# --- engine features


@pytest.mark.parametrize(
    "text",
    [
        "(module (memory 1) (memory 1))",
        "(module (memory 1 1 shared))",
        "(module (func $f (return_call $f)))",
        "(module (func (drop (i8x16.relaxed_swizzle (v128.const i64x2 1 2) (v128.const i64x2 1 2)))))",
        "(module (type (struct)))",
        "(module (tag))",
        "(module (func (result i32) i64.const 1))",
        "(module (memory 70000))",
        "(module (type $t (func)) (func (param (ref $t))))",
        '(module (func) (export "a" (func 0)) (export "a" (func 0)))',
    ],
)
def test_features_that_are_off(text: str) -> None:
    """What the engine's feature set excludes, and what isn't valid at all."""
    _refused(text, "Wasmtime failed to validate wasm module")


def test_component_is_no_module() -> None:
    """A component has the same magic number and is refused all the same."""
    _refused(b"\0asm\x0d\0\1\0", "Wasmtime failed to validate|decode")


# --- imports


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            '(import "ic0" "nonsense" (func))',
            "Module imports function 'nonsense' from 'ic0' that is not exported by the runtime",
        ),
        (
            '(import "env" "time" (func (result i64)))',
            'imports function "time" from "env", expected to be imported from one of',
        ),
        ('(import "ic0" "time" (func (result i32)))', r"Expected return type \[I64\] for 'time', got \[I32\]"),
        ('(import "ic0" "msg_reject" (func (param i32)))', r"Expected input params \[I32, I32\] for 'msg_reject', got \[I32\]"),
        ('(import "ic0" "x" (global i32))', "Importing globals is not allowed"),
        ('(import "ic0" "table" (table 1 funcref))', "Only tables imported from env.table are allowed"),
        ('(import "ic0" "memory" (memory 1))', "Only memory imported from env.memory is allowed"),
        ('(import "env" "memory" (memory 1))', "unknown import"),
        ('(import "__" "out_of_instructions" (func))', "not exported by the runtime"),
        ('(import "ic0" "mint_cycles" (func (param i64) (result i64)))', "not exported by the runtime"),
    ],
)
def test_imports(text: str, reason: str) -> None:
    """Only functions of the System API, from `ic0`, with their exact signatures."""
    _refused(f"(module {text})", reason)


@pytest.mark.parametrize("name", ["stable_size", "canister_cycle_balance", "call_cycles_add"])
def test_apis_of_32_bit_modules_only(name: str) -> None:
    """A 64-bit memory rules them out."""
    signature = {"stable_size": "(result i32)", "canister_cycle_balance": "(result i64)", "call_cycles_add": "(param i64)"}[
        name
    ]
    text = f'(module (import "ic0" "{name}" (func {signature})) (memory WIDTH 1))'
    prepare(compile_wat(text.replace("WIDTH", "")), LIMITS)
    _refused(text.replace("WIDTH", "i64"), "not exported by the runtime")


# --- exports


@pytest.mark.parametrize("name", sorted(validation.RESERVED))
def test_reserved_exports(name: str) -> None:
    """Refused for any kind of export."""
    _refused(f'(module (func) (export "{name}" (func 0)))', f"Exporting reserved symbol {name} not allowed")
    _refused(f'(module (memory 1) (export "{name}" (memory 0)))', f"Exporting reserved symbol {name} not allowed")


def test_export_names() -> None:
    """Unknown `canister_` functions are refused; other kinds and other names are free."""
    for name in ("canister_foo", "canister_update", "canister_query", "canister_update2 x", "canister_"):
        _refused(f'(module (func) (export "{name}" (func 0)))', f"Exporting reserved function '{name}'")
    for name in ("foo", "canister update", "", "canisterx", "a b c"):
        prepare(compile_wat(f'(module (func) (export "{name}" (func 0)))'), LIMITS)
    prepare(compile_wat('(module (memory 1) (export "canister_foo" (memory 0)))'), LIMITS)


@pytest.mark.spec("management-install-code", condition=4)
@pytest.mark.spec("management-upgrade-code", condition=4)
def test_method_names_are_what_follows_the_first_space() -> None:
    """They may be empty and have spaces; the same name may appear once over all kinds."""
    info = prepare(
        compile_wat(
            '(module (func) (export "canister_update a b" (func 0)) (export "canister_query " (func 0))'
            '(export "canister_composite_query  c" (func 0)))'
        ),
        LIMITS,
    ).info
    assert (info.updates, info.queries, info.composite_queries) == (("a b",), ("",), (" c",))
    for one, other in (("update", "query"), ("update", "composite_query"), ("query", "composite_query")):
        exports = f'(export "canister_{one} a" (func 0)) (export "canister_{other} a" (func 0))'
        _refused(f"(module (func) {exports})", "Wasm module has duplicate exports of method 'a'")


@pytest.mark.parametrize("name", ["canister_init", "canister_update x", "canister_on_low_wasm_memory"])
@pytest.mark.parametrize("signature", ["(param i32)", "(result i32)"])
def test_entry_points_take_and_give_nothing(name: str, signature: str) -> None:
    """Their type is () -> ()."""
    body = "i32.const 1" if "result" in signature else ""
    _refused(f'(module (func {signature} {body}) (export "{name}" (func 0)))', f"for '{name}'")


def test_imported_functions_can_be_methods() -> None:
    """Their type is looked up among imports."""
    info = prepare(compile_wat('(module (import "ic0" "msg_reply" (func)) (export "canister_update r" (func 0)))'), LIMITS).info
    assert info.updates == ("r",)
    _refused('(module (import "ic0" "time" (func (result i64))) (export "canister_update r" (func 0)))', "return type")


def test_number_and_length_of_method_names() -> None:
    """1000 methods and 20,000 bytes of names are allowed, one more isn't."""

    def exports(count: int, length: int) -> str:
        names = [f"{k:04}".ljust(length, "x") for k in range(count)]
        return "(module (func)" + "".join(f'(export "canister_update {name}" (func 0))' for name in names) + ")"

    assert len(prepare(compile_wat(exports(1000, 20)), LIMITS).info.updates) == 1000
    _refused(exports(1001, 4), "1001 exported methods")
    _refused(exports(1000, 20).replace("0000x", "0000xx"), "total length of 20001")


def test_names_that_the_runtime_needs() -> None:
    """A function called like an injected export can't be kept."""
    _refused('(module (memory 1) (func) (export "memory" (func 0)))', "needed by the runtime")
    prepare(compile_wat('(module (memory 1) (table 1 funcref) (export "a" (memory 0)) (export "b" (table 0)))'), LIMITS)
    _refused('(module (memory 1) (export "a" (memory 0)) (export "b" (memory 0)))', "Name memory is needed by the runtime")
    _refused('(module (table 1 funcref) (export "a" (table 0)) (export "b" (table 0)))', "Name table is needed by the runtime")
    _refused(
        '(module (global (mut i32) (i32.const 0)) (func) (export "__persistent_mutable_global_0" (func 0)))',
        "needed by the runtime",
    )


# --- counts, sizes, memory, data, tables


def test_functions_and_globals() -> None:
    """50,000 functions and 1000 globals are allowed."""
    prepare(compile_wat("(module " + "(func)" * 50_000 + ")"), LIMITS)
    _refused("(module " + "(func)" * 50_001 + ")", "50001 functions")
    prepare(compile_wat("(module " + "(global i32 (i32.const 0))" * 1000 + ")"), LIMITS)
    _refused("(module " + "(global i32 (i32.const 0))" * 1001 + ")", "1001 globals")
    _refused("(module (global funcref (ref.null func)))", "Unsupported global type: funcref")


def test_function_size_and_complexity() -> None:
    """A million operators and a complexity of a million are allowed; as none counts less than 1, size alone never refuses."""
    prepare(compile_wat("(module (func " + "nop " * 999_999 + "))"), LIMITS)
    _refused("(module (func " + "nop " * 1_000_000 + "))", "complexity 1000001")
    prepare(compile_wat("(module (func)(func " + "block end " * 19_607 + "nop " * 42 + "))"), LIMITS)
    _refused("(module (func)(func " + "block end " * 19_608 + "))", "function at index 1 with complexity 1000009")


def test_code_section_size() -> None:
    """Its bytes without the count of functions; 12 MiB are allowed."""
    body = bytes((0,)) + b"\x01" * (5 * MIB - 2) + b"\x0b"

    def with_code(*bodies: bytes) -> bytes:
        types = binary.section(binary.TYPE, b"\x01\x60\x00\x00")
        functions = binary.section(binary.FUNCTION, binary.vector([b"\x00"] * len(bodies)))
        code = binary.vector(binary.unsigned(len(one)) + one for one in bodies)
        return binary.HEADER + types + functions + binary.section(binary.CODE, code)

    small = bytes((0,)) + b"\x01" * (12 * MIB - 2 * (len(body) + 4) - 3 - 2) + b"\x0b"
    with pytest.raises(InvalidWasm, match="complexity"):  # the size itself passes
        prepare(with_code(body, body, small), LIMITS)
    _refused(with_code(body, body, small + b"\x0b"), f"code section size of {12 * MIB + 1} exceeds")


@pytest.mark.parametrize(
    ("name", "operands"),
    [
        ("table.set", "(i32.const 0) (ref.null func)"),
        ("table.grow", "(ref.null func) (i32.const 0)"),
        ("table.fill", "(i32.const 0) (ref.null func) (i32.const 0)"),
        ("table.copy", "(i32.const 0) (i32.const 0) (i32.const 0)"),
        ("table.init 0", "(i32.const 0) (i32.const 0) (i32.const 0)"),
    ],
)
def test_tables_do_not_change(name: str, operands: str) -> None:
    """Operators that change a table are refused by name."""
    result = "drop" if name == "table.grow" else ""
    _refused(
        f"(module (table 1 funcref) (elem func) (func) (func {operands} {name} {result}))",
        f"function at index 1 with unsupported instruction {name.split()[0]}$",
    )
    prepare(compile_wat("(module (table 1 funcref) (elem func) (func (drop (table.size)) (elem.drop 0)))"), LIMITS)


def test_tables() -> None:
    """One table of at most a million elements, its segments inside."""
    prepare(compile_wat("(module (table 1000000 funcref))"), LIMITS)
    _refused("(module (table 1000001 funcref))", "exceeds table limits")
    _refused("(module (table 1 funcref) (table 1 funcref))", "table count too high at 2")
    prepare(compile_wat("(module (table 2 funcref) (elem (i32.const 1) 0) (func))"), LIMITS)
    _refused("(module (table 2 funcref) (elem (i32.const 2) 0) (func))", "out of bounds table access")
    _refused("(module (table 2 funcref) (elem (i32.const -1) 0) (func))", "out of bounds table access")


def test_memory() -> None:
    """A 64-bit memory may not declare more than the limit; an undeclared or larger 32-bit maximum is capped."""
    pages = LIMITS.max_wasm64_heap // 65536
    info = prepare(compile_wat("(module (memory i64 3))"), LIMITS).info
    assert (info.wasm64, info.heap_pages_initial, info.heap_pages_max) == (True, 3, pages)
    prepare(compile_wat(f"(module (memory i64 3 {pages}))"), LIMITS)
    _refused(f"(module (memory i64 3 {pages + 1}))", f"memory of {pages + 1} pages")
    assert prepare(compile_wat("(module (memory 3))"), LIMITS).info.heap_pages_max == 65536
    small = SubnetLimits(max_wasm32_heap=10 * 65536)
    assert prepare(compile_wat("(module (memory 3 20))"), small).info.heap_pages_max == 10
    with pytest.raises(InvalidWasm, match="11 memory pages"):
        prepare(compile_wat("(module (memory 11))"), small)
    assert not prepare(compile_wat("(module)"), LIMITS).info.has_memory


def test_data_segments_become_pages() -> None:
    """Bytes over a page border, later segments over earlier ones."""
    pages = prepare(
        compile_wat(
            '(module (memory 1) (data (i32.const 4094) "abcd") (data (i32.const 4095) "X") (data (i32.const 65536) ""))'
        ),
        LIMITS,
    ).info.initial_pages
    assert pages.indices == (0, 1)
    assert pages.content[4094:4098] == b"aXcd"
    assert len(pages.content) == 8192
    assert prepare(compile_wat(HEAP_COUNTER), LIMITS).info.initial_pages.indices == (16,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('(memory 1) (data (i32.const 65535) "ab")', "invalid data segment of 2 bytes at 65535"),
        ('(memory 1) (data (i32.const -1) "a")', "invalid data segment of 1 bytes at 4294967295"),
        ('(memory 0) (data (i32.const 1) "")', "invalid data segment of 0 bytes at 1"),
        (
            '(memory 1) (data (i32.add (i32.const 1) (i32.const 2)) "a")',
            "Invalid offset expression in data segment for 32bit memory",
        ),
        ('(memory i64 1) (data (i64.sub (i64.const 1) (i64.const 1)) "a")', "for 64bit memory"),
    ],
)
def test_bad_data_segments(text: str, reason: str) -> None:
    """One constant, inside the initial memory."""
    _refused(f"(module {text})", reason)


def test_reuse() -> None:
    """Only a dropped data segment leaves a trace in an instance."""
    start = '(module (memory 1) (data "x") (func '
    copies = "(memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1))"
    assert prepare(compile_wat(f"{start}{copies}))"), LIMITS).info.reuse_safe
    assert not prepare(compile_wat(f"{start}(data.drop 0)))"), LIMITS).info.reuse_safe


# --- custom sections


def test_custom_sections() -> None:
    """`icp:` sections are kept with their scope, by name; others are ignored."""
    wasm = compile_wat(COUNTER)
    for name, content in (("icp:public b", b"1"), ("other", b"2"), ("icp:private ", b"3"), ("icp:public  x y", b"")):
        wasm += custom_section(name, content)
    found = [(one.name, one.public, one.content) for one in prepare(wasm, LIMITS).info.custom_sections]
    assert found == [("", False, b"3"), (" x y", True, b""), ("b", True, b"1")]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["icp:public"], "must have a space after the public/private scope"),
        (["icp:protected x"], "has no public/private scope"),
        (["icp:"], "has no public/private scope"),
        (["icp:public a", "icp:private a"], "name a already exists"),
        ([f"icp:public {k}" for k in range(17)], "17 custom sections"),
    ],
)
def test_bad_custom_sections(names: list[str], reason: str) -> None:
    """Scope, uniqueness, number."""
    _refused(compile_wat(COUNTER) + b"".join(custom_section(name, b"") for name in names), reason)


def test_size_of_custom_sections() -> None:
    """A mebibyte of names and contents together."""

    def with_content(size: int) -> bytes:
        return compile_wat(COUNTER) + binary.section(binary.CUSTOM, binary.name("icp:public four") + bytes(size))

    prepare(with_content(MIB - 4), LIMITS)
    _refused(with_content(MIB - 3), f"size {MIB + 1} bytes, allowed {MIB} bytes")


# --- what the node learns


def test_entry_points_and_globals() -> None:
    """Every entry point, the start function among them; every mutable global under its export with its first bits."""
    info = prepare(compile_wat(LIFECYCLE), LIMITS).info
    assert info.entry_points == (
        "canister_init",
        "canister_inspect_message",
        "canister_post_upgrade",
        "canister_pre_upgrade",
        "canister_start",
    )
    text = """(module (global i32 (i32.const 1)) (global (mut i32) (i32.const -2))
        (global (export "g") (mut f64) (f64.const 1.5)) (global (mut v128) (v128.const i64x2 1 2))
        (global (mut i64) (i64.add (i64.const -5) (i64.mul (i64.const 3) (i64.const 4))))
        (global (mut f32) (f32.const nan:0x200001)) (global (mut i32) (i32.sub (i32.const 3) (i32.const 5))))"""
    found = [(one.export, one.kind, one.initial) for one in prepare(compile_wat(text), LIMITS).info.globals]
    assert found == [
        ("__persistent_mutable_global_1", "i32", 0xFFFF_FFFE),
        ("g", "f64", 0x3FF8_0000_0000_0000),
        ("__persistent_mutable_global_3", "v128", 1 | 2 << 64),
        ("__persistent_mutable_global_4", "i64", 7),
        ("__persistent_mutable_global_5", "f32", 0x7FA0_0001),
        ("__persistent_mutable_global_6", "i32", 0xFFFF_FFFE),
    ]


def test_compile_cost_counts_the_replicas_operators() -> None:
    """66 for helpers, 6 for three counters; then bodies, charges, checks, hooks, globals and stable functions."""

    def operators(text: str) -> int:
        instructions = prepare(compile_wat(text), LIMITS).info.compile_instructions
        assert instructions % 6000 == 0
        return instructions // 6000 - 72

    assert operators("(module)") == 0
    assert operators("(module (global i32 (i32.const 0)))") == 2
    assert operators("(module (func))") == 1 + 10
    assert operators("(module (func nop (loop nop)))") == 5 + 2 * 10
    # if, nop, else, nop, end, nop, end; a charge for each arm and after the end.
    assert operators("(module (func (param i32) (if (local.get 0) (then nop) (else nop)) nop))") == 8 + 10 + 3 * 4
    assert operators("(module (memory 1) (func (drop (memory.grow (i32.const 1)))))") == 4 + 10 + 3
    fill = "(memory.fill (iW.const 0) (i32.const 0) (iW.const 0))"
    assert operators(f"(module (memory 1) (func {fill.replace('W', '32')}))") == 5 + 10 + 3
    assert operators(f"(module (memory i64 1) (func {fill.replace('W', '64')}))") == 5 + 10 + 1
    assert operators('(module (import "ic0" "time" (func (result i64))))') == 0
    assert operators('(module (import "ic0" "stable64_write" (func (param i64 i64 i64))))') == 107
    assert (
        operators('(module (import "ic0" "stable_size" (func (result i32))) (import "ic0" "stable_size" (func (result i32))))')
        == 10
    )
