"""What things cost, asked before doing them.

Rule module. Spec: System imports, `cost_*`; canister interface, "Cycle cost calculation".
"""

from __future__ import annotations

from typing import Final

from ic_types.chain_keys.key_id import KeyId, KeyKind
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import contract_violation

ECDSA_CURVES: Final = (KeyKind.ECDSA_SECP256K1,)
SCHNORR_ALGORITHMS: Final = (KeyKind.SCHNORR_BIP340, KeyKind.SCHNORR_ED25519)
VETKD_CURVES: Final = (KeyKind.VETKD_BLS12_381_G2,)
_INVALID_ALGORITHM, _INVALID_KEY = 1, 2


def cost_call(s: MessageState, method_name_size: int, payload_size: int, dst: int) -> None:
    """What `call_perform` needs above the freezing threshold, besides attached cycles."""
    limits, fees = s.environment.limits, s.environment.fees
    payload = method_name_size + payload_size
    cost = fees.call(payload, limits.instructions_per_message, limits.max_payload, wasm64=s.wasm64)
    s.copy_cycles_to_canister("cost_call", dst, _saturated(cost))


def cost_create_canister(s: MessageState, dst: int) -> None:
    """Fee of `create_canister` on this subnet."""
    fees = s.environment.fees
    s.copy_cycles_to_canister("cost_create_canister", dst, fees.scale(fees.canister_creation))


def cost_http_request(s: MessageState, request_size: int, max_response_bytes: int, dst: int) -> None:
    """Fee of an HTTPS outcall."""
    cost = s.environment.fees.http_request(request_size, max_response_bytes)
    s.copy_cycles_to_canister("cost_http_request", dst, _saturated(cost))


def cost_http_request_v2(_s: MessageState, _src: int, _size: int, _dst: int) -> None:
    """Not in the spec: fee of an HTTPS outcall by its encoded parameters; not simulated."""
    raise contract_violation("ic0.cost_http_request_v2 is not available on this network", toolchain=False)


def cost_sign_with_ecdsa(s: MessageState, src: int, size: int, curve: int, dst: int) -> int:
    """Fee of `sign_with_ecdsa`: 0 and the fee, 1 unknown curve, 2 unknown key."""
    return _signature(s, "cost_sign_with_ecdsa", src, size, ECDSA_CURVES[curve : curve + 1], dst)


def cost_sign_with_schnorr(s: MessageState, src: int, size: int, algorithm: int, dst: int) -> int:
    """Fee of `sign_with_schnorr`: 0 and the fee, 1 unknown algorithm, 2 unknown key."""
    return _signature(s, "cost_sign_with_schnorr", src, size, SCHNORR_ALGORITHMS[algorithm : algorithm + 1], dst)


def cost_vetkd_derive_key(s: MessageState, src: int, size: int, curve: int, dst: int) -> int:
    """Fee of `vetkd_derive_key`: 0 and the fee, 1 unknown curve, 2 unknown key."""
    return _signature(s, "cost_vetkd_derive_key", src, size, VETKD_CURVES[curve : curve + 1], dst)


def _signature(s: MessageState, name: str, src: int, size: int, kinds: tuple[KeyKind, ...], dst: int) -> int:
    """What the subnet that signs takes; `kinds` has the algorithm asked for, or nothing."""
    key = s.copy_from_canister(f"ic0.{name}", src, size)
    if not kinds:
        return _INVALID_ALGORITHM
    fee = s.environment.signing_fees.get(str(KeyId(kinds[0], key.decode(errors="replace"))))
    if fee is None:
        return _INVALID_KEY
    s.copy_cycles_to_canister(name, dst, fee)
    return 0


def _saturated(cost: int) -> int:
    return min(cost, (1 << 128) - 1)


FUNCTIONS: Final = (
    cost_call, cost_create_canister, cost_http_request, cost_http_request_v2, cost_sign_with_ecdsa, cost_sign_with_schnorr,
    cost_vetkd_derive_key,
)  # fmt: skip
