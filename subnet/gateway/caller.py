"""Calls that the gateway itself makes: for pages that canisters serve, and for the form on the network's own page.

Rule module, in coroutines. Calls go the way of every agent's call; queries are asked of a node.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

from ic_types.envelope import build_call
from ic_types.errors import IcsimError
from ic_types.hash_tree import Found
from ic_types.identity import AnonymousIdentity, Identity
from ic_types.leb128 import decode_nat
from ic_types.principal import CanisterId
from ic_types.units import TimeNs
from subnet import control_protocol as cp
from subnet.certification.certificate import Certificate, decode_certificate
from subnet.certification.state_tree import REQUEST_STATUS
from subnet.gateway.boundary import Boundary
from subnet.gateway.replies import HttpError
from subnet.protocol import QueryReply

NOBODY = AnonymousIdentity()
_WAIT_SECONDS = 60.0


class CallRejected(IcsimError):
    """A canister or the network rejected it."""

    def __init__(self, code: int, message: str, error_code: str) -> None:
        super().__init__(f"rejected with code {code} ({error_code}): {message}" if error_code else f"code {code}: {message}")
        self.code = code
        self.error_code = error_code
        self.message = message


@dataclass(slots=True)
class Caller:
    """Makes calls."""

    boundary: Boundary

    async def query(self, canister_id: CanisterId, method: str, arg: bytes, identity: Identity = NOBODY) -> bytes:
        """The reply to a query.

        Raises: CallRejected; HttpError when the network can't be asked.
        """
        self.boundary.of_canister(canister_id)
        question = cp.Query(sender=identity.principal, receiver=canister_id, method=method, arg=arg)
        answer = await self.boundary.line.ask(question, QueryReply)
        if answer.status != "replied":
            raise CallRejected(answer.reject_code, answer.reject_message, answer.error_code)
        return answer.reply

    async def update(self, canister_id: CanisterId, method: str, arg: bytes, identity: Identity = NOBODY) -> bytes:
        """The certified reply to a call.

        Raises: CallRejected; HttpError when the call is refused or takes too long.
        """
        self.boundary.of_canister(canister_id)
        expiry = TimeNs(await self.boundary.now() + self.boundary.description.ingress_ttl_ns)
        envelope = build_call(identity, canister_id=canister_id, method=method, arg=arg, expiry=expiry, nonce=os.urandom(16))
        call = cp.Call(envelope=envelope, effective_id=canister_id, wait=True)
        try:
            answer = await asyncio.wait_for(self.boundary.line.ask(call, cp.CallAnswer), _WAIT_SECONDS)
        except TimeoutError:
            raise HttpError(504, f"{method} of canister {canister_id} gave no answer within {_WAIT_SECONDS:.0f} s.") from None
        match answer.status:
            case "certified":
                return _outcome(decode_certificate(answer.certificate), answer.message_id)
            case "rejected":
                raise CallRejected(answer.reject_code, answer.reject_message, answer.error_code)
            case "accepted":
                raise HttpError(504, f"{method} of canister {canister_id} has no answer yet.")
            case _:
                raise HttpError(answer.http_status, answer.problem)


def _outcome(certificate: Certificate, message_id: bytes) -> bytes:
    """The reply in a certificate of a request's status. Raises: CallRejected."""

    def field(name: bytes) -> bytes:
        found = certificate.lookup(REQUEST_STATUS, message_id, name)
        return found.value if isinstance(found, Found) else b""

    if field(b"status") == b"replied":
        return field(b"reply")
    code = decode_nat(field(b"reject_code") or b"\0")
    raise CallRejected(
        code, field(b"reject_message").decode("utf-8", "replace"), field(b"error_code").decode("utf-8", "replace")
    )
