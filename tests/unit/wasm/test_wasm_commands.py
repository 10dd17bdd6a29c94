"""`icsim wasm`: what check tells, which rule a refusal names and where, what instrument writes, what profile counts."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from sandbox.engine_config import make_engine
from sandbox.protocol import EntryPoint
from subnet.cli.main import run
from tests.support.wasm_samples import COUNTER, HEAP_COUNTER, compile_wat, custom_section
from tests.unit.sandbox_process.sandbox_harness import Harness, message

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "canisters"
FRAMES = """(module
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $write (param i64 i64 i64)))
  (memory 1) (table 1 funcref) (elem (i32.const 0) $leaf)
  (func $leaf (param i32) (result i32) (i32.mul (local.get 0) (local.get 0)))
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_u (local.get 0) (i32.const 2)) (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func $pair (param i64 f64) (result f64 i64) (local.get 1) (local.get 0))
  (func $start (i32.store (i32.const 100) (i32.const 1)))
  (start $start)
  (func (export "canister_init") (i32.store (i32.const 104) (i32.const 2)))
  (func (export "canister_update work")
    (i32.store (i32.const 0) (call $fib (i32.const 7)))
    (i32.store (i32.const 8192) (call_indirect (param i32) (result i32) (i32.const 5) (i32.const 0)))
    (drop (drop (call $pair (i64.const 1) (f64.const 2))))
    (drop (call $grow (i64.const 1))) (call $write (i64.const 0) (i64.const 0) (i64.const 10))
    (call $append (i32.const 0) (i32.const 4)) (call $reply))
  (func (export "canister_update fail") (drop (call $fib (i32.const 3))) (call $deep))
  (func $deep (drop (i32.div_u (i32.const 1) (i32.const 0))))
  (func (export "canister_query ask") (call $append (i32.const 100) (i32.const 8)) (call $reply)))"""


def _file(folder: Path, wasm: bytes) -> str:
    path = folder / "module.wasm"
    path.write_bytes(wasm)
    return str(path)


# --- check


def test_check_describes_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Verdict, methods, imports, custom sections, sizes; packed ones too."""
    wasm = compile_wat(COUNTER) + custom_section("icp:public candid:service", b"service : {}")
    assert run(["wasm", "check", _file(tmp_path, gzip.compress(wasm))]) == 0
    told = capsys.readouterr().out
    for part in (
        "is a valid canister module", f"gzipped from {len(wasm):,}", "inc", "get", "msg_reply_data_append", "i32 i32 ->",
        "candid:service", "public", "32-bit, 0.1 MiB at first, 4,096.0 MiB at most", "code",
    ):  # fmt: skip
        assert part in told, part


