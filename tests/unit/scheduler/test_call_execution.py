"""Calls: from the queue to the answer, and what they cost."""

from __future__ import annotations

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.messages import Response
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from scheduler.canister import RunStatus
from scheduler.cycles_account import BurnCause
from tests.support.fake_executor import (
    USER,
    FakeWorld,
    accept,
    burn,
    call,
    certify,
    dirty,
    grow,
    log,
    reject_with,
    reply,
    set_timer,
    trap,
    work,
)

FEES = CyclesCostSchedule()


def test_ingress_is_answered_in_its_round() -> None:
    """An update call that replies ends with its reply and leaves no context."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [work(5), reply(b"hi")])
    summary = world.run_round()
    assert world.outcome(message_id) == b"hi"
    assert (summary.messages, summary.instructions) == (1, 5)
    assert canister.contexts == {}
    assert canister.next_context_id == 2


def test_explicit_reject_keeps_changes() -> None:
    """A reject by the canister is a reject for the caller; the message's changes stay."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [certify(b"c"), reject_with("not you")])
    world.run_round()
    assert world.outcome(message_id) == Reject(RejectCode.CANISTER_REJECT, "not you", ErrorCode.CANISTER_REJECTED_MESSAGE)
    assert canister.certified_data == b"c"
    assert canister.version == 1


def test_message_without_answer_is_rejected() -> None:
    """A call that returns without reply and without open calls has starved."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [work(1)])
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_DID_NOT_REPLY
    assert text == f"Error from Canister {canister.canister_id}: Canister did not reply to the call"
    assert canister.version == 1


def test_trap_changes_nothing_but_cycles_and_logs() -> None:
    """A trapped message is rolled back, but paid for and logged."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    before = canister.balance
    message_id = world.ingress(
        canister, [work(1000), certify(b"c"), set_timer(9), log(b"bye"), grow(3), reply(b"x"), trap("boom")]
    )
    world.run_round()
    code, text = world.error_of(message_id)
    assert code is ErrorCode.CANISTER_CALLED_TRAP
    assert text == f"Error from Canister {canister.canister_id}: Canister called `ic0.trap` with message: 'boom'"
    assert (canister.certified_data, canister.global_timer, canister.version) == (b"", 0, 0)
    assert canister.execution is not None
    assert canister.execution.heap.wasm_pages == 1
    assert [r.content for r in canister.logs] == [b"bye"]
    assert before - canister.balance == 5_000_000 + 1000
    assert world.tally.burned == {BurnCause.INSTRUCTIONS: 5_001_000}


@pytest.mark.parametrize(
    ("wasm64", "ends", "instructions"), [(False, reply(), 3010), (True, reply(), 12010), (False, trap(), 3010)]
)
def test_changed_heap_pages_are_charged(wasm64: bool, ends: tuple[object, ...], instructions: int) -> None:
    """Each changed heap page costs 1000 instructions, four times that with a 64-bit heap, also when the message fails."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister(wasm64=wasm64)
    before = canister.balance
    world.ingress(canister, [work(10), dirty(3), ends])
    summary = world.run_round()
    assert summary.instructions == instructions
    assert before - canister.balance == 5_000_000 + instructions * (2 if wasm64 else 1)
    assert canister.heap_delta_debit == 0  # the limit per round is far above it


def test_charged_instructions_stop_at_the_limit() -> None:
    """Dirty pages are counted afterwards, so they may exceed the limit; the bill stops there."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    limit = world.limits.instructions_per_query
    world.ingress(canister, [work(limit), dirty(5), reply()], method="query")
    before = canister.balance
    world.run_rounds()
    assert before - canister.balance == FEES.execution(limit)


