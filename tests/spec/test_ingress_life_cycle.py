"""Abstract behaviour, "Request rejection", "Initiating canister calls", "Respond to user request" and "... clean up"."""

from __future__ import annotations

from dataclasses import replace

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.messages import CallerInfo
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, RejectCode
from ic_types.units import Cycles, TimeNs
from message_routing.ingress_history import IngressHistory
from sandbox.protocol import EntryPoint
from scheduler.cycles_account import freezing_threshold
from tests.support.fake_executor import USER, call, reject_with, reply, trap, work
from tests.support.script_subnets import SECOND, SHORT_SLICES, ScriptSubnet, script_subnet

FAR = Principal.canister(1 << 21)
INFO = CallerInfo(b"name: alice", Principal.canister(3))


def busy() -> ScriptSubnet:
    """A subnet with short slices."""
    return script_subnet(limits=SHORT_SLICES)


# --- rejection


@pytest.mark.spec("user-request-rejection", condition=(1, 2))
def test_message_that_waits_too_long() -> None:
    """IC0202 once its expiry is over; a message that has begun isn't touched by its own."""
    subnet = busy()
    canister = subnet.add()
    long = subnet.message(canister.canister_id, [work(1000), reply(b"done")], expiry=TimeNs(subnet.state.time + 2 * SECOND))
    waits = subnet.message(canister.canister_id, [reply()], expiry=TimeNs(subnet.state.time + 5 * SECOND))
    subnet.round(long, waits)
    subnet.rounds(4)
    assert (subnet.status(long), subnet.status(waits)) == ("processing", "received")
    subnet.round()
    text = f"Ingress message {waits.message_id.hex()} timed out waiting to start executing."
    assert subnet.outcome(waits) == Reject(RejectCode.SYS_TRANSIENT, text, ErrorCode.INGRESS_MESSAGE_TIMEOUT)
    subnet.rounds(10)
    assert subnet.outcome(long) == b"done"
    assert len(subnet.executor.executed) == 1


@pytest.mark.spec("user-request-rejection", condition=1)
def test_management_call_that_waits_too_long() -> None:
    """Calls of the management canister expire like others: here one about a canister with a paused message."""
    subnet = busy()
    canister = subnet.add()
    subnet.round(subnet.message(canister.canister_id, [work(2000), reply()]))
    expiry = TimeNs(subnet.state.time + 3 * SECOND)
    stop = subnet.manage("stop_canister", {"canister_id": canister.canister_id}, expiry=expiry)
    subnet.round(stop)
    subnet.rounds(3)
    outcome = subnet.outcome(stop)
    assert isinstance(outcome, Reject)
    assert outcome.error_code is ErrorCode.INGRESS_MESSAGE_TIMEOUT


@pytest.mark.spec("user-request-rejection", condition=3)
def test_full_history() -> None:
    """The message after the last that fits fails with IC0204; on system subnets the history has no such limit."""
    limits = SubnetLimits(ingress_history_messages=2)
    for system in ((), ("app",)):
        subnet = script_subnet(limits=limits, system=system)
        canister = subnet.add()
        messages = [subnet.message(canister.canister_id, [reply()]) for _ in range(3)]
        subnet.round(*messages)
        outcomes = [subnet.outcome(message) for message in messages]
        assert outcomes[:2] == [b"", b""]
        if system:
            assert outcomes[2] == b""
        else:
            assert isinstance(outcomes[2], Reject)
            assert (outcomes[2].code, outcomes[2].error_code) == (RejectCode.SYS_TRANSIENT, ErrorCode.INGRESS_HISTORY_FULL)


# --- initiating


@pytest.mark.spec("initiating-canister-calls", condition=1)
def test_message_runs_once() -> None:
    """In the same batch, while it waits, and after it was answered."""
    subnet = script_subnet()
    canister = subnet.add()
    message = subnet.message(canister.canister_id, [reply()])
    assert subnet.round(message, message).demux.duplicates == 1
    subnet.round(message)
    assert len(subnet.executor.executed) == 1