@pytest.mark.parametrize(
    ("source", "rule", "where"),
    [
        ('(module (import "ic0" "nothing" (func)))', "InvalidImportSection", "import ic0.nothing"),
        ('(module (import "ic0" "time" (func)))', "InvalidFunctionSignature", "import 'time'"),
        ('(module (func (export "canister_inits")))', "InvalidExportSection", "export 'canister_inits'"),
        ('(module (func (export "canister_init") (param i32)))', "InvalidFunctionSignature", "export 'canister_init'"),
        ('(module (func (export "canister_query a") (export "canister_update a")))', "DuplicateExport", "'canister_update a'"),
        ("(module (global externref (ref.null extern)))", "InvalidGlobalSection", "global 0"),
        ("(module " + "(global i32 (i32.const 0))" * 1001 + ")", "TooManyGlobals", ""),
        ('(module (memory 1) (data (i32.const 65535) "ab"))', "InvalidDataSegment", "data segment 0"),
        ('(module (memory 1) (data (i32.add (i32.const 1) (i32.const 1)) "ab"))', "InvalidDataSection", "data segment 0"),
        ("(module (memory i64 1 100000000))", "WasmMemoryTooLarge", ""),
        (
            '(module (import "ic0" "msg_reply" (func)) (table 1 funcref) (func)'
            "(func $odd (table.set (i32.const 0) (ref.null func))))",
            "UnsupportedWasmInstruction", "function 2 `odd`",
        ),
        ("(module (table 2000000 funcref))", "FailedToInstantiateModule", ""),
        ("(module (table 1 funcref) (elem (i32.const 1) func 0) (func))", "FailedToInstantiateModule", "element segment"),
    ],
)  # fmt: skip
def test_refusals_name_rule_and_place(
    source: str, rule: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, the replica's words, its name of the rule, the item."""
    assert run(["wasm", "check", _file(tmp_path, compile_wat(source))]) == 2
    told = capsys.readouterr().err
    assert f"rule:  {rule}: " in told
    assert where in told
    assert ("where: " in told) == bool(where)


def test_engine_errors_are_located(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte that no operator has is placed in its function; a bad section in the section."""
    wasm = bytearray(compile_wat('(module (func) (func $here (export "x") (result i32) (i32.const 5)))'))
    wasm[wasm.index(b"\x41\x05")] = 0x27
    assert run(["wasm", "check", _file(tmp_path, bytes(wasm))]) == 2
    told = capsys.readouterr().err
    assert "rule:  WasmtimeValidation: " in told
    assert "in function 1 `here`" in told
    assert run(["wasm", "check", _file(tmp_path, b"\0asm\1\0\0\0\1\5\1\x60\1\x50\0")]) == 2
    assert "in section type" in capsys.readouterr().err
    assert run(["wasm", "check", _file(tmp_path, b"no module")]) == 2
    assert "rule:  DecodingError: " in capsys.readouterr().err
    assert run(["wasm", "check", str(tmp_path / "nothing.wasm")]) == 2
    assert "can't be read" in capsys.readouterr().err


# --- instrument


def test_instrument_writes_what_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is a module that the engine compiles, with the counter exported."""
    out = tmp_path / "out.wasm"
    assert run(["wasm", "instrument", _file(tmp_path, compile_wat(HEAP_COUNTER)), "-o", str(out)]) == 0
    assert "instructions" in capsys.readouterr().out
    module = wasmtime.Module(make_engine(), out.read_bytes())
    assert "canister counter_instructions" in [export.name for export in module.exports]
    assert run(["wasm", "instrument", _file(tmp_path, compile_wat(HEAP_COUNTER)), "-o", "/nonexistent/x"]) == 2
    assert "can't be written" in capsys.readouterr().err


# --- profile


def _profile(folder: Path, *arguments: str) -> tuple[int, dict[str, tuple[int, int, int]], dict[str, Any], str]:
    """Exit code, (calls, own, whole) by function, the flame graph, what was printed."""
    out = folder / "flame.json"
    command = [sys.executable, "-m", "subnet.cli.main", "wasm", "profile", *arguments, "-o", str(out)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert told.returncode in (0, 1), told.stderr
    rows = {}
    for line in told.stdout.splitlines()[3:]:
        words = line.replace(",", "").rsplit(maxsplit=5)
        if len(words) == 6 and words[4] == "%" and words[1].isdigit():
            rows[words[0]] = (int(words[1]), int(words[2]), int(words[5]))
    return told.returncode, rows, json.loads(out.read_text()), told.stdout


def _total(flame: dict[str, Any]) -> int:
    [profile] = flame["profiles"]
    assert profile["type"] == "sampled"
    assert sum(profile["weights"]) == profile["endValue"]
    assert len(profile["samples"]) == len(profile["weights"])
    assert all(0 <= frame < len(flame["shared"]["frames"]) for stack in profile["samples"] for frame in stack)
    return int(profile["endValue"])


@pytest.mark.slow
def test_profile_adds_up(tmp_path: Path) -> None:
    """Own counts of a table and weights of the flame graph are the call's total; hand-computed counts of functions agree."""
    code, rows, flame, told = _profile(tmp_path, _file(tmp_path, compile_wat(FRAMES)), "work", "()")
    assert code == 0
    total = _total(flame)
    assert sum(own for _, own, _ in rows.values()) == total
    # fib: 1 + local.get, const, lt_u, if = 6 in all; then: 1; else: 2 x (get, const, sub, call) + add = 17
    leaves, inner = 21, 20
    assert rows["fib"] == (41, 41 * 6 + leaves * 1 + inner * 17, 41 * 6 + leaves * 1 + inner * 17)
    assert rows["leaf"] == (1, 4, 4)
    assert rows["pair"] == (1, 3, 3)
    assert rows["ic0.stable64_grow"] == (1, 100, 100)
    assert rows["ic0.stable64_write"] == (1, 1000 + 20 + 10, 1030)
    assert rows["ic0.msg_reply_data_append"] == (1, 500 + 4 * 50, 700)
    assert rows["[changed pages of the heap]"] == (0, 2000, 2000)
    assert rows["canister_update work"][2] == total - 2000
    assert "start" not in rows
    assert "replied: 0x0d000000" in told
    with Harness(compile_wat(FRAMES)) as box:  # without frames
        box.one(message("", EntryPoint.START))
        box.one(message("", EntryPoint.INIT))
        assert box.one(message("work")).instructions == total - 2000


@pytest.mark.slow
def test_profile_of_a_trap_adds_up(tmp_path: Path) -> None:
    """Where a call ends in the middle, the rest belongs to the function that trapped; the exit code is 1."""
    code, rows, flame, told = _profile(tmp_path, _file(tmp_path, compile_wat(FRAMES)), "fail", "()")
    assert code == 1
    assert sum(own for _, own, _ in rows.values()) == _total(flame)
    assert rows["deep"] == (1, 1 + 2 + 10 + 1, 14)
    assert "integer division by 0" in told


@pytest.mark.slow
def test_profile_runs_after_the_install(tmp_path: Path) -> None:
    """A query sees what start function and init left; entry points can be profiled by themselves."""
    file = _file(tmp_path, compile_wat(FRAMES))
    _, _, _, told = _profile(tmp_path, file, "ask", "--hex")
    assert "replied: 0100000002000000" in told
    _, rows, flame, _ = _profile(tmp_path, file, "canister_start")
    assert rows["start"] == (1, 4, 4)
    assert _total(flame) == 1004


@pytest.mark.slow
def test_profile_of_a_real_canister(tmp_path: Path) -> None:
    """A Motoko canister with its own names and an argument for its install."""
    init = '(record {minter = principal "aaaaa-aa"; symbol = "TOK"})'
    arguments = ("mint", '(principal "2vxsx-fae", 5)', "--init", init, "--caller", "aaaaa-aa")
    code, rows, flame, told = _profile(tmp_path, str(EXAMPLES / "ledger.wasm"), *arguments)
    assert code == 0
    assert "ok = 1 : nat" in told
    assert rows["ic0.msg_reply"][0] == 1
    assert _total(flame) > 10_000


@pytest.mark.slow
def test_profile_refuses_what_it_can_not_run(tmp_path: Path) -> None:
    """Unknown methods are told what there is; a module that breaks a rule is refused as by check."""
    for wasm, method, told in (
        (compile_wat(COUNTER), "dec", "no method 'dec'; it has: inc, get"),
        (compile_wat('(module (import "a" "b" (func)))'), "x", "rule:  InvalidImportSection"),
    ):
        command = [sys.executable, "-m", "subnet.cli.main", "wasm", "profile", _file(tmp_path, wasm), method]
        run_ = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
        assert run_.returncode == 2
        assert told in run_.stderr
