"""What the management canister can't answer by itself, and the answers that come with a batch.

Rule module. Not in the spec: the replica's "subnet calls". A node asks in the result of a round and is answered by a later
batch; what happens in between (signing, asking a web server, comparing what the nodes got) is no part of any node's state.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from ic_types.principal import CanisterId


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureRequest:
    """A signature with a chain key, or an encrypted derived key."""

    call_id: int
    key_id: str
    """Text form."""
    caller: CanisterId
    """Whose key it is."""
    path: tuple[bytes, ...]
    """Derivation path; for vetKD the context alone."""
    message: bytes
    """What is signed: a hash for ECDSA, a message of any length for Schnorr, the input for vetKD."""
    merkle_root: bytes | None = None
    """Of a taproot tree (empty for none), when the signature is for a taproot output."""
    transport_key: bytes = b""
    """For vetKD."""
    nonce: bytes = b""
    """32 bytes of the round's randomness: equal requests get different signatures."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class OutcallRequest:
    """An HTTPS outcall."""

    call_id: int
    caller: CanisterId
    url: str
    method: str
    """GET, HEAD, POST, PUT, DELETE or PATCH."""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    max_response_bytes: int = 0
    """Of the response and of what the transform function makes of it."""
    transform: str | None = None
    """Query method of the caller that each node applies to what it got."""
    transform_context: bytes = b""
    node_index: int = 0
    """The one node that makes the request; 0: all do and have to agree."""
    timeout_ns: int = 0
    """Batch time after which it is given up."""


ConsensusRequest = SignatureRequest | OutcallRequest


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsensusAnswer:
    """The answer to a request: Candid bytes, or a reject code and its text."""

    call_id: int
    reply: bytes = b""
    reject_code: int = 0
    """0 for a reply."""
    reject_message: str = ""
