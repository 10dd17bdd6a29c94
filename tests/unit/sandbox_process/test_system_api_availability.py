"""Every System API function in every context: it works where the spec lists it and traps everywhere else."""

from __future__ import annotations

from functools import cache

import pytest
from sandbox_harness import Harness, make_environment, message

from ic_types.reject import ErrorCode
from sandbox.protocol import (
    Closure,
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Trapped,
)
from sandbox.system_api.availability import CONTEXT_LETTERS, CONTEXT_NAMES, SYSTEM_CALLS
from sandbox.wasm.binary import I32, I64
from sandbox.wasm.imports import SIGNATURES

SPEC = """
msg_arg_data_size msg_arg_data_copy: I U RQ NRQ CQ Ry CRy F
msg_caller_size msg_caller_copy: *
msg_caller_info_data_size msg_caller_info_data_copy: U RQ NRQ CQ Ry Rt CRy CRt C CC F
msg_caller_info_signer_size msg_caller_info_signer_copy: U RQ NRQ CQ Ry Rt CRy CRt C CC F
msg_reject_code: Ry Rt CRy CRt C
msg_reject_msg_size msg_reject_msg_copy: Rt CRt
msg_deadline: U RQ NRQ CQ Ry Rt CRy CRt
msg_reply_data_append msg_reply msg_reject: U RQ NRQ CQ Ry Rt CRy CRt
msg_cycles_available128 msg_cycles_available msg_cycles_accept128 msg_cycles_accept: U RQ Rt Ry
msg_cycles_refunded128 msg_cycles_refunded: Rt Ry
cycles_burn128: I G U RQ Ry Rt C T
canister_self_size canister_self_copy subnet_self_size subnet_self_copy: *
canister_cycle_balance128 canister_cycle_balance canister_liquid_cycle_balance128 canister_status canister_version: *
msg_method_name_size msg_method_name_copy accept_message: F
call_new call_on_cleanup call_data_append call_with_best_effort_response call_perform: U CQ Ry Rt CRy CRt T
call_cycles_add128 call_cycles_add: U Ry Rt T
stable64_size stable64_grow stable64_write stable64_read: * s
stable_size stable_grow stable_write stable_read: * s
root_key_size root_key_copy: I G U RQ Ry Rt C T
certified_data_set: I G U Ry Rt T
data_certificate_present: *
data_certificate_size data_certificate_copy: NRQ CQ
time: *
global_timer_set: I G U Ry Rt C T
performance_counter is_controller in_replicated_execution: * s
cost_call cost_create_canister cost_http_request: * s
cost_sign_with_ecdsa cost_sign_with_schnorr cost_vetkd_derive_key: * s
env_var_count env_var_name_size env_var_name_copy env_var_name_exists env_var_value_size env_var_value_copy: *
debug_print: * s
"""
"""Of the published chapter "Overview of imports"; `trap`, which always traps, has a test of its own."""
EVERYWHERE_BUT_START = tuple(letter for letter in CONTEXT_LETTERS if letter != "s")
NOT_IN_THE_SPEC = {"mint_cycles128", "cost_http_request_v2", "trap"}


@cache
def listed() -> dict[str, set[str]]:
    """Contexts of each function, by the spec."""
    found = {}
    for line in SPEC.strip().splitlines():
        names, letters = line.split(":")
        contexts = {c for letter in letters.split() for c in (EVERYWHERE_BUT_START if letter == "*" else (letter,))}
        found.update(dict.fromkeys(names.split(), contexts))
    return found


STARTED = "(call $call_new" + " ({p}.const 0)" * 8 + ")"
ARGUMENTS = {
    "env_var_name_exists": "({p}.const 16) ({p}.const 1)",
    "env_var_value_size": "({p}.const 16) ({p}.const 1)",
    "env_var_value_copy": "({p}.const 16) ({p}.const 1) ({p}.const 0) ({p}.const 0) ({p}.const 0)",
}


