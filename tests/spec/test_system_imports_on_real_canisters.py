"""System API functions that the universal canister doesn't use, and the bounds of all that copy, called from text modules.

Abstract behaviour, "System imports", "Helper functions", "The concrete `Callback`"; canister interface, "Blob-typed arguments
and results", "Cycles", "Cycle cost calculation".
"""

from __future__ import annotations

import pytest

from ic_types.principal import CanisterId
from sandbox.wasm.binary import I32, I64
from sandbox.wasm.imports import SIGNATURES
from subnet.lab.universal import Program
from tests.support.spec_node import FEES, USER, SpecNode
from tests.support.wasm_samples import compile_wat

pytestmark = pytest.mark.slow
MEMORY = 65536
KINDS = {I32: "i32", I64: "i64"}


def imports(*names: str) -> str:
    """Import declarations, each under its own name."""
    lines = []
    for name in ("msg_reply", "msg_reply_data_append", *names):
        params, results = ([KINDS[kind] for kind in side] for side in SIGNATURES[False][name])
        signature = "".join(f"(param {p})" for p in params) + "".join(f"(result {r})" for r in results)
        lines.append(f'(import "ic0" "{name}" (func ${name} {signature}))')
    return "\n".join(lines)


def method(name: str, body: str, reply: int = 0, kind: str = "update") -> str:
    """A method that replies with the first bytes of memory afterwards; what queries change is forgotten."""
    answer = f"(call $msg_reply_data_append (i32.const 0) (i32.const {reply})) (call $msg_reply)"
    return f'(func (export "canister_{kind} {name}") {body} {answer})'


def put(node: SpecNode, text: str) -> CanisterId:
    """A canister with this code."""
    canister = node.create()
    node.put(canister, compile_wat(f"(module {text})")).replied  # noqa: B018
    return canister


COPIES = {
    "msg_arg_data_copy": 4,
    "msg_caller_copy": len(USER),
    "canister_self_copy": 10,
    "subnet_self_copy": 29,
    "root_key_copy": 133,
}
"""Copying functions and the length of what they copy."""
SOURCES = {
    "msg_reply_data_append": "",
    "msg_reject": "",
    "certified_data_set": "",
    "is_controller": "drop",
    "call_data_append": "",
}
"""Functions that read a range of memory."""
CALL_NEW = "(call $call_new (i32.const 0) (i32.const 0)" + " (i32.const 0)" * 6 + ")"


def bounds_module() -> str:
    """A method for each function and each way to point outside or to the last byte."""
    methods = []
    for name, size in COPIES.items():
        cases = {
            "all": (0, 0, size),
            "end": (MEMORY - 1, size - 1, 1),
            "nothing": (MEMORY, size, 0),
            "too_much": (0, 0, size + 1),
            "offset": (0, size, 1),
            "beyond": (MEMORY - 1, 0, 2),
            "wrapping": (0xFFFFFFFF, 0, 2),
            "wrapping_offset": (0, 0xFFFFFFFF, 2),
        }
        for case, values in cases.items():
            arguments = " ".join(f"(i32.const {value})" for value in values)
            methods.append(method(f"{name} {case}", f"(call ${name} {arguments})"))
    for name, after in SOURCES.items():
        for case, (source, size) in {"end": (MEMORY - 1, 1), "beyond": (MEMORY - 1, 2), "wrapping": (0xFFFFFFFF, 2)}.items():
            before = CALL_NEW if name == "call_data_append" else ""
            call = f"(call ${name} (i32.const {source}) (i32.const {size}))"
            body = before + (f"(drop {call})" if after else call)
            tail = "" if name == "msg_reject" else "(call $msg_reply)"
            methods.append(f'(func (export "canister_update {name} {case}") {body} {tail})')
    names = [name for name in (*COPIES, *SOURCES, "call_new") if name != "msg_reply_data_append"]
    return imports(*names) + "(memory 1)" + "".join(methods)


@pytest.fixture(scope="module")
def bounds(module_node: SpecNode) -> CanisterId:
    """The canister of `bounds_module`."""
    return put(module_node, bounds_module())