def test_replicated_query_changes_nothing() -> None:
    """A query method called as an update replies; its changes, pages and version are dropped."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    before = canister.balance
    message_id = world.ingress(canister, [work(7), dirty(2), reply(b"q")], method="query")
    world.run_round()
    assert world.outcome(message_id) == b"q"
    assert canister.version == 0
    assert before - canister.balance == 5_000_007


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        ("nope", ErrorCode.CANISTER_METHOD_NOT_FOUND, "Error from Canister {id}: Canister has no update method 'nope'."),
        (
            "composite",
            ErrorCode.COMPOSITE_QUERY_CALLED_IN_REPLICATED_MODE,
            "Composite query cannot be called in replicated mode",
        ),
    ],
)
def test_call_of_missing_method_pays_the_base_fee(method: str, code: ErrorCode, text: str) -> None:
    """A method that can't run is refused; nothing runs, the base fee is gone."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    before = canister.balance
    message_id = world.ingress(canister, [reply()], method=method)
    summary = world.run_round()
    found, message = world.error_of(message_id)
    assert found is code
    assert message.startswith(text.format(id=canister.canister_id))
    assert before - canister.balance == 5_000_000
    assert summary.messages == 0
    assert canister.next_context_id == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(RunStatus.STOPPING, ErrorCode.CANISTER_STOPPING), (RunStatus.STOPPED, ErrorCode.CANISTER_STOPPED)],
)
def test_canister_that_does_not_run_refuses_calls(status: RunStatus, code: ErrorCode) -> None:
    """Calls that were queued before the stop are refused with all their cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    message_id = world.ingress(canister, [reply()])
    request = world.request(canister, [reply()], cycles=11)
    canister.status = status
    world.run_round()
    assert world.error_of(message_id) == (code, f"Canister {canister.canister_id} is not running")
    (response,) = world.remote
    assert isinstance(response, Response)
    assert response.refund == 11
    assert response.callback_id == request.callback_id
    text = f"{code.text}: Canister {canister.canister_id} is not running"
    assert response.payload == Reject(RejectCode.CANISTER_ERROR, text, code)


def test_empty_canister_refuses_calls() -> None:
    """Without a module there is nothing to run."""
    world = FakeWorld()
    message_id = world.ingress(world.add_canister(empty=True), [reply()])
    world.run_round()
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_WASM_MODULE_NOT_FOUND


def test_frozen_canister_refuses_calls_and_names_the_sum_to_controllers_only() -> None:
    """The whole limit must be prepaid above the freezing threshold."""
    world = FakeWorld(fees=FEES)
    prepaid = FEES.execution(world.limits.instructions_per_message)
    canister = world.add_canister(prepaid - 3)
    by_controller = world.ingress(canister, [reply()])
    by_user = world.ingress(canister, [reply()], sender=canister.canister_id)
    world.run_round()
    code, text = world.error_of(by_controller)
    assert code is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert text == (
        f"Canister {canister.canister_id} is out of cycles: please top up the canister with at least 3 additional cycles"
    )
    assert world.error_of(by_user)[1] == f"Canister {canister.canister_id} is out of cycles"
    assert canister.balance == prepaid - 3


def test_freezing_threshold_is_kept_by_prepayments() -> None:
    """A balance that covers the prepayment but not the threshold beside it is frozen."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister(FEES.execution(world.limits.instructions_per_message) + 1, freezing_threshold_s=2_592_000)
    message_id = world.ingress(canister, [reply()])
    world.run_round()
    assert world.error_of(message_id)[0] is ErrorCode.CANISTER_OUT_OF_CYCLES


def test_request_is_answered_with_the_cycles_it_left() -> None:
    """Accepted cycles go to the callee, the others back with the response."""
    world = FakeWorld()
    canister = world.add_canister(100)
    request = world.request(canister, [accept(30), reply(b"r")], cycles=70, deadline_s=0)
    world.run_round()
    (response,) = world.remote
    assert response == Response(
        originator=request.sender,
        respondent=canister.canister_id,
        callback_id=request.callback_id,
        refund=40,  # type: ignore[arg-type]
        payload=Reply(b"r"),
    )
    assert canister.balance == 130