@pytest.mark.spec("initiating-canister-calls", condition=2)
@pytest.mark.parametrize(("early_ns", "runs"), [(0, True), (1, False)])
def test_message_at_its_expiry(early_ns: int, runs: bool) -> None:
    """system_time <= ingress_expiry, when it is inducted and as long as it waits."""
    subnet = busy()
    canister = subnet.add()
    now = TimeNs(subnet.state.time + SECOND - early_ns)
    message = subnet.message(canister.canister_id, [reply(b"in time")], expiry=now)
    subnet.round(message)
    assert (subnet.outcome(message) == b"in time") == runs
    subnet.round(subnet.message(canister.canister_id, [work(250), reply()]))
    waits = subnet.message(canister.canister_id, [reply(b"in time")], expiry=TimeNs(subnet.state.time + 3 * SECOND - early_ns))
    subnet.round(waits)
    subnet.rounds(3)
    assert (subnet.outcome(waits) == b"in time") == runs


@pytest.mark.spec("initiating-canister-calls", condition=3)
def test_open_call_is_processing() -> None:
    """With an open call, and while it is paused."""
    subnet = busy()
    one, two = subnet.add(), subnet.add()
    open_, paused = subnet.message(one.canister_id, [call(two.canister_id, [work(300)])]), None
    subnet.round(open_)
    assert subnet.status(open_) == "processing"
    paused = subnet.message(one.canister_id, [work(250), reply()])
    subnet.round(paused)
    assert subnet.status(paused) == "processing"
    subnet.rounds(3)
    assert subnet.status(paused) == "replied"


@pytest.mark.spec("initiating-canister-calls", condition=4)
def test_message_is_that_of_the_request() -> None:
    """Caller, method and argument."""
    subnet = script_subnet()
    canister = subnet.add()
    message = subnet.message(canister.canister_id, [reply()], "query")
    subnet.round(message)
    (seen,) = subnet.executor.inputs
    assert (seen.caller, seen.method, seen.arg) == (USER, "query", message.arg)


@pytest.mark.spec("initiating-canister-calls", condition=5)
def test_what_is_known_of_the_sender() -> None:
    """The method, its callbacks and cleanups learn it; calls that it makes don't pass it on, the next message has none."""
    subnet = script_subnet()
    canister, callee = subnet.add(), subnet.add()
    script = [work(1), call(callee.canister_id, [work(1), reply()], on_reply=[trap()], on_cleanup=[work(1)])]
    subnet.round(subnet.message(canister.canister_id, script, caller_info=INFO))
    subnet.rounds(3)
    seen = [(one.entry, one.caller_info) for one in subnet.executor.inputs]
    assert seen == [
        (EntryPoint.UPDATE, INFO),
        (EntryPoint.UPDATE, None),
        (EntryPoint.REPLY, INFO),
        (EntryPoint.CLEANUP, INFO),
    ]
    subnet.ask(canister.canister_id, [reply()])
    assert subnet.executor.inputs[-1].caller_info is None


@pytest.mark.spec("initiating-canister-calls", condition=6)
@pytest.mark.parametrize("missing", [0, 1])
def test_induction_fee(missing: int) -> None:
    """1.2 M cycles and 2,000 a byte of the envelope, above the freezing threshold; else IC0207 and nothing is queued."""
    fees = CyclesCostSchedule(ten_instructions_wasm32=0, update_execution_base=0)
    subnet = script_subnet(fees=fees)
    canister = subnet.add(freezing_threshold_s=10**6)
    message = subnet.message(canister.canister_id, [reply()], raw_bytes=777)
    balance = freezing_threshold(canister, fees) + 1_200_000 + 777 * 2_000 - missing
    subnet.state.minted += balance - canister.balance
    canister.balance = Cycles(balance)
    subnet.round(message)
    outcome = subnet.outcome(message)
    if missing:
        assert isinstance(outcome, Reject)
        assert outcome.error_code is ErrorCode.CANISTER_OUT_OF_CYCLES
        assert canister.balance == balance
    else:
        assert (outcome, canister.balance) == (b"", freezing_threshold(canister, fees))


@pytest.mark.spec("initiating-canister-calls", condition=7)
def test_induction_fee_during_a_paused_message() -> None:
    """The balance stays until the message ends; then the fee is gone."""
    fees = CyclesCostSchedule(canister_base_per_second=0, gib_storage_per_second=0)
    subnet = script_subnet(limits=SHORT_SLICES, fees=fees)
    canister = subnet.add()
    first = subnet.message(canister.canister_id, [work(250), reply()])
    subnet.round(first)
    balance = canister.balance
    second = subnet.message(canister.canister_id, [reply()])
    subnet.round(second)
    assert canister.balance == balance
    subnet.rounds(4)
    fee = sum(fees.ingress(message.raw_bytes) for message in (first, second))
    assert 10**15 - canister.balance == fee + fees.execution(250) + fees.execution(0)