@pytest.mark.spec("helper-functions")
@pytest.mark.spec("ic0.msg_arg_data_copy")
@pytest.mark.spec("ic0.msg_caller_copy")
@pytest.mark.spec("ic0.canister_self_copy")
@pytest.mark.spec("ic0.subnet_self_copy")
@pytest.mark.spec("ic0.root_key_copy")
@pytest.mark.parametrize("name", COPIES)
def test_bounds_of_copies(node: SpecNode, bounds: CanisterId, name: str) -> None:
    """Traps if offset + size > |data| or dst + size > |memory|, without wrapping around; zero bytes fit at both ends."""
    for case in ("all", "end", "nothing"):
        node.ask(bounds, b"four", f"{name} {case}").replied  # noqa: B018
    for case in ("too_much", "offset", "beyond", "wrapping", "wrapping_offset"):
        assert node.ask(bounds, b"four", f"{name} {case}").code == 5, case


@pytest.mark.spec("helper-functions")
@pytest.mark.spec("ic0.msg_reply_data_append")
@pytest.mark.spec("ic0.msg_reject")
@pytest.mark.spec("ic0.certified_data_set")
@pytest.mark.spec("ic0.is_controller")
@pytest.mark.spec("ic0.call_data_append")
@pytest.mark.parametrize("name", SOURCES)
def test_bounds_of_sources(node: SpecNode, bounds: CanisterId, name: str) -> None:
    """Traps if src + size > |memory|."""
    inside = node.ask(bounds, b"", f"{name} end")
    if name == "msg_reject":
        assert inside.rejected == (4, "IC0406")
    else:
        assert len(inside.replied) == (name == "msg_reply_data_append")
    for case in ("beyond", "wrapping"):
        assert node.ask(bounds, b"", f"{name} {case}").code == 5, case


NARROW_CYCLES = (
    imports("msg_cycles_available", "msg_cycles_accept", "msg_cycles_refunded", "canister_cycle_balance", "call_cycles_add")
    + imports("call_new", "call_perform", "call_data_append", "msg_arg_data_copy").split("\n", 2)[2]
    + """
    (memory 1)
    (table funcref (elem $back))
    (data (i32.const 1000) "take")
    (func $back (param i32)
      (i64.store (i32.const 0) (call $msg_cycles_refunded))
      (call $msg_reply_data_append (i32.const 0) (i32.const 8)) (call $msg_reply))
    (func (export "canister_update give") ;; argument: 10 bytes of id, 8 of cycles, added twice
      (call $msg_arg_data_copy (i32.const 100) (i32.const 0) (i32.const 18))
      (call $call_new (i32.const 100) (i32.const 10) (i32.const 1000) (i32.const 4)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $call_cycles_add (i64.load (i32.const 110)))
      (call $call_cycles_add (i64.load (i32.const 110)))
      (if (call $call_perform) (then unreachable)))"""
    + method(
        "take",
        """(i64.store (i32.const 0) (call $msg_cycles_available))
      (i64.store (i32.const 8) (call $msg_cycles_accept (i64.const 30)))
      (i64.store (i32.const 16) (call $msg_cycles_available))""",
        24,
    )
    + method("balance", "(i64.store (i32.const 0) (call $canister_cycle_balance))", 8)
)


@pytest.mark.spec("ic0.msg_cycles_available")
@pytest.mark.spec("ic0.msg_cycles_accept")
@pytest.mark.spec("ic0.msg_cycles_refunded")
@pytest.mark.spec("ic0.call_cycles_add")
def test_cycles_in_64_bits(node: SpecNode) -> None:
    """Attached twice, seen, accepted up to what was asked for, and refunded."""
    giver, taker = put(node, NARROW_CYCLES), put(node, NARROW_CYCLES)
    reply = node.ask(giver, bytes(taker) + (50).to_bytes(8, "little"), "give").number
    assert reply == 70
    caller = node.universal()
    seen = node.ask(caller, Program().call(taker, "take", cycles=100)).replied
    assert [int.from_bytes(seen[k : k + 8], "little") for k in (0, 8, 16)] == [100, 30, 70]
    most = node.ask(giver, bytes(taker) + ((1 << 64) - 1).to_bytes(8, "little"), "give")
    assert most.rejected == (5, "IC0504")  # it doesn't have as many


