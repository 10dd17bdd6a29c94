"""An open query: its own fork of the canister, the calls that it still wants to make, and its messages one after the other.

Rule module. Spec: abstract behaviour, "Query call", `composite_query_helper` (W, Calls). What a composite query writes its
callbacks see; a callback that traps leaves nothing but what its cleanup writes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from configs.limits import SubnetLimits
from ic_types.messages import CallerInfo
from ic_types.principal import CanisterId, Principal
from ic_types.reject import Payload, Reject
from ic_types.units import TimeNs
from sandbox.execution_state import ExecutionState
from sandbox.protocol import ExecutionInput, Finished, OutgoingCall, Trapped
from scheduler import call_context_rules, cycles_account, error_texts, query_messages
from scheduler.canister import Canister
from scheduler.effects import Effects, ReleaseFork, RunMessage


class MessageEnd(NamedTuple):
    """What became of a method or callback: at most one of payload and error is set."""

    instructions: int
    payload: Payload | None
    error: Reject | None


@dataclass(slots=True)
class QueryContext:
    """One call of `composite_query_helper`."""

    canister: Canister
    """As certified; stays as it is."""
    caller: Principal
    call: OutgoingCall | None
    """Which call of the context above this answers; None at the root."""
    info: CallerInfo | None
    """What is known of the user; of the root only."""
    own_fork: bool
    """A composite query, whose changes last until it has answered."""
    execution: ExecutionState = field(init=False)
    calls: deque[OutgoingCall] = field(default_factory=deque)
    """Wanted, in the order in which they will be made."""
    made: OutgoingCall | None = None
    """The call under way."""
    instructions: int = 0
    """Of all its messages so far, for performance_counter(1)."""

    def __post_init__(self) -> None:
        """A fork costs nothing until it is written to."""
        execution = self.canister.execution
        assert execution is not None, f"{self.canister_id} has no code"
        self.execution = execution.fork() if self.own_fork else execution

    @property
    def canister_id(self) -> CanisterId:
        """Whose query it is."""
        return self.canister.canister_id

    def next_call(self) -> OutgoingCall:
        """Take the call that is made next."""
        self.made = self.calls.popleft()
        return self.made

    def release(self) -> Effects[None]:
        """Give the fork's sandbox back."""
        if self.own_fork:
            yield ReleaseFork(self.execution)

    def run_method(
        self, method: str, arg: bytes, time: TimeNs, limit: int, certificate: bytes | None, limits: SubnetLimits
    ) -> Effects[MessageEnd]:
        """Run the query or composite query method."""
        message = query_messages.method_input(
            composite=self.own_fork,
            method=method,
            arg=arg,
            caller=self.caller,
            time=time,
            limit=limit,
            data_certificate=certificate,
        )
        return (yield from self._run(message, limits))

    def run_callback(self, answer: Payload, time: TimeNs, limit: int, limits: SubnetLimits) -> Effects[MessageEnd]:
        """Run the callback of the call under way and, if it traps, its cleanup with the instructions that are left."""
        call, self.made = self.made, None
        assert call is not None, "an answer belongs to a call"
        message = query_messages.callback_input(call, answer, caller=self.caller, time=time, limit=limit)
        ended = yield from self._run(message, limits)
        if ended.error is None or call.on_cleanup is None:
            return ended
        left = limit - ended.instructions
        cleanup = query_messages.cleanup_input(call.on_cleanup, caller=self.caller, time=time, limit=left)
        cleaned = yield from self._run(cleanup, limits)
        error = ended.error
        if cleaned.error is not None:
            prefix = error_texts.canister_error(self.canister_id, 0, "").message
            error = error_texts.with_cleanup_error(error, cleaned.error.message.removeprefix(prefix))
        return MessageEnd(ended.instructions + cleaned.instructions, None, error)

    def _run(self, message: ExecutionInput, limits: SubnetLimits) -> Effects[MessageEnd]:
        callbacks = limits.callback_soft_limit - len(self.calls) if self.own_fork else 0
        seen = replace(self.canister, execution=self.execution) if self.own_fork else self.canister
        context = query_messages.query_context(seen, callbacks=callbacks, instructions=self.instructions)
        if self.info is not None:
            message = replace(message, caller_info=self.info)
        answer = yield RunMessage(self.canister_id, self.execution, message, context, own_fork=self.own_fork)
        assert type(answer) is Finished or type(answer) is Trapped, "queries aren't sliced"
        instructions = min(answer.instructions + self._page_charge(answer, limits), message.instruction_limit)
        self.instructions += instructions
        if type(answer) is Trapped:
            error = error_texts.canister_error(self.canister_id, answer.error_code, answer.message)
            return MessageEnd(instructions, None, error)
        assert type(answer) is Finished
        if answer.response is not None:
            return MessageEnd(instructions, call_context_rules.payload_of(answer.response), None)
        if self.own_fork:
            self.execution.commit(answer)
        self.calls.extend(answer.calls)
        return MessageEnd(instructions, None, None)

    def _page_charge(self, answer: Finished | Trapped, limits: SubnetLimits) -> int:
        """Instructions for heap pages that changed, of messages whose changes last."""
        if not self.own_fork or not answer.heap.indices:
            return 0
        factor = limits.wasm64_dirty_page_multiplier if cycles_account.is_wasm64(self.canister) else 1
        changed = self.execution.heap.count_changed(answer.heap.indices, answer.heap.content)
        return changed * limits.dirty_page_overhead * factor
