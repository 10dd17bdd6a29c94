"""The functions of module `ic0` with their signatures for both pointer widths.

Rule module. Spec: abstract-behavior, "System API", "Overview of imports".
"""

from __future__ import annotations

from collections.abc import Collection

from sandbox.wasm.binary import I32, I64

IC0 = "ic0"
_WIDTHS = {"i": I32, "l": I64}

# `I` is the pointer width, `i` i32, `l` i64.
_COMMON = """
msg_caller_size msg_arg_data_size msg_method_name_size msg_reject_msg_size canister_self_size data_certificate_size: -> I
subnet_self_size root_key_size env_var_count msg_caller_info_data_size msg_caller_info_signer_size: -> I
msg_caller_copy msg_arg_data_copy msg_method_name_copy msg_reject_msg_copy canister_self_copy data_certificate_copy: III ->
subnet_self_copy root_key_copy msg_caller_info_data_copy msg_caller_info_signer_copy: III ->
accept_message msg_reply: ->
msg_reject_code call_perform data_certificate_present canister_status in_replicated_execution: -> i
msg_reply_data_append msg_reject call_data_append debug_print trap certified_data_set: II ->
call_new: IIIIIIII ->
call_on_cleanup: II ->
call_cycles_add128: ll ->
call_with_best_effort_response: i ->
stable64_size: -> l
stable64_grow: l -> l
stable64_read stable64_write: lll ->
time canister_version msg_deadline: -> l
global_timer_set: l -> l
performance_counter: i -> l
canister_cycle_balance128 canister_liquid_cycle_balance128 msg_cycles_available128 msg_cycles_refunded128: I ->
msg_cycles_accept128 cycles_burn128 mint_cycles128: llI ->
is_controller: II -> i
cost_call: llI ->
cost_create_canister: I ->
cost_http_request: llI ->
cost_http_request_v2: III ->
cost_sign_with_ecdsa cost_sign_with_schnorr cost_vetkd_derive_key: IIiI -> i
env_var_name_size: I -> I
env_var_name_copy: IIII ->
env_var_name_exists: II -> i
env_var_value_size: II -> I
env_var_value_copy: IIIII ->
"""
_ONLY_32 = """
call_cycles_add: l ->
stable_size: -> i
stable_grow: i -> i
stable_read stable_write: iii ->
canister_cycle_balance msg_cycles_available msg_cycles_refunded: -> l
msg_cycles_accept: l -> l
"""

Signature = tuple[bytes, bytes]
"""Value types of parameters and of results."""


def _parse(table: str, pointer: int) -> dict[str, Signature]:
    widths = {**_WIDTHS, "I": pointer}
    found = {}
    for line in table.strip().splitlines():
        names, signature = line.split(":")
        params, results = (bytes(widths[letter] for letter in side.strip()) for side in signature.split("->"))
        for one in names.split():
            found[one] = (params, results)
    return found


SIGNATURES = {False: _parse(_COMMON + _ONLY_32.lstrip(), I32), True: _parse(_COMMON, I64)}
"""Importable functions, by whether the main memory is 64-bit."""

HIDDEN = "__"
"""Module of the imports that instrumentation adds."""


_ALWAYS = ("out_of_instructions", "try_grow_wasm_memory")
_NEEDED_BY = {"try_grow_stable_memory": ("stable",), "internal_trap": ("stable",), "charge_log": ("debug_print", "trap")}
"""By what the names of the module's own imports start with."""


def hidden_imports(wasm64: bool, imported: Collection[str]) -> dict[str, Signature]:
    """Imports added to a module that has these imports itself, in the order of their function indices.

    - `out_of_instructions ()`: the counter is negative; returns after setting a new slice, or traps.
    - `try_grow_wasm_memory (native result, pages asked for) -> result`: called after each `memory.grow`; native result -1 is
      passed through, otherwise the growth is accounted (traps if it may not be).
    - `try_grow_stable_memory (size, pages asked for, api 0 = 32-bit, 1 = 64-bit) -> old size or -1`: the 100 instructions are
      charged before.
    - `internal_trap (code)`: always traps, by `TrapCode`.
    - `charge_log (message bytes, api 0 = debug_print, 1 = trap) -> instructions` for writing the canister log.
    """
    pointer = I64 if wasm64 else I32
    every = {
        "out_of_instructions": (b"", b""),
        "try_grow_wasm_memory": (bytes((pointer, pointer)), bytes((pointer,))),
        "try_grow_stable_memory": (bytes((I64, I64, I32)), bytes((I64,))),
        "internal_trap": (bytes((I32,)), b""),
        "charge_log": (bytes((I64, I32)), bytes((I64,))),
    }
    return {
        name: it for name, it in every.items() if name in _ALWAYS or any(one.startswith(_NEEDED_BY[name]) for one in imported)
    }
