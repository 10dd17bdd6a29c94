"""What a node certifies to users and canisters: parts of its state, delegations, its own answers to queries.

Rule module. Spec: interface spec, "Request: Read state", "Certificate" and, for signed answers, "Request: Query call". All
of it is of the last certified height, so requests wait until the newest state is certified.
"""

from __future__ import annotations

from dataclasses import replace

from ic_types.identity import Ed25519Identity
from ic_types.principal import CanisterId, Principal
from ic_types.request_id import Hashable, hash_of_map
from subnet.certification.certificate import make_certificate
from subnet.certification.delegation import delegate_in_all_forms
from subnet.certification.read_state import KnownState, ReadRefused, readable_paths
from subnet.protocol import Delegate, Delegated, QueryReply, ReadState, StateRead
from subnet.state.replicated_state import ReplicatedState

RESPONSE_DOMAIN = b"\x0bic-response"


def read_state(state: ReplicatedState, signature: bytes, request: ReadState) -> StateRead:
    """A certificate for a user; `signature` is that over the root of the state as it is."""
    try:
        paths = readable_paths(request, _known(state))
    except ReadRefused as refused:
        return StateRead(cookie=request.cookie, http_status=refused.http_status, problem=refused.text)
    certificate = make_certificate(state.tree, paths, signature)
    return StateRead(cookie=request.cookie, subnet=state.own.subnet_id, certificate=certificate)


def delegate(state: ReplicatedState, signature: bytes, request: Delegate) -> Delegated:
    """The root subnet's word on all other subnets."""
    root = state.network.root
    others = [record.subnet_id for record in state.network.subnets if record.subnet_id != root]
    made = tuple(delegate_in_all_forms(state.tree, signature, subnet) for subnet in others)
    return Delegated(cookie=request.cookie, time_ns=state.time, subnets=made)


def sign_answer(reply: QueryReply, request_id: bytes, identity: Ed25519Identity) -> QueryReply:
    """The answer with the node's signature over it and the id of the request."""
    fields: dict[str, Hashable] = {"status": reply.status, "timestamp": reply.time_ns, "request_id": request_id}
    if reply.status == "replied":
        fields["reply"] = {"arg": reply.reply}
    else:
        fields |= {"reject_code": reply.reject_code, "reject_message": reply.reject_message}
        if reply.error_code:
            fields["error_code"] = reply.error_code
    return replace(reply, signature=identity.sign(RESPONSE_DOMAIN + hash_of_map(fields)), node_id=identity.principal)


def _known(state: ReplicatedState) -> KnownState:
    def request_owner(message_id: bytes) -> tuple[Principal, CanisterId, Principal | None] | None:
        status = state.history.get(message_id)
        return None if status is None else (status.sender, status.receiver, status.effective_id)

    def is_hidden(canister_id: CanisterId, name: str, user: Principal) -> bool:
        canister = state.canisters.get(canister_id)
        if canister is None or canister.execution is None or user in canister.settings.controllers:
            return False
        return any(one.name == name and not one.public for one in canister.execution.module.custom_sections)

    return KnownState(
        root=state.network.root,
        subnets=tuple(record.subnet_id for record in state.network.subnets),
        request_owner=request_owner,
        is_hidden=is_hidden,
    )