def test_trapped_request_gets_everything_back() -> None:
    """Cycles accepted by a message that traps were not accepted; the error carries its code."""
    world = FakeWorld()
    canister = world.add_canister(100)
    world.request(canister, [accept(30), trap("t")], cycles=70)
    world.run_round()
    (response,) = world.remote
    assert isinstance(response, Response)
    assert response.refund == 70
    assert isinstance(response.payload, Reject)
    assert response.payload.message == (
        f"IC0503: Error from Canister {canister.canister_id}: Canister called `ic0.trap` with message: 't'"
    )
    assert canister.balance == 100


def test_starved_request_learns_no_response() -> None:
    """A caller canister sees a different text than a user."""
    world = FakeWorld()
    world.request(world.add_canister(), [work(1)], cycles=3)
    world.run_round()
    (response,) = world.remote
    assert isinstance(response, Response)
    assert isinstance(response.payload, Reject)
    assert (response.payload.code, response.payload.message) == (RejectCode.CANISTER_ERROR, "No response")
    assert response.refund == 3


def test_cycles_burn_counts_as_burned() -> None:
    """`cycles_burn` takes cycles out of circulation, by cause and for the canister."""
    world = FakeWorld()
    canister = world.add_canister(1000)
    world.ingress(canister, [burn(400), reply()])
    world.run_round()
    assert canister.balance == 600
    assert world.tally.burned == {BurnCause.CYCLES_BURN: 400}
    assert canister.metrics.cycles_burned == 400


def test_outgoing_call_prepays_response_and_callback() -> None:
    """A call takes its fee, the attached cycles and two prepayments."""
    world = FakeWorld(fees=FEES)
    canister = world.add_canister()
    before = canister.balance
    message_id = world.ingress(canister, [call(Principal.canister(77), [reply()], cycles=1234)])
    world.run_round()
    ((callback_id, callback),) = canister.callbacks.items()
    (request,) = world.remote
    assert request.callback_id == callback_id == 1
    payload = len("update") + len(request.arg)  # type: ignore[union-attr]
    assert callback.prepaid_execution == 40_005_000_000
    assert callback.prepaid_transmission == 1000 * 2 * 2**20
    spent = 5_000_000 + 260_000 + 1000 * payload + 1234 + callback.prepaid_execution + callback.prepaid_transmission
    assert before - canister.balance == spent
    assert canister.contexts[callback.context_id].outstanding_calls == 1
    assert world.outcome(message_id) is None
    assert world.processing == [message_id]


def test_call_that_answered_keeps_its_context_for_open_calls() -> None:
    """Responding doesn't end a context that waits for callbacks; it then holds no cycles."""
    world = FakeWorld()
    canister = world.add_canister()
    world.request(canister, [call(Principal.canister(77)), reply(b"early")], cycles=9)
    world.run_round()
    (context,) = canister.contexts.values()
    assert (context.responded, context.available_cycles, context.outstanding_calls) == (True, 0, 1)
    response = next(m for m in world.remote if isinstance(m, Response))
    assert (response.refund, response.payload) == (9, Reply(b"early"))


def test_logs_keep_the_newest_lines() -> None:
    """The log holds 4096 bytes, 40 of them per record; indices go on."""
    world = FakeWorld()
    canister = world.add_canister()
    for number in range(30):
        world.ingress(canister, [log(bytes([number]) * 160), reply()])
    world.run_rounds()
    assert [r.index for r in canister.logs] == list(range(10, 30))
    assert sum(40 + len(r.content) for r in canister.logs) <= 4096


def test_caller_of_a_request_is_the_sending_canister() -> None:
    """Inputs name caller, method and deadline of the call being served."""
    world = FakeWorld()
    canister = world.add_canister()
    world.request(canister, [reply()], deadline_s=1_300)
    world.ingress(canister, [reply()])
    world.run_rounds()
    by_ingress, by_request = sorted(world.executor.inputs, key=lambda i: i.deadline_ns)
    assert by_ingress.caller == USER
    assert by_request.deadline_ns == 1_300_000_000_000