@pytest.mark.spec("ic0.canister_cycle_balance")
@pytest.mark.spec("ic0.msg_cycles_available")
@pytest.mark.spec("ic0.msg_cycles_refunded")
def test_cycles_beyond_64_bits_trap_there(node: SpecNode) -> None:
    """IC0502 where the amount doesn't fit."""
    poor, taker = put(node, NARROW_CYCLES), put(node, NARROW_CYCLES)
    assert 0 < node.ask(poor, b"", "balance").number < node.balance(poor)
    rich = node.create(1 << 70)
    node.put(rich, compile_wat(f"(module {NARROW_CYCLES})")).replied  # noqa: B018
    outcome = node.ask(rich, b"", "balance")
    assert outcome.rejected == (5, "IC0502")
    assert "cycles amount exceeds 64-bit representation" in outcome.message
    caller = node.universal(cycles=1 << 70)
    refused = node.ask(caller, Program().call(taker, "take", cycles=1 << 64))
    assert "cycles amount exceeds 64-bit representation" in refused.message
    most = node.ask(rich, bytes(taker) + ((1 << 64) - 1).to_bytes(8, "little"), "give")
    assert "cycles amount exceeds 64-bit representation" in most.message  # in the callback, of the refund


COSTS = (
    imports("cost_http_request", "cost_sign_with_ecdsa", "cost_sign_with_schnorr", "cost_vetkd_derive_key")
    + '(memory 1) (data (i32.const 500) "key_1") (data (i32.const 600) "nokey") (data (i32.const 0) "untouched")'
    + method("http", "(call $cost_http_request (i64.const 1000) (i64.const 2000) (i32.const 0))", 16, "query")
    + "".join(
        method(
            f"{name} {known} {kind}",
            f"(i32.store (i32.const 16) (call ${name} (i32.const {500 if known else 600}) (i32.const 5) (i32.const {kind}) "
            "(i32.const 0)))",
            20,
            "query",
        )
        for name in ("cost_sign_with_ecdsa", "cost_sign_with_schnorr", "cost_vetkd_derive_key")
        for known in (0, 1)
        for kind in (0, 1, 2)
    )
)


@pytest.mark.spec("ic0.cost_http_request")
@pytest.mark.spec("ic0.cost_sign_with_ecdsa")
@pytest.mark.spec("ic0.cost_sign_with_schnorr")
@pytest.mark.spec("ic0.cost_vetkd_derive_key")
def test_costs(node: SpecNode) -> None:
    """The fee and 0; 1 for an unknown curve or algorithm, 2 for an unknown key, with memory left as it is."""
    canister = put(node, COSTS)
    assert node.ask(canister, b"", "http").number == FEES.http_request(1000, 2000)
    for name, kinds in (("cost_sign_with_ecdsa", 1), ("cost_sign_with_schnorr", 2), ("cost_vetkd_derive_key", 1)):
        for kind in (0, 1, 2):
            for known in (0, 1):
                reply = node.ask(canister, b"", f"{name} {known} {kind}").replied
                code = 1 if kind >= kinds else 0 if known else 2
                memory = FEES.signature.to_bytes(16, "little") if code == 0 else b"untouched".ljust(16, b"\0")
                assert (reply[16], reply[:16]) == (code, memory)


@pytest.mark.spec("ic0.msg_caller_info_data_size")
@pytest.mark.spec("ic0.msg_caller_info_data_copy")
@pytest.mark.spec("ic0.msg_caller_info_signer_size")
@pytest.mark.spec("ic0.msg_caller_info_signer_copy")
def test_caller_info_is_empty_without_canister_signatures(node: SpecNode) -> None:
    """For users with plain keys and for canisters."""
    names = [f"msg_caller_info_{what}_{how}" for what in ("data", "signer") for how in ("size", "copy")]
    sizes = [f"(i32.store (i32.const {8 * k}) (call ${name}))" for k, name in enumerate(names) if name.endswith("size")]
    copies = [f"(call ${name} (i32.const 0) (i32.const 0) (i32.const 0))" for name in names if name.endswith("copy")]
    filled = '(memory 1) (data (i32.const 0) "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")'
    canister = put(node, imports(*names) + filled + method("ask", "".join(sizes + copies), 20))
    expected = b"\0\0\0\0xxxx" + b"xxxxxxxx" + b"\0\0\0\0"
    assert node.ask(canister, b"", "ask").replied == expected
    assert node.ask(node.universal(), Program().call(canister, "ask")).replied == expected


