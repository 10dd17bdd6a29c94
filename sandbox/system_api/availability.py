"""Which System API functions exist, with which signature, and from where they may be called.

Rule module. Spec: canister interface, "Overview of imports". The context letters of the spec are bits here, so that a call is
checked by one `and`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sandbox.protocol import EntryPoint, ExecutionInput

# --- contexts, by the spec's letters

I, G, U, RQ, NRQ, CQ, RY, RT, CRY, CRT, C, CC, F, T, S = (1 << k for k in range(15))  # noqa: E741  the spec's own letter
ANY: Final = I | G | U | RQ | NRQ | CQ | RY | RT | CRY | CRT | C | CC | F | T
"""`*` in the spec: everywhere but in `(start)`."""
EVERYWHERE: Final = ANY | S
QUERIES: Final = RQ | NRQ
CALLBACKS: Final = RY | RT | CRY | CRT
RESPONDING: Final = U | RQ | NRQ | CQ | CALLBACKS
CALLING: Final = U | CQ | CALLBACKS | T
REPLICATED: Final = I | G | U | RQ | RY | RT | C | T | S

CONTEXT_LETTERS: Final[dict[str, int]] = {
    "I": I, "G": G, "U": U, "RQ": RQ, "NRQ": NRQ, "CQ": CQ, "Ry": RY, "Rt": RT, "CRy": CRY, "CRt": CRT, "C": C, "CC": CC,
    "F": F, "T": T, "s": S,
}  # fmt: skip
CONTEXT_NAMES: Final[dict[int, str]] = {
    S: "start",
    I: "init",
    G: "pre upgrade",
    U: "update",
    RQ: "replicated query",
    NRQ: "non replicated query",
    CQ: "composite query",
    RY: "replicated reply callback",
    RT: "replicated reject callback",
    CRY: "non-replicated reply callback",
    CRT: "non-replicated reject callback",
    C: "cleanup",
    CC: "composite cleanup",
    F: "inspect message",
    T: "system task",
}


@dataclass(frozen=True, slots=True)
class SystemCall:
    """One import; in signatures `p` is pointer-wide (i32, or i64 with a 64-bit memory), `i` is i32 and `l` is i64."""

    name: str
    params: str
    result: str
    contexts: int
    only_32_bit: bool = False


_INFO = U | RQ | NRQ | CQ | CALLBACKS | C | CC | F
_CYCLES = U | RQ | RT | RY
_BURN = I | G | U | RQ | RY | RT | C | T

_TABLE: Final = (
    ("msg_arg_data_size", "", "p", I | U | QUERIES | CQ | RY | CRY | F),
    ("msg_arg_data_copy", "ppp", "", I | U | QUERIES | CQ | RY | CRY | F),
    ("msg_caller_size", "", "p", ANY),
    ("msg_caller_copy", "ppp", "", ANY),
    ("msg_caller_info_data_size", "", "p", _INFO),
    ("msg_caller_info_data_copy", "ppp", "", _INFO),
    ("msg_caller_info_signer_size", "", "p", _INFO),
    ("msg_caller_info_signer_copy", "ppp", "", _INFO),
    ("msg_reject_code", "", "i", CALLBACKS | C),
    ("msg_reject_msg_size", "", "p", RT | CRT),
    ("msg_reject_msg_copy", "ppp", "", RT | CRT),
    ("msg_deadline", "", "l", U | QUERIES | CQ | CALLBACKS),
    ("msg_reply_data_append", "pp", "", RESPONDING),
    ("msg_reply", "", "", RESPONDING),
    ("msg_reject", "pp", "", RESPONDING),
    ("msg_cycles_available128", "p", "", _CYCLES),
    ("msg_cycles_refunded128", "p", "", RT | RY),
    ("msg_cycles_accept128", "llp", "", _CYCLES),
    ("cycles_burn128", "llp", "", _BURN),
    ("canister_self_size", "", "p", ANY),
    ("canister_self_copy", "ppp", "", ANY),
    ("canister_cycle_balance128", "p", "", ANY),
    ("canister_liquid_cycle_balance128", "p", "", ANY),
    ("canister_status", "", "i", ANY),
    ("canister_version", "", "l", ANY),
    ("subnet_self_size", "", "p", ANY),
    ("subnet_self_copy", "ppp", "", ANY),
    ("msg_method_name_size", "", "p", F),
    ("msg_method_name_copy", "ppp", "", F),
    ("accept_message", "", "", F),
    ("call_new", "pppppppp", "", CALLING),
    ("call_on_cleanup", "pp", "", CALLING),
    ("call_data_append", "pp", "", CALLING),
    ("call_with_best_effort_response", "i", "", CALLING),
    ("call_cycles_add128", "ll", "", U | RY | RT | T),
    ("call_perform", "", "i", CALLING),
    ("root_key_size", "", "p", _BURN),
    ("root_key_copy", "ppp", "", _BURN),
    ("certified_data_set", "pp", "", I | G | U | RY | RT | T),
    ("data_certificate_present", "", "i", ANY),
    ("data_certificate_size", "", "p", NRQ | CQ),
    ("data_certificate_copy", "ppp", "", NRQ | CQ),
    ("time", "", "l", ANY),
    ("global_timer_set", "l", "l", I | G | U | RY | RT | C | T),
    ("performance_counter", "i", "l", EVERYWHERE),
    ("is_controller", "pp", "i", EVERYWHERE),
    ("in_replicated_execution", "", "i", EVERYWHERE),
    ("cost_call", "llp", "", EVERYWHERE),
    ("cost_create_canister", "p", "", EVERYWHERE),
    ("cost_http_request", "llp", "", EVERYWHERE),
    ("cost_http_request_v2", "ppp", "", EVERYWHERE),
    ("cost_sign_with_ecdsa", "ppip", "i", EVERYWHERE),
    ("cost_sign_with_schnorr", "ppip", "i", EVERYWHERE),
    ("cost_vetkd_derive_key", "ppip", "i", EVERYWHERE),
    ("env_var_count", "", "p", ANY),
    ("env_var_name_size", "p", "p", ANY),
    ("env_var_name_copy", "pppp", "", ANY),
    ("env_var_name_exists", "pp", "i", ANY),
    ("env_var_value_size", "pp", "p", ANY),
    ("env_var_value_copy", "ppppp", "", ANY),
    ("debug_print", "pp", "", EVERYWHERE),
    ("trap", "pp", "", EVERYWHERE),
    # Not in the spec: the replica's import for the cycles minting canister.
    ("mint_cycles128", "llp", "", U | RY | RT | T),
)
_TABLE_32 = (
    ("msg_cycles_available", "", "l", _CYCLES),
    ("msg_cycles_refunded", "", "l", RT | RY),
    ("msg_cycles_accept", "l", "l", _CYCLES),
    ("canister_cycle_balance", "", "l", ANY),
    ("call_cycles_add", "l", "", U | RY | RT | T),
)

SYSTEM_CALLS: Final[dict[str, SystemCall]] = {
    **{name: SystemCall(name, params, result, contexts) for name, params, result, contexts in _TABLE},
    **{name: SystemCall(name, params, result, contexts, True) for name, params, result, contexts in _TABLE_32},
}
"""Every function of module `ic0` that is served by the host; stable memory's functions live inside the instrumented module."""

_FIXED: Final = {
    EntryPoint.START: S,
    EntryPoint.INIT: I,
    EntryPoint.POST_UPGRADE: I,
    EntryPoint.PRE_UPGRADE: G,
    EntryPoint.UPDATE: U,
    EntryPoint.COMPOSITE_QUERY: CQ,
    EntryPoint.INSPECT_MESSAGE: F,
    EntryPoint.HEARTBEAT: T,
    EntryPoint.GLOBAL_TIMER: T,
    EntryPoint.ON_LOW_WASM_MEMORY: T,
}
_BY_COMPOSITE: Final = {EntryPoint.REPLY: (RY, CRY), EntryPoint.REJECT: (RT, CRT), EntryPoint.CLEANUP: (C, CC)}


def context_of(message: ExecutionInput) -> int:
    """The context bit that a message runs in."""
    entry = message.entry
    fixed = _FIXED.get(entry)
    if fixed is not None:
        return fixed
    if entry is EntryPoint.QUERY:
        return RQ if message.replicated else NRQ
    return _BY_COMPOSITE[entry][message.composite]