# --- answers


@pytest.mark.spec("respond-to-user-request", condition=(1, 2))
def test_answers() -> None:
    """Replied with the data; Rejected with code, text and error code."""
    subnet = script_subnet()
    canister = subnet.add()
    assert subnet.ask(canister.canister_id, [reply(b"data")]) == b"data"
    rejected = subnet.message(canister.canister_id, [reject_with("not today")])
    subnet.round(rejected)
    expected = Reject(RejectCode.CANISTER_REJECT, "not today", ErrorCode.CANISTER_REJECTED_MESSAGE)
    assert (subnet.status(rejected), subnet.outcome(rejected)) == ("rejected", expected)
    failed = subnet.ask(canister.canister_id, [trap("ouch")])
    assert isinstance(failed, Reject)
    assert (failed.code, failed.error_code) == (RejectCode.CANISTER_ERROR, ErrorCode.CANISTER_CALLED_TRAP)


@pytest.mark.spec("respond-to-user-request", condition=3)
def test_answered_request_stays_answered() -> None:
    """A second answer is a bug, and stops the node."""
    history = IngressHistory()
    history.received(b"m", FAR, USER, TimeNs(1))
    history.replied(b"m", b"r", TimeNs(2))
    with pytest.raises(AssertionError, match="can't go from replied to rejected"):
        history.rejected(b"m", Reject(RejectCode.SYS_FATAL, ""), TimeNs(3))
    history.received(b"n", FAR, USER, TimeNs(1))
    with pytest.raises(AssertionError, match="can't go from received to received"):
        history.received(b"n", FAR, USER, TimeNs(1))


# --- clean up


@pytest.mark.spec("update-call-request-clean-up", condition=(1, 3))
def test_status_is_forgotten_after_300_seconds() -> None:
    """Not at 300 s; open requests are never forgotten."""
    subnet = script_subnet()
    canister = subnet.add()
    answered = subnet.message(canister.canister_id, [reply()], expiry=TimeNs(subnet.state.time + 2 * SECOND))
    stays = subnet.message(canister.canister_id, [work(1), call(FAR, on_reject=[call(bytes(0), method="raw_rand")])])
    subnet.round(answered, stays)
    subnet.round(seconds=300)
    assert subnet.status(answered) == "replied"
    subnet.round(seconds=0.001)
    assert subnet.status(answered) == "unknown"
    history = IngressHistory()
    history.received(b"open", FAR, USER, TimeNs(1))
    history.processing(b"open", TimeNs(2))
    history.prune(TimeNs(10**18))
    assert len(history) == 1


@pytest.mark.spec("update-call-request-clean-up", condition=2)
@pytest.mark.parametrize("fails", [False, True])
def test_status_is_kept_until_the_expiry(fails: bool) -> None:
    """A message with a far expiry can't run a second time when its status is 300 s old."""
    subnet = script_subnet()
    receiver = FAR if fails else subnet.add().canister_id
    message = subnet.message(receiver, [reply()], expiry=TimeNs(subnet.state.time + 500 * SECOND))
    subnet.round(message)
    status = subnet.status(message)
    subnet.round(seconds=400)
    assert (subnet.round(message).demux.duplicates, subnet.status(message)) == (1, status)
    subnet.round(seconds=100)
    assert subnet.status(message) == "unknown"


@pytest.mark.spec("update-call-request-clean-up", condition=4)
def test_data_is_dropped_when_there_is_too_much() -> None:
    """Exactly the limit is not too much; then the oldest loses its reply or text, and is `done`."""
    subnet = script_subnet(limits=replace(SubnetLimits(), ingress_history_bytes=1000))
    canister = subnet.add()
    messages = []
    for size in (400, 600, 1):
        messages.append(subnet.message(canister.canister_id, [reply(bytes(size))]))
        subnet.round(messages[-1])
        if size == 600:
            assert [subnet.status(message) for message in messages] == ["replied", "replied"]
    assert [subnet.status(message) for message in messages] == ["done", "replied", "replied"]
    done = subnet.state.history.get(messages[0].message_id)
    assert done is not None
    assert (done.reply, done.reject) == (b"", None)
    subnet.state.history.check_invariants()
