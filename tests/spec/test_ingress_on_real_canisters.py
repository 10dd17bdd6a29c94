"""Ingress messages from submission to being forgotten, on real canisters.

Abstract behaviour, "API Request submission", "Request rejection", "Initiating canister calls", "Respond to user request",
"Update call request clean up".
"""

from __future__ import annotations

import pytest

from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.units import TimeNs
from subnet.lab.universal import Program, argument, caller, get_global, time
from tests.support.lone_node import SECOND
from tests.support.spec_node import FEES, NOBODY, STRANGER, USER, SpecNode, management_arg

pytestmark = pytest.mark.slow
RAW_RAND = (bytes(MANAGEMENT_CANISTER), b"raw_rand", b"DIDL\0\0")
CYCLE_FREE_CENTURIES = 10**13


@pytest.mark.spec("respond-to-user-request")
@pytest.mark.spec("ic0.msg_reply")
@pytest.mark.spec("ic0.msg_reply_data_append")
def test_update_replies(node: SpecNode) -> None:
    """requests[M] = Replied R, in the round of its execution; pieces of a reply are put together."""
    canister = node.universal()
    message = node.submit(canister, Program().append(b"hel").append(b"lo").send_reply())
    assert node.status(message) == "replied"
    assert node.outcomes[message.message_id].replied == b"hello"


@pytest.mark.spec("respond-to-user-request")
@pytest.mark.spec("ic0.msg_reject")
def test_update_rejects(node: SpecNode) -> None:
    """requests[M] = Rejected (CANISTER_REJECT, text), with error code IC0406; appended reply data is discarded."""
    outcome = node.ask(node.universal(), Program().append(b"lost").reject(b"not today"))
    assert (outcome.rejected, outcome.message) == ((4, "IC0406"), "not today")


@pytest.mark.spec("initiating-canister-calls")
def test_open_call_is_processing(node: SpecNode) -> None:
    """Processing once its call context is open, Replied when a callback replies."""
    canister = node.universal()
    message = node.submit(canister, Program().call(*RAW_RAND, on_reply=Program().reply(b"done")))
    assert node.status(message) == "processing"
    assert node.outcome(message).replied == b"done"


@pytest.mark.spec("initiating-canister-calls")
@pytest.mark.spec("ic0.msg_caller_copy")
@pytest.mark.spec("ic0.msg_caller_size")
def test_caller_is_the_sender(node: SpecNode) -> None:
    """caller = R.sender."""
    canister = node.universal()
    assert node.ask(canister, Program().reply(caller()), sender=STRANGER).replied == bytes(STRANGER)


@pytest.mark.spec("initiating-canister-calls")
@pytest.mark.spec("ic0.msg_arg_data_copy")
@pytest.mark.spec("ic0.msg_arg_data_size")
def test_argument_is_that_of_the_request(node: SpecNode) -> None:
    """arg = R.arg."""
    program = Program().reply(argument())
    assert node.ask(node.universal(), program).replied == bytes(program)


@pytest.mark.spec("api-request-submission")
@pytest.mark.spec("api-request-submission", condition=3)
def test_duplicate_is_executed_once(node: SpecNode) -> None:
    """The same request twice in a batch and once more later is one request."""
    canister = node.universal()
    count = Program().set_global(get_global().concat(b"x")).reply()
    message = node.message(canister, count)
    node.round(message, message)
    node.round(message)
    assert node.ask(canister, Program().reply(get_global())).replied == b"x"


@pytest.mark.spec("user-request-rejection")
@pytest.mark.spec("api-request-submission")
@pytest.mark.spec("api-request-submission", condition=4)
def test_expired_message_is_rejected(node: SpecNode) -> None:
    """SYS_TRANSIENT, IC0202; a message that expires at the batch's time is still good."""
    canister = node.universal()
    late = node.submit(canister, Program().reply(), expiry=TimeNs(node.now + SECOND - 1))
    outcome = node.outcome(late)
    assert outcome.rejected == (2, "IC0202")
    assert outcome.message == f"Ingress message {late.message_id.hex()} timed out waiting to start executing."
    assert node.ask(canister, Program().reply(b"in time"), expiry=TimeNs(node.now + SECOND)).replied == b"in time"


@pytest.mark.spec("api-request-submission")
def test_unknown_canister(node: SpecNode) -> None:
    """DESTINATION_INVALID, IC0301."""
    outcome = node.ask(NOBODY, Program().reply())
    assert (outcome.rejected, outcome.message) == ((3, "IC0301"), f"Canister {NOBODY} not found")


@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected")
def test_stopped_canister(node: SpecNode) -> None:
    """CANISTER_ERROR, IC0508."""
    canister = node.universal()
    node.stop(canister)
    outcome = node.ask(canister, Program().reply())
    assert (outcome.rejected, outcome.message) == ((5, "IC0508"), f"Canister {canister} is stopped")


@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected")
def test_stopping_canister(node: SpecNode) -> None:
    """CANISTER_ERROR, IC0509; the open call is still answered."""
    canister = node.universal()
    opened = node.submit(canister, Program().call(*RAW_RAND, on_reply=Program().reply(b"done")))
    arg = management_arg("stop_canister", {"canister_id": canister})
    stop = node.submit(MANAGEMENT_CANISTER, arg, "stop_canister")
    refused = node.submit(canister, Program().reply())
    outcome = node.outcomes[refused.message_id]
    assert (outcome.rejected, outcome.message) == ((5, "IC0509"), f"Canister {canister} is stopping")
    assert node.outcome(opened).replied == b"done"
    assert node.outcome(stop).replied == b"DIDL\0\0"


