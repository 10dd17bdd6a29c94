"""What each System API call is charged, and when, inside the module."""

from __future__ import annotations

import pytest
import wasmtime

from sandbox.wasm.binary import I32, I64, TYPE_NAMES
from sandbox.wasm.imports import SIGNATURES
from sandbox.wasm.instrumentation import COUNTER
from tests.support.metered import Metered, OutOfInstructions

CALL = 5
SIZE = 1000

# Charges for a size of 1000 in every size parameter, from the replica's table.
EXPECTED = {
    500: """
        msg_caller_size msg_arg_data_size msg_method_name_size msg_reject_msg_size canister_self_size subnet_self_size
        root_key_size data_certificate_size env_var_count env_var_name_size env_var_value_size env_var_name_exists
        accept_message msg_reply msg_reject_code msg_deadline time global_timer_set canister_version canister_status
        data_certificate_present in_replicated_execution call_on_cleanup call_cycles_add call_cycles_add128
        call_with_best_effort_response canister_cycle_balance canister_cycle_balance128 canister_liquid_cycle_balance128
        msg_cycles_available msg_cycles_available128 msg_cycles_refunded msg_cycles_refunded128 msg_cycles_accept
        msg_cycles_accept128 cycles_burn128 cost_call cost_create_canister cost_http_request
        msg_caller_info_data_size msg_caller_info_signer_size""",
    1500: """
        msg_caller_copy msg_arg_data_copy msg_method_name_copy msg_reject_msg_copy canister_self_copy subnet_self_copy
        root_key_copy data_certificate_copy env_var_name_copy env_var_value_copy certified_data_set
        cost_sign_with_ecdsa cost_sign_with_schnorr cost_vetkd_derive_key
        msg_caller_info_data_copy msg_caller_info_signer_copy""",
    50_500: "msg_reply_data_append msg_reject call_data_append",
    3500: "call_new",
    5000: "call_perform",
    2000: "is_controller",
    200: "performance_counter",
    10_000: "cost_http_request_v2",
    100 + 7: "debug_print",
    1500 + 7: "trap",
    0: "mint_cycles128",
}
CASES = [(name, charge) for charge, names in EXPECTED.items() for name in names.split()]
# Parameters that hold sizes; any other gets 1.
SIZES = {
    "call_new": (1, 3),
    "env_var_name_copy": (3,),
    "env_var_value_copy": (4,),
    **dict.fromkeys(("msg_reply_data_append", "msg_reject", "call_data_append", "debug_print", "trap"), (1,)),
    **dict.fromkeys(("certified_data_set", "is_controller", "cost_http_request_v2", "env_var_value_size"), (1,)),
    **dict.fromkeys(("cost_sign_with_ecdsa", "cost_sign_with_schnorr", "cost_vetkd_derive_key"), (1,)),
}


def _caller(name: str, wasm64: bool, sizes: dict[int, int]) -> tuple[str, int]:
    """A module whose `f` calls this API once, and the cost of `f` without the API's charge."""
    params, results = SIGNATURES[wasm64][name]
    types = " ".join(TYPE_NAMES[one] for one in params)
    result = f"(result {TYPE_NAMES[results[0]]})" if results else ""
    operands = " ".join(f"({TYPE_NAMES[one]}.const {sizes.get(k, 1)})" for k, one in enumerate(params))
    call = f"(call $api {operands})"
    text = f"""(module (import "ic0" "{name}" (func $api (param {types}) {result})) (memory {"i64" if wasm64 else ""} 1)
        (func (export "f") {f"(drop {call})" if results else call}))"""
    return text, 1 + len(params) + CALL + len(results)


def test_every_import_is_in_the_table() -> None:
    """No API is forgotten here but stable memory, which has its own tests."""
    named = {name for name, _ in CASES}
    assert len(named) == len(CASES)
    assert {name for name in SIGNATURES[False] if not name.startswith("stable")} == named


@pytest.mark.parametrize(
    ("wasm64", "name", "charge"), [(wide, *case) for wide in (False, True) for case in CASES if case[0] in SIGNATURES[wide]]
)
def test_charge(name: str, charge: int, wasm64: bool) -> None:
    """The call is made once with its arguments, after the charge."""
    sizes = dict.fromkeys(SIZES.get(name, (2,) if name.endswith("_copy") else ()), SIZE)
    text, base = _caller(name, wasm64, sizes)
    at_call: list[int] = []

    def answer(*arguments: int) -> int | None:
        at_call.append(module.get(COUNTER))
        return 1 if SIGNATURES[wasm64][name][1] else None

    module = Metered(text, answers={name: answer, "charge_log": lambda size, api: 7})
    assert module.cost("f") == base + charge
    assert at_call == [(1 << 40) - base - charge]
    (call,) = [one for one in module.calls if one[0] == name]
    assert call[1:] == tuple(sizes.get(k, 1) for k in range(len(call) - 1))


