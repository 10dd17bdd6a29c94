"""Instructions charged by a System API call, besides the cost of the `call` operator itself.

Rule module. Spec: abstract-behavior, "System API"; figures: the replica's `system_api_complexity`. A charge is taken before
the API runs, so also when it then fails: fixed + factor x size for each size parameter (+ the log charge).
"""

from __future__ import annotations

from dataclasses import dataclass

TRANSMISSION = 50
"""Instructions per byte that leaves the sandbox."""


@dataclass(frozen=True, slots=True)
class Charge:
    """The charge of one API."""

    fixed: int = 500
    sizes: tuple[tuple[int, int], ...] = ()
    """(index of the parameter that is a size, instructions per byte)."""
    log: int | None = None
    """Set when the log charge is added: the `api` argument of `charge_log`; the size is parameter 1."""


STABLE_GROW = 100
STABLE_COPY = 20
"""Of stable reads and writes, besides 1 per byte and `dirty_page_overhead` per page that a write dirties."""

_ONE = 1
_PLAIN = """
msg_caller_size msg_arg_data_size msg_method_name_size msg_reject_msg_size canister_self_size subnet_self_size root_key_size
data_certificate_size env_var_count env_var_name_size env_var_value_size env_var_name_exists msg_caller_info_data_size
msg_caller_info_signer_size accept_message msg_reply msg_reject_code msg_deadline time global_timer_set canister_version
canister_status data_certificate_present in_replicated_execution call_on_cleanup call_cycles_add call_cycles_add128
call_with_best_effort_response canister_cycle_balance canister_cycle_balance128 canister_liquid_cycle_balance128
msg_cycles_available msg_cycles_available128 msg_cycles_refunded msg_cycles_refunded128 msg_cycles_accept
msg_cycles_accept128 cycles_burn128 cost_call cost_create_canister cost_http_request
"""
_COPIES = """
msg_caller_copy msg_arg_data_copy msg_method_name_copy msg_reject_msg_copy canister_self_copy subnet_self_copy root_key_copy
data_certificate_copy msg_caller_info_data_copy msg_caller_info_signer_copy
"""

CHARGES: dict[str, Charge] = {
    **dict.fromkeys(_PLAIN.split(), Charge()),
    **dict.fromkeys(_COPIES.split(), Charge(sizes=((2, _ONE),))),
    **dict.fromkeys(("msg_reply_data_append", "msg_reject", "call_data_append"), Charge(sizes=((1, TRANSMISSION),))),
    **dict.fromkeys(("cost_sign_with_ecdsa", "cost_sign_with_schnorr", "cost_vetkd_derive_key"), Charge(sizes=((1, _ONE),))),
    "env_var_name_copy": Charge(sizes=((3, _ONE),)),
    "env_var_value_copy": Charge(sizes=((4, _ONE),)),
    "certified_data_set": Charge(sizes=((1, _ONE),)),
    "call_new": Charge(1500, ((1, _ONE), (3, _ONE))),
    "call_perform": Charge(5000),
    "is_controller": Charge(1000, ((1, _ONE),)),
    "performance_counter": Charge(200),
    "debug_print": Charge(100, log=0),
    "trap": Charge(500, ((1, _ONE),), log=1),
    "cost_http_request_v2": Charge(10_000),
}
"""By name; what is missing (`mint_cycles128`, stable memory, see `stable_functions`) is not charged here."""