CALLBACKS = (
    imports("call_new", "call_perform", "call_on_cleanup", "canister_self_copy", "msg_arg_data_copy", "msg_reject_code")
    + """
    (memory 1)
    (table 4 funcref)
    (elem (i32.const 0) $told $narrow)
    (data (i32.const 1000) "echo")
    (func $told (param $env i32)
      (i32.store (i32.const 0) (local.get $env))
      (call $msg_reply_data_append (i32.const 0) (i32.const 4)) (call $msg_reply))
    (func $narrow)
    (func (export "canister_update echo") (call $msg_reply))
    (func (export "canister_update call") ;; argument: functions and environments on reply and on reject
      (call $canister_self_copy (i32.const 200) (i32.const 0) (i32.const 10))
      (call $msg_arg_data_copy (i32.const 100) (i32.const 0) (i32.const 16))
      (call $call_new (i32.const 200) (i32.const 10) (i32.const 1000) (i32.const 4)
        (i32.load (i32.const 100)) (i32.load (i32.const 104)) (i32.load (i32.const 108)) (i32.load (i32.const 112)))
      (if (call $call_perform) (then unreachable)))
    (func (export "canister_update cleanup_twice")
      (call $call_new (i32.const 200) (i32.const 10) (i32.const 1000) (i32.const 4)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
      (call $call_on_cleanup (i32.const 0) (i32.const 0))
      (call $call_on_cleanup (i32.const 0) (i32.const 0)))"""
)


@pytest.mark.spec("concrete-callback")
@pytest.mark.spec("concrete-canister-module")
@pytest.mark.spec("ic0.call_new")
def test_closures(node: SpecNode) -> None:
    """The function at the index gets its environment; no function there, or one of another type, fails the callback."""
    canister = put(node, CALLBACKS)

    def call(fun: int, env: int) -> bytes:
        return b"".join(value.to_bytes(4, "little") for value in (fun, env, 0, 0))

    for env in (0, 7, 0xFFFFFFFF):
        assert node.ask(canister, call(0, env), "call").number == env
    narrow = node.ask(canister, call(1, 0), "call")
    assert narrow.rejected == (5, "IC0504")
    assert "function invocation does not match its signature" in narrow.message
    for index in (2, 4, 1 << 31):
        missing = node.ask(canister, call(index, 0), "call")
        assert missing.rejected == (5, "IC0513")
        assert f"non-existent Wasm function {index} from table 0" in missing.message


@pytest.mark.spec("ic0.call_on_cleanup")
def test_second_cleanup_traps(node: SpecNode) -> None:
    """At most one call_on_cleanup for a call."""
    outcome = node.ask(put(node, CALLBACKS), b"", "cleanup_twice")
    assert outcome.rejected == (5, "IC0504")
    assert "can be called at most once between `ic0.call_new` and `ic0.call_perform`" in outcome.message


@pytest.mark.spec("execution-state")
@pytest.mark.spec("concrete-canister-module")
@pytest.mark.parametrize(
    ("name", "fails"), [("canister_self_size", True), ("msg_caller_size", True), ("stable64_size", False), ("time", True)]
)
def test_start_function_sees_little(node: SpecNode, name: str, fails: bool) -> None:
    """Its context is `s`: an install whose start function asks for more fails with IC0504."""
    canister = node.create()
    text = imports(name) + f"(memory 1) (func $go (drop (call ${name}))) (start $go)"
    outcome = node.put(canister, compile_wat(f"(module {text})"))
    assert outcome.error == ("IC0504" if fails else "")
    if fails:
        assert "cannot be executed in start mode" in outcome.message