@pytest.mark.parametrize(("name", "api"), [("debug_print", 0), ("trap", 1)])
def test_log_charge_is_asked_of_the_host(name: str, api: int) -> None:
    """It learns the size and which API asks, before the API runs."""
    text, _ = _caller(name, False, {1: 0xFFFF_FFFF})
    module = Metered(text)
    module.cost("f")
    assert module.calls == [("charge_log", 0xFFFF_FFFF, api), (name, 1, -1)]


def test_exhausted_charge_asks_for_a_slice_before_the_call() -> None:
    """A charge that goes below zero calls the handler once; without a new slice the API never runs."""
    text, base = _caller("msg_reply_data_append", False, {1: SIZE})
    module = Metered(text)
    module.set(COUNTER, 20_000)
    with pytest.raises(OutOfInstructions):
        module.run("f")
    assert module.get(COUNTER) == 20_000 - base - 50_500
    assert [one[0] for one in module.calls] == ["out_of_instructions"]
    module = Metered(text, slices=[77])
    module.set(COUNTER, 20_000)
    module.run("f")
    assert module.get(COUNTER) == 77
    assert [one[0] for one in module.calls] == ["out_of_instructions", "msg_reply_data_append"]


def test_negative_counter_asks_for_a_slice_before_the_charge() -> None:
    """A block that has overshot is settled first, so that the charge falls into the new slice."""
    text = """(module (import "ic0" "time" (func $time (result i64))) (memory 1)
        (func (export "f") (if (i32.const 1) (then (drop (i32.div_u (i32.const 1) (i32.const 1))) (drop (call $time))))))"""
    module = Metered(text, slices=[10_000])
    module.set(COUNTER, 10)
    module.run("f")
    assert module.get(COUNTER) == 10_000 - 500


@pytest.mark.parametrize("size", [-1, 1 << 62, -(1 << 63), (1 << 63) - 1, 1 << 57])
def test_huge_64_bit_sizes_exhaust_and_never_enrich(size: int) -> None:
    """However large the size, the counter falls."""
    for name, wide in (("msg_reply_data_append", {1: size}), ("call_new", {1: size, 3: size})):
        module = Metered(_caller(name, True, wide)[0])
        module.set(COUNTER, 1 << 40)
        with pytest.raises(OutOfInstructions):
            module.run("f")
        assert module.get(COUNTER) < -(1 << 54)


def test_largest_32_bit_size_is_unsigned() -> None:
    """0xFFFFFFFF bytes, not minus one."""
    text, base = _caller("msg_reply_data_append", False, {1: 0xFFFF_FFFF})
    assert Metered(text).cost("f") == base + 500 + 50 * 0xFFFF_FFFF


def test_shims_stand_in_for_imports_everywhere() -> None:
    """In the table, as exports and by reference, an import is charged too."""
    text = """(module (import "ic0" "msg_reply" (func $reply)) (memory 1)
        (table funcref (elem $reply)) (export "canister_update direct" (func $reply))
        (elem declare func $reply)
        (func (export "f") (call_indirect (i32.const 0)))
        (func (export "g") (drop (ref.func $reply))))"""
    module = Metered(text)
    assert module.cost("f") == 1 + 1 + 10 + 500
    assert module.cost("canister_update direct") == 500
    assert module.cost("g") == 1 + 130 + 1


def test_table_is_exported() -> None:
    """Callbacks are looked up in it under one name."""
    module = Metered('(module (table (export "t") 2 funcref) (elem (i32.const 1) $f) (func $f))')
    table = module.exports["table"]
    assert isinstance(table, wasmtime.Table)
    entries = [table.get(module.store, index) for index in range(2)]
    assert [isinstance(getattr(one, "value", one), wasmtime.Func) for one in entries] == [False, True]


def test_signature_widths() -> None:
    """Pointers follow the memory; fixed integers don't."""
    assert SIGNATURES[False]["msg_cycles_accept128"] == (bytes((I64, I64, I32)), b"")
    assert SIGNATURES[True]["cost_sign_with_ecdsa"] == (bytes((I64, I64, I32, I64)), bytes((I32,)))
    assert "stable_read" not in SIGNATURES[True]