@pytest.mark.spec("api-request-submission")
def test_empty_canister(node: SpecNode) -> None:
    """CANISTER_ERROR, IC0537."""
    canister = node.create()
    outcome = node.ask(canister, Program().reply())
    assert outcome.rejected == (5, "IC0537")
    assert outcome.message.startswith(
        f"Error from Canister {canister}: Attempted to execute a message, but the canister contains no Wasm module."
    )


@pytest.mark.spec("calls-to-frozen-canisters-are-rejected")
@pytest.mark.spec("api-request-submission")
def test_frozen_canister(node: SpecNode) -> None:
    """SYS_TRANSIENT, IC0207; only the message of a controller tells how much is missing."""
    canister = node.universal()
    settings = {"freezing_threshold": CYCLE_FREE_CENTURIES}
    node.done("update_settings", {"canister_id": canister, "settings": settings})
    outcome = node.ask(canister, Program().reply(), sender=STRANGER)
    assert (outcome.rejected, outcome.message) == ((2, "IC0207"), f"Canister {canister} is out of cycles")
    assert node.query(canister, Program().reply()).rejected == (2, "IC0207")
    node.done("update_settings", {"canister_id": canister, "settings": {"freezing_threshold": 0}})
    assert node.ask(canister, Program().reply(b"thawed")).replied == b"thawed"


@pytest.mark.spec("call-context-creation")
@pytest.mark.parametrize("method", ["missing", "Update", "canister_update update", ""])
def test_missing_method(node: SpecNode, method: str) -> None:
    """CANISTER_ERROR, IC0536."""
    canister = node.universal()
    outcome = node.ask(canister, Program().reply(), method)
    assert outcome.rejected == (5, "IC0536")
    assert outcome.message.startswith(f"Error from Canister {canister}: Canister has no update method '{method}'.")


@pytest.mark.spec("rule-message-execution")
@pytest.mark.spec("ic0.in_replicated_execution")
def test_query_method_called_as_update(node: SpecNode) -> None:
    """It replies, replicated, and its changes are forgotten."""
    canister = node.universal(Program().set_global(b"kept"))
    program = Program().set_global(b"forgotten").append(get_global()).reply()
    assert node.ask(canister, program, "query").replied == b"forgotten"
    assert node.ask(canister, Program().reply(get_global()), "query").replied == b"kept"


@pytest.mark.spec("rule-message-execution")
def test_composite_query_called_as_update(node: SpecNode) -> None:
    """CANISTER_ERROR, IC0527."""
    outcome = node.ask(node.universal(), Program().reply(), "composite_query")
    assert (outcome.rejected, outcome.message) == (
        (5, "IC0527"),
        "Composite query cannot be called in replicated mode",
    )


@pytest.mark.spec("update-call-request-clean-up")
def test_outcome_is_forgotten_after_five_minutes(node: SpecNode) -> None:
    """The status stays for 300 s, then the request is removed."""
    message = node.submit(node.universal(), Program().reply())
    node.round(seconds=300)
    assert node.status(message) == "replied"
    node.round(seconds=1)
    assert node.status(message) == "unknown"


@pytest.mark.spec("api-request-submission")
def test_induction_is_paid_by_the_receiver(node: SpecNode) -> None:
    """Fee per message and per byte of the envelope, charged even if the method is missing; that one pays the base fee too."""
    canister = node.universal()
    message = node.message(canister, Program().reply(), "missing")
    before = node.balance(canister)
    node.round(message, seconds=0.001)
    assert before - node.balance(canister) == FEES.ingress(message.raw_bytes) + FEES.execution(0)


@pytest.mark.spec("api-request-submission")
@pytest.mark.parametrize(
    ("method", "error", "text"),
    [
        ("no_such_method", "IC0407", "Method no_such_method is unknown."),
        ("raw_rand", "IC0407", "raw_rand method is not allowed to be called by a user."),
        ("create_canister", "IC0407", "create_canister method is not allowed to be called by a user."),
        ("deposit_cycles", "IC0407", "deposit_cycles method is not allowed to be called by a user."),
        ("start_canister", "IC0408", "Candid payload is invalid."),
    ],
)
def test_management_methods_that_users_cannot_call(node: SpecNode, method: str, error: str, text: str) -> None:
    """The management canister's methods for canisters, unknown ones and broken arguments are refused at induction."""
    outcome = node.ask(MANAGEMENT_CANISTER, b"DIDL\0\0", method)
    assert outcome.rejected == (4, error)
    assert text in outcome.message


@pytest.mark.spec("effective-canister-ids")
def test_management_call_about_an_unknown_canister(node: SpecNode) -> None:
    """The effective canister pays for the call, so it has to exist."""
    outcome = node.managed("start_canister", {"canister_id": NOBODY})
    assert (outcome.rejected, outcome.message) == ((3, "IC0301"), f"Canister {NOBODY} not found")


@pytest.mark.spec("effective-canister-ids")
def test_management_call_is_paid_by_the_effective_canister(node: SpecNode) -> None:
    """`arg = candid({canister_id = p, ...})`."""
    canister = node.universal()
    arg = management_arg("start_canister", {"canister_id": canister})
    message = node.message(MANAGEMENT_CANISTER, arg, "start_canister")
    before = node.balance(canister)
    node.round(message, seconds=0.001)
    assert before - node.balance(canister) == FEES.ingress(message.raw_bytes)
    assert USER in node.canister(canister).settings.controllers


@pytest.mark.spec("time-progressing")
@pytest.mark.spec("ic0.time")
def test_time_is_that_of_the_batch(node: SpecNode) -> None:
    """Constant within a message, increasing from round to round."""
    canister = node.universal()
    first = node.ask(canister, Program().append(time().to_blob()).append(time().to_blob()).send_reply())
    assert first.replied == node.now.to_bytes(8, "little") * 2
    assert node.ask(canister, Program().reply_int(time())).number == node.now
