"""The endpoints of the interface specification: status, call, query, read_state.

Rule module, in coroutines. Spec: interface spec, "HTTPS Interface"; status codes and texts are the replica's.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib import metadata

from ic_types.envelope import QUERY, READ_STATE, Envelope, read_envelope
from ic_types.errors import CandidError, EnvelopeError
from ic_types.principal import ANONYMOUS, MANAGEMENT_CANISTER, Principal
from ic_types.reject import ErrorCode
from subnet import control_protocol as cp
from subnet.authentication.requests import Permits, authenticate, caller_info, check_expiry
from subnet.certification.read_state import ReadRefused, check_size
from subnet.gateway.boundary import FLAT, PLAIN, SHARDED, Boundary
from subnet.gateway.replies import HttpError, HttpReply, cbor_reply
from subnet.management.destinations import effective_canister
from subnet.management.methods import METHODS
from subnet.protocol import QueryReply, ReadState, StateRead

API_VERSION = "0.18.0"
LIST_CANISTERS = "list_canisters"
_UNCERTIFIED = ErrorCode.CERTIFIED_STATE_UNAVAILABLE.text
_MALFORMED = "Malformed request: "


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint in a URL: `/api/v3/canister/<id>/query`."""

    version: int
    at_subnet: bool
    effective_id: Principal
    action: str


@dataclass(slots=True)
class Api:
    """Answers requests of agents."""

    boundary: Boundary
    sync_wait_s: float

    async def status(self) -> HttpReply:
        """Spec: "Status endpoint"."""
        now = await self.boundary.time()
        return cbor_reply(
            {
                "ic_api_version": API_VERSION,
                "impl_version": f"icsim {metadata.version('icsim')}",
                "root_key": self.boundary.root_key_der,
                "replica_health_status": "healthy" if now.healthy else "unhealthy",
                "certified_height": now.height,
            }
        )

    async def answer(self, endpoint: Endpoint, body: bytes) -> HttpReply:
        """Raises: HttpError when the request is refused."""
        if endpoint.at_subnet and self.boundary.subnet(endpoint.effective_id) is None:
            raise HttpError(400, f"Subnet {endpoint.effective_id} is not part of this network.")
        if endpoint.action == "call":
            return await self._call(endpoint, body)
        if endpoint.action == "query":
            return await self._query(endpoint, body)
        return await self._read_state(endpoint, body)

    # --- calls

    async def _call(self, endpoint: Endpoint, body: bytes) -> HttpReply:
        sync = endpoint.version > 2
        call = cp.Call(envelope=body, effective_id=endpoint.effective_id, at_subnet=endpoint.at_subnet, wait=sync)
        answering = self.boundary.line.ask(call, cp.CallAnswer)
        try:
            answer = await asyncio.wait_for(answering, self.sync_wait_s if sync else None)
        except TimeoutError:
            return HttpReply(202)
        match answer.status:
            case "accepted":
                return HttpReply(202)
            case "certified":
                if not sync:
                    return HttpReply(202)
                form = PLAIN if endpoint.at_subnet else FLAT if endpoint.version == 3 else SHARDED
                whole = await self.boundary.delegated(answer.certificate, answer.subnet, form, endpoint.effective_id)
                return cbor_reply({"status": "replied", "certificate": whole})
            case "rejected":
                fields = {
                    "reject_code": answer.reject_code,
                    "reject_message": answer.reject_message,
                    "error_code": answer.error_code,
                }
                return cbor_reply({"status": "non_replicated_rejection", **fields} if sync else fields)
            case _:
                raise HttpError(answer.http_status, _told(answer.problem, "call"))

    # --- queries

    async def _query(self, endpoint: Endpoint, body: bytes) -> HttpReply:
        envelope, _ = await self._authenticated(body, QUERY)
        self._check_query_target(endpoint, envelope)
        question = cp.Query(
            sender=envelope.sender,
            receiver=envelope.receiver,
            method=envelope.method,
            arg=envelope.arg,
            effective_id=endpoint.effective_id,
            request_id=envelope.request_id,
            caller_info=caller_info(envelope),
        )
        answer = await self.boundary.line.ask(question, QueryReply)
        if answer.error_code == _UNCERTIFIED:
            raise HttpError(503, answer.reject_message)
        fields: dict[str, object] = {"status": answer.status}
        if answer.status == "replied":
            fields["reply"] = {"arg": answer.reply}
        else:
            fields |= {"reject_code": answer.reject_code, "reject_message": answer.reject_message}
            if answer.error_code:
                fields["error_code"] = answer.error_code
        signature = {"timestamp": answer.time_ns, "signature": answer.signature, "identity": bytes(answer.node_id)}
        return cbor_reply({**fields, "signatures": [signature]})

    def _check_query_target(self, endpoint: Endpoint, envelope: Envelope) -> None:
        """Spec: "Effective canister id" and "Effective subnet id"."""
        listing = envelope.receiver == MANAGEMENT_CANISTER and envelope.method == LIST_CANISTERS
        if endpoint.at_subnet:
            if not listing:
                raise HttpError(400, f"Only {LIST_CANISTERS} of the management canister can be queried at a subnet.")
            return
        self.boundary.of_canister(endpoint.effective_id)
        meant: Principal | None = envelope.receiver
        if envelope.receiver == MANAGEMENT_CANISTER:
            method = METHODS.get(envelope.method)
            try:
                meant = None if method is None else effective_canister(method, envelope.arg)
            except CandidError as error:
                raise HttpError(400, f"Specified CanisterId aaaaa-aa: the argument names no canister: {error}") from error
        if meant is not None and meant != endpoint.effective_id:
            raise HttpError(
                400, f"Specified CanisterId {meant} does not match effective canister id in URL {endpoint.effective_id}"
            )

    # --- reading the state

    async def _read_state(self, endpoint: Endpoint, body: bytes) -> HttpReply:
        envelope, permits = await self._authenticated(body, READ_STATE)
        try:
            check_size(envelope.paths)
        except ReadRefused as refused:
            raise HttpError(refused.http_status, refused.text) from refused
        if not endpoint.at_subnet:
            self.boundary.of_canister(endpoint.effective_id)
        request = ReadState(
            cookie=0,
            sender=envelope.sender,
            paths=envelope.paths,
            effective_id=endpoint.effective_id,
            at_subnet=endpoint.at_subnet,
            version=endpoint.version,
            targets=permits.targets,
        )
        answer = await self.boundary.line.ask(request, StateRead)
        if answer.http_status != 200:
            raise HttpError(answer.http_status, answer.problem)
        form = PLAIN if endpoint.at_subnet else FLAT if endpoint.version == 2 else SHARDED
        # The subnet that answered: canisters may move.
        whole = await self.boundary.delegated(answer.certificate, answer.subnet, form, endpoint.effective_id)
        return cbor_reply({"certificate": whole})

    async def _authenticated(self, body: bytes, kind: str) -> tuple[Envelope, Permits]:
        """The request of a sender who has signed it, in time unless it is anonymous."""
        boundary, now = self.boundary, await self.boundary.now()
        try:
            envelope = read_envelope(body, kind)
            if envelope.sender != ANONYMOUS and not boundary.description.any_expiry:
                check_expiry(envelope.expiry, now, boundary.description.ingress_ttl_ns)
            return envelope, authenticate(envelope, now, boundary.root_key)
        except EnvelopeError as error:
            raise HttpError(400, _told(str(error), kind)) from error


def _told(problem: str, kind: str) -> str:
    return f"Could not parse body as {kind} message: {problem}" if problem.startswith(_MALFORMED) else problem
