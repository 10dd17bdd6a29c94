"""Where every open call is: as a request, as a call context, as a stop call, waiting for consensus, or as its response.

Rule module. Spec: a call gets exactly one response; so while its callback waits, the call is in exactly one of these places.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ic_types.messages import Request, Response
from message_routing.queue_state import QueueState
from scheduler.canister import CallOrigin, Canister, CanisterOrigin
from subnet.account import OpenCall
from subnet.state.replicated_state import ReplicatedState


def open_calls(state: ReplicatedState) -> Iterator[OpenCall]:
    """All calls that this subnet holds, in a fixed order; costs the size of queues, streams and open contexts."""
    for canister_id in sorted(state.canisters):
        canister = state.canisters[canister_id]
        yield from _in_queues(canister.queues, str(canister_id))
        yield from _in_canister(canister)
    yield from _in_queues(state.management_queues, "the management canister")
    for waiting in state.consensus_calls.calls.values():
        yield from _of_message(waiting.message, "the calls that wait for consensus")
    own = state.own.subnet_id
    for peer in sorted(state.streams):
        stream = state.streams[peer]
        for index, message in enumerate(stream.iter_messages(), stream.begin):
            for call in _of_message(message, f"the stream to {'the subnet itself' if peer == own else peer}"):
                yield call if peer == own else replace(call, peer=peer, index=index)


def _in_queues(queues: QueueState, whose: str) -> Iterator[OpenCall]:
    for peer_id in sorted(queues.peers):
        pair = queues.peers[peer_id]
        for message in pair.inputs.values():
            yield from _of_message(message, f"the input queue of {whose}")
        for message, _ in pair.outputs.values():
            yield from _of_message(message, f"the output queue of {whose}")


def _in_canister(canister: Canister) -> Iterator[OpenCall]:
    whose = f"of {canister.canister_id}"
    if canister.long_execution is not None:
        yield from _of_message(canister.long_execution.message, f"the long execution {whose}")
    if canister.long_install is not None:
        yield from _of_message(canister.long_install.message, f"the long install {whose}")
    for context in canister.contexts.values():
        if not context.responded:
            yield from _of_origin(context.origin, f"call context {context.context_id} {whose}")
    for stop in canister.stop_calls:
        yield from _of_origin(stop.origin, f"the stop calls {whose}")


def _of_message(message: object, place: str) -> Iterator[OpenCall]:
    if isinstance(message, Request | Response):
        is_request = isinstance(message, Request)
        yield OpenCall(
            caller=message.sender if isinstance(message, Request) else message.originator,
            callback_id=message.callback_id,
            deadline_s=message.deadline_s,
            place=f"a {'request' if is_request else 'response'} in {place}",
        )


def _of_origin(origin: CallOrigin, place: str) -> Iterator[OpenCall]:
    if isinstance(origin, CanisterOrigin):
        yield OpenCall(caller=origin.caller, callback_id=origin.callback_id, deadline_s=origin.deadline_s, place=place)