@cache
def module(wide: bool) -> tuple[str, tuple[str, ...]]:
    """A canister whose entry points all call the one function that a global selects; and the names in their order."""
    pointer = "i64" if wide else "i32"
    kinds = {I32: "i32", I64: "i64"}
    names = tuple(name for name in SIGNATURES[wide] if name in listed())
    imports, bodies = [], []
    for name in names:
        params, results = ([kinds[k] for k in side] for side in SIGNATURES[wide][name])
        declared = f"(param {' '.join(params)})" + (f"(result {results[0]})" if results else "")
        imports.append(f'(import "ic0" "{name}" (func ${name} {declared}))')
        arguments = ARGUMENTS.get(name, " ".join(f"({k}.const 0)" for k in params)).format(p=pointer)
        before = STARTED.format(p=pointer) if name.startswith("call_") and name != "call_new" else ""
        call = f"(call ${name} {arguments})"
        bodies.append(f"(func $do_{name} {before} {f'(drop {call})' if results else call})")
    count = len(names)
    entries = ["canister_update go", "canister_query ask", "canister_composite_query compose", "canister_init"]
    entries += [f"canister_{e}" for e in ("pre_upgrade", "inspect_message", "heartbeat")]
    return (
        f"""(module {" ".join(imports)}
 (memory {"i64 " if wide else ""}1) (data ({pointer}.const 16) "A")
 (global $which (mut i32) (i32.const 0))
 (table {count + 1} funcref)
 (elem (i32.const 0) {" ".join(f"$do_{name}" for name in names)} $callback)
 (type $plain (func)) {" ".join(bodies)}
 (func $go (call_indirect (type $plain) (global.get $which)))
 (func $callback (param {pointer}) (call $go))
 (start $go)
 {" ".join(f'(export "{entry}" (func $go))' for entry in entries)})""",
        names,
    )


def inputs(letter: str, callback: int) -> ExecutionInput:
    """A message that runs in this context."""
    closure, composite = Closure(callback, 0), letter.startswith("C") and letter != "C"
    callbacks = {"Ry": EntryPoint.REPLY, "CRy": EntryPoint.REPLY, "Rt": EntryPoint.REJECT, "CRt": EntryPoint.REJECT}
    callbacks |= {"C": EntryPoint.CLEANUP, "CC": EntryPoint.CLEANUP}
    if letter in callbacks:
        return message("", callbacks[letter], closure=closure, composite=composite, replicated=not composite)
    match letter:
        case "U":
            return message("go")
        case "RQ":
            return message("ask", EntryPoint.QUERY)
        case "NRQ":
            return message("ask", EntryPoint.QUERY, replicated=False, data_certificate=b"certificate")
        case "CQ":
            return message("compose", EntryPoint.COMPOSITE_QUERY, replicated=False, data_certificate=b"certificate")
    fixed = {"I": EntryPoint.INIT, "G": EntryPoint.PRE_UPGRADE, "F": EntryPoint.INSPECT_MESSAGE, "T": EntryPoint.HEARTBEAT}
    return message("", {**fixed, "s": EntryPoint.START}[letter], replicated=letter != "F")


@pytest.mark.spec("system-imports", condition=1)
@pytest.mark.parametrize("wide", [False, True], ids=["32-bit", "64-bit"])
@pytest.mark.parametrize("letter", CONTEXT_LETTERS)
def test_function_works_exactly_where_the_spec_lists_it(letter: str, wide: bool) -> None:
    """Each function in this context either ends well or breaks the contract by its mode."""
    source, names = module(wide)
    context = ExecutionContext(balance=10**15, environment_variables=(("A", "1"),))
    with Harness(source, tracking=False, environment=make_environment()) as box:
        for number, name in enumerate(names):
            box.globals = (number,)
            box.reset((), ())
            answer = box.one(inputs(letter, len(names)), context=context)
            if letter in listed()[name]:
                assert isinstance(answer, Finished), (name, answer)
            else:
                assert isinstance(answer, Trapped), name
                assert answer.error_code == ErrorCode.CANISTER_CONTRACT_VIOLATION, name
                assert f"cannot be executed in {CONTEXT_NAMES[CONTEXT_LETTERS[letter]]} mode" in answer.message


@pytest.mark.spec("system-imports", condition=1)
def test_table_is_the_specs() -> None:
    """Our table has the same functions and contexts as the published one."""
    ours = {
        name: {letter for letter, bit in CONTEXT_LETTERS.items() if call.contexts & bit}
        for name, call in SYSTEM_CALLS.items()
        if name not in NOT_IN_THE_SPEC
    }
    assert ours == {name: contexts for name, contexts in listed().items() if not name.startswith("stable")}


def test_signatures_are_those_of_validation() -> None:
    """Host functions have the types that validated modules import."""
    for wide in (False, True):
        kinds = {"p": I64 if wide else I32, "i": I32, "l": I64}
        for name, call in SYSTEM_CALLS.items():
            if not (wide and call.only_32_bit):
                expected = (bytes(kinds[k] for k in call.params), bytes(kinds[k] for k in call.result))
                assert SIGNATURES[wide][name] == expected, name
