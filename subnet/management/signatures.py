"""Asking for signatures with chain keys and for encrypted derived keys.

Rule module. Spec: interface spec, "IC method sign_with_ecdsa", "IC method sign_with_schnorr", "IC method vetkd_derive_key"; the
order of the checks is the replica's.
"""

from __future__ import annotations

from ic_types.candid.values import Value
from ic_types.chain_keys import vetkd
from ic_types.chain_keys.key_id import KeyId, KeyKind
from ic_types.consensus_calls import SignatureRequest
from ic_types.messages import Request
from ic_types.units import Cycles
from scheduler.cycles_account import BurnCause
from subnet.management import errors
from subnet.management.chain_keys import checked_path, held, key_of
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext

HASH_BYTES = 32
NONCE_BYTES = 32
ROOT_BYTES = (0, 32)


def sign_with_ecdsa(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """A signature of a 32-byte hash."""
    digest = args["message_hash"]
    if len(digest) != HASH_BYTES:
        raise errors.invalid_payload(f"Error decoding candid: message_hash has {len(digest)} bytes, expected {HASH_BYTES}")
    path = tuple(checked_path(args["derivation_path"]))
    return _ask(ctx, call, key_of(args), path=path, message=digest)


def sign_with_schnorr(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """A signature of a message, by a key or for a taproot output."""
    key, path = key_of(args), tuple(checked_path(args["derivation_path"]))
    held(ctx, key)
    root: bytes | None = None
    if args["aux"] is not None:
        if key.kind is not KeyKind.SCHNORR_BIP340:
            raise errors.rejected(f"Schnorr algorithm {key.kind.algorithm} does not support aux input")
        root = args["aux"]["bip341"]["merkle_root_hash"]
        if len(root) not in ROOT_BYTES:
            raise errors.rejected(f"Invalid aux field for {key.kind.algorithm}")
    return _ask(ctx, call, key, path=path, message=args["message"], merkle_root=root)


def vetkd_derive_key(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """A derived key, encrypted."""
    key, transport = key_of(args), args["transport_public_key"]
    if len(transport) != vetkd.TRANSPORT_KEY_BYTES:
        expected = f"expected {vetkd.TRANSPORT_KEY_BYTES}"
        raise errors.invalid_payload(f"Error decoding candid: transport_public_key has {len(transport)} bytes, {expected}")
    held(ctx, key)
    if not vetkd.is_transport_key(transport):
        raise errors.rejected("The provided transport public key is invalid.")
    return _ask(ctx, call, key, path=(args["context"],), message=args["input"], transport_key=transport)


def _ask(
    ctx: SubnetContext,
    call: ManagementCall,
    key: KeyId,
    *,
    path: tuple[bytes, ...],
    message: bytes,
    merkle_root: bytes | None = None,
    transport_key: bytes = b"",
) -> ManagementOutcome:
    """Charge, and leave the call open until the signature comes.

    Conditions: this subnet holds the key and signs with it; the attached cycles cover the fee, unless a canister of the root
    subnet calls; not too many signatures with this key are open.
    """
    held(ctx, key)
    request, method = call.message, call.message.method
    assert isinstance(request, Request), "users can't ask for signatures"
    free = ctx.routing.route(request.sender) == ctx.root_subnet
    fee = Cycles(0) if free else ctx.fees.scale(ctx.fees.signature)
    if call.payment < fee:
        raise errors.not_enough_cycles_sent(method, call.payment, fee)
    if not ctx.chain_keys.signs(ctx.own_subnet, key):
        raise errors.rejected(f"{method} request failed: unknown or disabled threshold key {key}.")
    if ctx.consensus_calls.signatures(str(key)) >= ctx.limits.max_open_signatures:
        raise errors.rejected(f"{method} request failed: request queue for key {key} is full.")
    ctx.tally.add_burned(BurnCause.SIGNATURES, fee)
    asked = SignatureRequest(
        call_id=0,
        key_id=str(key),
        caller=request.sender,
        path=path,
        message=message,
        merkle_root=merkle_root,
        transport_key=transport_key,
        nonce=ctx.random_bytes(NONCE_BYTES),
    )
    ctx.consensus_calls.open(request, asked, fee)
    return ManagementOutcome(payload=None)
