"""Calls between canisters: replies, rejects, traps, callbacks and cleanup, on real canisters.

Abstract behaviour, "Message execution", "Call context creation", "Call context starvation", "Callback invocation".
"""

from __future__ import annotations

import pytest

from configs.limits import SubnetLimits
from ic_types.principal import Principal
from subnet.lab.universal import (
    Blob,
    Int,
    Program,
    argument,
    blob,
    caller,
    deadline,
    get_global,
    integer,
    reject_code,
    reject_message,
    self_id,
    time,
)
from tests.support.lone_node import SECOND
from tests.support.spec_node import NOBODY, STRANGER, USER, SpecNode

pytestmark = pytest.mark.slow
MIB = 1 << 20
TOLD = Program().append(reject_code().to_blob()).append(reject_message()).send_reply()
"""Replies with the reject code (8 bytes) and the reject message."""
ELSEWHERE = Principal.canister(1 << 21)
"""In no subnet's range."""


def told(node: SpecNode, canister: Principal, program: Program) -> tuple[int, str]:
    """Reject code and message that a canister learns in its callback."""
    reply = node.ask(canister, program).replied
    return int.from_bytes(reply[:8], "little"), reply[8:].decode()


@pytest.mark.spec("callback-invocation")
@pytest.mark.spec("ic0.call_new")
@pytest.mark.spec("ic0.call_data_append")
@pytest.mark.spec("ic0.call_perform")
def test_reply_reaches_the_callback(node: SpecNode) -> None:
    """The reply is the callback's argument; reject_code is 0 there."""
    caller_, callee = node.universal(), node.universal()
    on_reply = Program().append(argument()).append(reject_code().to_blob()).send_reply()
    program = Program().call(callee, "update", Program().reply(b"hello "), on_reply=on_reply)
    assert node.ask(caller_, program).replied == b"hello " + bytes(8)


@pytest.mark.spec("callback-invocation")
@pytest.mark.spec("ic0.msg_reject_code")
@pytest.mark.spec("ic0.msg_reject_msg_copy")
@pytest.mark.spec("ic0.msg_reject_msg_size")
def test_reject_reaches_the_callback(node: SpecNode) -> None:
    """CANISTER_REJECT with the callee's text as it is."""
    caller_, callee = node.universal(), node.universal()
    program = Program().call(callee, "update", Program().reject(b"no way"), on_reject=TOLD)
    assert told(node, caller_, program) == (4, "no way")


@pytest.mark.spec("call-context-creation")
def test_callee_sees_the_calling_canister(node: SpecNode) -> None:
    """caller = CM.caller; in the caller's callback it is the caller of the context."""
    canister, callee = node.universal(), node.universal()
    program = Program().call(callee, "update", Program().reply(caller()), on_reply=Program().reply(argument().concat(caller())))
    assert node.ask(canister, program, sender=STRANGER).replied == bytes(canister) + bytes(STRANGER)


@pytest.mark.spec("rule-message-execution")
def test_calls_run_in_the_order_in_which_they_were_made(node: SpecNode) -> None:
    """Calls to one callee are never overtaken by later ones."""
    canister, callee = node.universal(), node.universal()
    quiet = Program()
    program = Program()
    for k in range(5):
        inner = Program().set_global(get_global().concat(bytes([k]))).reply()
        program = program.call(callee, "update", inner, on_reply=quiet, on_reject=quiet)
    node.ask(canister, program.reply())
    node.rounds(2)
    assert node.ask(callee, Program().reply(get_global())).replied == bytes(range(5))


@pytest.mark.spec("rule-message-execution")
def test_reply_before_the_callback(node: SpecNode) -> None:
    """A call context can be answered while a call is open; the callback still runs."""
    canister, callee = node.universal(), node.universal()
    program = Program().call(callee, "update", Program().reply(), on_reply=Program().set_global(b"ran"), on_reject=Program())
    assert node.ask(canister, program.reply(b"early")).replied == b"early"
    node.rounds(1)
    assert node.ask(canister, Program().reply(get_global())).replied == b"ran"


@pytest.mark.spec("rule-message-execution")
@pytest.mark.spec("ic0.msg_reply")
def test_second_reply_traps(node: SpecNode) -> None:
    """IC0504, and the first reply of the same message is undone."""
    canister = node.universal()
    outcome = node.ask(canister, Program().reply(b"1").send_reply())
    assert outcome.rejected == (5, "IC0504")
    assert "violated contract" in outcome.message


@pytest.mark.spec("rule-message-execution")
@pytest.mark.parametrize("again", [Program().send_reply(), Program().reject(b"x"), Program().append(b"x")])
def test_answer_in_a_callback_after_the_answer_traps(node: SpecNode, again: Program) -> None:
    """msg_reply, msg_reject and msg_reply_data_append trap there; the call keeps its first answer."""
    canister, callee = node.universal(), node.universal()
    after = Program().set_global(b"ran") + again
    program = Program().call(callee, "update", Program().reply(), on_reply=after, on_cleanup=Program().set_global(b"cleaned"))
    assert node.ask(canister, program.reply(b"first")).replied == b"first"
    node.rounds(1)
    assert node.ask(canister, Program().reply(get_global())).replied == b"cleaned"


@pytest.mark.spec("rule-starvation")
def test_call_without_an_answer(node: SpecNode) -> None:
    """CANISTER_ERROR, IC0506; what the message changed stays changed."""
    canister = node.universal()
    outcome = node.ask(canister, Program().set_global(b"kept"))
    assert outcome.rejected == (5, "IC0506")
    assert outcome.message == f"Error from Canister {canister}: Canister did not reply to the call"
    assert node.ask(canister, Program().reply(get_global())).replied == b"kept"


@pytest.mark.spec("rule-starvation")
def test_callee_without_an_answer(node: SpecNode) -> None:
    """The caller's reject callback runs with CANISTER_ERROR."""
    canister, callee = node.universal(), node.universal()
    assert told(node, canister, Program().call(callee, "update", Program(), on_reject=TOLD)) == (5, "No response")


@pytest.mark.spec("rule-starvation")
def test_callback_without_an_answer(node: SpecNode) -> None:
    """The last callback may starve the context, too."""
    canister, callee = node.universal(), node.universal()
    program = Program().call(callee, "update", Program().reply(), on_reply=Program())
    assert node.ask(canister, program).rejected == (5, "IC0506")


@pytest.mark.spec("rule-starvation")
def test_appended_but_not_replied_is_no_answer(node: SpecNode) -> None:
    """Appended data is discarded at the end of the message."""
    canister, callee = node.universal(), node.universal()
    program = Program().append(b"lost").call(callee, "update", Program().reply(b"x"), on_reply=Program().reply(b"found"))
    assert node.ask(canister, program).replied == b"found"


@pytest.mark.spec("rule-message-execution")
@pytest.mark.spec("ic0.trap")
def test_trap_after_a_call_was_made(node: SpecNode) -> None:
    """The call isn't sent: IC0503 with the canister's text, the callee never runs."""
    canister, callee = node.universal(), node.universal()
    program = Program().call(callee, "update", Program().set_global(b"ran").reply()).trap(b"changed my mind")
    outcome = node.ask(canister, program)
    assert outcome.rejected == (5, "IC0503")
    text = "Canister called `ic0.trap` with message: 'changed my mind'"
    assert outcome.message.startswith(f"Error from Canister {canister}: {text}")
    node.rounds(1)
    assert node.ask(callee, Program().reply(get_global())).replied == b""


@pytest.mark.spec("rule-message-execution")
@pytest.mark.spec("ic0.trap")
def test_trap_reaches_the_caller(node: SpecNode) -> None:
    """CANISTER_ERROR; the message carries the error code and names the canister."""
    canister, callee = node.universal(), node.universal()
    code, message = told(node, canister, Program().call(callee, "update", Program().trap(b"ouch"), on_reject=TOLD))
    assert code == 5
    assert message.startswith(f"IC0503: Error from Canister {callee}: Canister called `ic0.trap` with message: 'ouch'")


@pytest.mark.spec("ic0.trap")
def test_message_of_a_trap_that_is_no_utf8(node: SpecNode) -> None:
    """Bytes that aren't UTF-8 are left out."""
    outcome = node.ask(node.universal(), Program().trap(b"a\xffb\xc3"))
    assert "message: 'ab'" in outcome.message


@pytest.mark.spec("rule-message-execution")
def test_wasm_trap(node: SpecNode) -> None:
    """IC0502."""
    canister = node.universal()
    outcome = node.ask(canister, Program().unreachable())
    assert outcome.rejected == (5, "IC0502")
    assert outcome.message.startswith(f"Error from Canister {canister}: Canister trapped: unreachable")


@pytest.mark.spec("rule-starvation")
def test_trap_with_an_open_call_leaves_the_answer_to_the_callback(node: SpecNode) -> None:
    """A callback that traps isn't the end while another call of the context is open."""
    canister, callee = node.universal(), node.universal()
    program = (
        Program()
        .call(callee, "update", Program().reply(), on_reply=Program().trap(b"first"))
        .call(callee, "update", Program().reply(), on_reply=Program().reply(b"second"))
    )
    assert node.ask(canister, program).replied == b"second"


@pytest.mark.spec("concrete-canister-module")
def test_trap_in_a_callback_without_cleanup(node: SpecNode) -> None:
    """The state stays that before the callback; the call fails with the callback's error."""
    canister, callee = node.universal(Program().set_global(b"before")), node.universal()
    after = Program().set_global(b"after").trap(b"in callback")
    outcome = node.ask(canister, Program().call(callee, "update", Program().reply(), on_reply=after))
    assert outcome.rejected == (5, "IC0503")
    assert "in callback" in outcome.message
    assert node.ask(canister, Program().reply(get_global())).replied == b"before"


@pytest.mark.spec("concrete-canister-module")
@pytest.mark.spec("ic0.call_on_cleanup")
@pytest.mark.parametrize("rejecting", [False, True])
def test_cleanup_runs_on_the_state_before_the_callback(node: SpecNode, rejecting: bool) -> None:
    """Its own changes stay, the callback's don't; the call fails with the callback's error alone."""
    canister, callee = node.universal(Program().set_global(b"before")), node.universal()
    after = Program().set_global(b"after").trap(b"in callback")
    cleanup = Program().set_global(get_global().concat(b", cleaned ").concat(reject_code().to_blob()))
    inner = Program().reject(b"x") if rejecting else Program().reply()
    program = Program().call(callee, "update", inner, on_reply=after, on_reject=after, on_cleanup=cleanup)
    outcome = node.ask(canister, program)
    assert outcome.rejected == (5, "IC0503")
    assert "cleanup" not in outcome.message
    code = bytes([4 if rejecting else 0]) + bytes(7)
    assert node.ask(canister, Program().reply(get_global())).replied == b"before, cleaned " + code


@pytest.mark.spec("concrete-canister-module")
@pytest.mark.spec("ic0.call_on_cleanup")
def test_cleanup_does_not_run_without_a_trap(node: SpecNode) -> None:
    """If and only if the callback trapped."""
    canister, callee = node.universal(), node.universal()
    program = Program().call(callee, "update", Program().reply(b"fine"), on_cleanup=Program().set_global(b"cleaned"))
    assert node.ask(canister, program).replied == b"fine"
    assert node.ask(canister, Program().reply(get_global())).replied == b""


@pytest.mark.spec("concrete-canister-module")
@pytest.mark.spec("ic0.call_on_cleanup")
def test_cleanup_that_traps(node: SpecNode) -> None:
    """Its changes are discarded, too; the error is the callback's with the cleanup's after it."""
    canister, callee = node.universal(Program().set_global(b"before")), node.universal()
    cleanup = Program().set_global(b"cleaning").trap(b"in cleanup")
    program = Program().call(callee, "update", Program().reply(), on_reply=Program().trap(b"in callback"), on_cleanup=cleanup)
    outcome = node.ask(canister, program)
    assert outcome.rejected == (5, "IC0503")
    first, second = outcome.message.split("call_on_cleanup also failed:")
    assert "in callback" in first
    assert "in cleanup" in second
    assert node.ask(canister, Program().reply(get_global())).replied == b"before"


@pytest.mark.spec("system-imports")
@pytest.mark.parametrize("forbidden", [Program().send_reply(), Program().call(NOBODY, "update"), Program().append(b"x")])
def test_cleanup_cannot_answer_or_call(node: SpecNode, forbidden: Program) -> None:
    """Those functions aren't available there."""
    canister, callee = node.universal(), node.universal()
    cleanup = Program().set_global(b"x") + forbidden
    program = Program().call(callee, "update", Program().reply(), on_reply=Program().trap(b"first"), on_cleanup=cleanup)
    outcome = node.ask(canister, program)
    assert "first" in outcome.message
    assert "cannot be executed in cleanup mode" in outcome.message.split("call_on_cleanup also failed:")[1]
    assert node.ask(canister, Program().reply(get_global())).replied == b""


@pytest.mark.spec("call-context-creation")
def test_self_call(node: SpecNode) -> None:
    """A canister that calls itself gets the answer in the same round."""
    canister = node.universal()
    message = node.submit(canister, Program().call(canister, "update", Program().reply(b"me")))
    assert node.outcomes[message.message_id].replied == b"me"


@pytest.mark.spec("request-rejection")
@pytest.mark.parametrize(("callee", "text"), [(NOBODY, f"Canister {NOBODY} not found"), (ELSEWHERE, "No route to canister")])
def test_call_of_a_canister_that_does_not_exist(node: SpecNode, callee: Principal, text: str) -> None:
    """DESTINATION_INVALID."""
    code, message = told(node, node.universal(), Program().call(callee, "update", on_reject=TOLD))
    assert code == 3
    assert text in message


@pytest.mark.spec("calls-to-stopped-stopping-canisters-are-rejected")
@pytest.mark.spec("ic0.msg_reject_code")
def test_call_of_a_stopped_canister(node: SpecNode) -> None:
    """CANISTER_ERROR."""
    canister, callee = node.universal(), node.universal()
    node.stop(callee)
    code, message = told(node, canister, Program().call(callee, "update", Program().reply(), on_reject=TOLD))
    assert code == 5
    assert message == f"Canister {callee} is stopped"


@pytest.mark.spec("calls-to-frozen-canisters-are-rejected")
def test_call_of_a_frozen_canister(node: SpecNode) -> None:
    """SYS_TRANSIENT."""
    canister, callee = node.universal(), node.universal()
    node.done("update_settings", {"canister_id": callee, "settings": {"freezing_threshold": 10**13}})
    code, message = told(node, canister, Program().call(callee, "update", Program().reply(), on_reject=TOLD))
    assert (code, message) == (2, f"IC0207: Canister {callee} is out of cycles")


@pytest.mark.spec("call-context-creation")
def test_call_of_a_missing_method(node: SpecNode) -> None:
    """CANISTER_ERROR with IC0536."""
    canister, callee = node.universal(), node.universal()
    code, message = told(node, canister, Program().call(callee, "nothing", on_reject=TOLD))
    assert code == 5
    assert message.startswith(f"IC0536: Error from Canister {callee}: Canister has no update method 'nothing'.")


@pytest.mark.spec("call-context-creation")
def test_call_of_an_empty_canister(node: SpecNode) -> None:
    """CANISTER_ERROR with IC0537."""
    canister, callee = node.universal(), node.create()
    code, message = told(node, canister, Program().call(callee, "update", on_reject=TOLD))
    assert code == 5
    assert message.startswith(f"IC0537: Error from Canister {callee}: Attempted to execute a message")


@pytest.mark.spec("rule-message-execution")
def test_call_of_a_query_method(node: SpecNode) -> None:
    """Runs replicated; calls of composite queries are rejected with IC0527."""
    canister, callee = node.universal(), node.universal()
    assert node.ask(canister, Program().call(callee, "query", Program().reply(b"fast"))).replied == b"fast"
    code, message = told(node, canister, Program().call(callee, "composite_query", Program().reply(), on_reject=TOLD))
    assert (code, message[:7]) == (5, "IC0527:")


@pytest.mark.spec("ic0.call_perform")
@pytest.mark.spec("ic0.call_new")
def test_call_functions_need_a_call_under_construction(node: SpecNode) -> None:
    """After call_perform, all call_* functions but call_new trap."""
    canister = node.universal()
    for part in (Int(b"\x26"), Blob(blob(b"x").code + b"\x22"), Int(integer(5).code + b"\x25")):
        outcome = node.ask(canister, Program(part.code))
        assert outcome.rejected == (5, "IC0504")
        assert "when no call is under construction" in outcome.message
        made = Program().call(canister, "update", Program().reply())
        assert node.ask(canister, Program(made.code + part.code)).rejected == (5, "IC0504")


@pytest.mark.spec("ic0.call_new")
def test_new_call_drops_the_one_under_construction(node: SpecNode) -> None:
    """As does the end of the message: it is never sent."""
    canister, callee = node.universal(), node.universal()
    half = Program().call(callee, "update", Program().set_global(b"ran").reply()).code
    unfinished = Program(half[: half.index(b"\x26")])
    assert node.ask(canister, unfinished.reply(b"a")).replied == b"a"
    assert node.ask(canister, unfinished.call(callee, "update", Program().reply(b"b"))).replied == b"b"
    assert node.ask(callee, Program().reply(get_global())).replied == b""


@pytest.mark.spec("ic0.call_perform")
def test_full_queue(node: SpecNode) -> None:
    """call_perform returns 2 once the output queue holds 500 requests; those before it are answered."""
    canister, callee = node.universal(), node.universal()
    capacity = SubnetLimits().queue_capacity
    quiet = Program().set_global(get_global().concat(b"x"))
    one = Program().call(callee, "query", Program().reply(), on_reply=quiet, if_not_performed=Program().trap(b"full"))
    many = Program(one.code * capacity)
    assert node.ask(canister, many.reply()).replied == b""
    node.rounds(3)
    assert node.ask(canister, Program().reply_int(get_global().size())).number == capacity
    refused = Program().call(callee, "query", on_reply=quiet, if_not_performed=Program().reply(b"full"))
    assert node.ask(canister, many + refused).replied == b"full"
    node.rounds(3)


@pytest.mark.spec("ic0.call_data_append")
def test_payload_limit_within_the_subnet(node: SpecNode) -> None:
    """10 MiB of method name and argument; one byte more traps."""
    canister, callee = node.universal(), node.universal()
    fits = 10 * MIB - len("query")
    for size, code in ((fits, ""), (fits + 1, "IC0504")):
        big = blob(b"\0").repeat(size)
        program = Program().call(callee, "query", big, on_reply=Program().reply(), on_reject=TOLD)
        outcome = node.ask(canister, program)
        assert outcome.error == code
    assert "exceeded the allowed limit local-subnet 10485760" in outcome.message


@pytest.mark.spec("ic0.msg_reply_data_append")
def test_reply_limit(node: SpecNode) -> None:
    """2 MiB in replicated execution, over all pieces."""
    canister = node.universal()
    most = blob(b"\0").repeat(2 * MIB)
    assert len(node.ask(canister, Program().reply(most)).replied) == 2 * MIB
    outcome = node.ask(canister, Program().append(most).append(b"x").send_reply())
    assert outcome.rejected == (5, "IC0504")
    assert "application payload size (2097153) cannot be larger than 2097152" in outcome.message


@pytest.mark.spec("ic0.msg_reject")
def test_reject_with_text_that_is_no_utf8(node: SpecNode) -> None:
    """Traps."""
    outcome = node.ask(node.universal(), Program().reject(b"\xff"))
    assert outcome.rejected == (5, "IC0504")
    assert "invalid UTF-8" in outcome.message


@pytest.mark.spec("ic0.call_new")
def test_callee_that_is_no_principal(node: SpecNode) -> None:
    """30 bytes are too many: IC0504."""
    outcome = node.ask(node.universal(), Program().call(bytes(30), "update"))
    assert outcome.rejected == (5, "IC0504")
    assert "invalid principal" in outcome.message


@pytest.mark.spec("ic0.call_with_best_effort_response")
@pytest.mark.spec("ic0.msg_deadline")
def test_deadline_of_a_bounded_wait_call(node: SpecNode) -> None:
    """Update methods and their callbacks see it, rounded down to seconds; queries and everybody else see 0."""
    canister, callee = node.universal(), node.universal()
    inner = Program().reply_int(deadline())
    seen = Program().reply_int(argument().to_int() - time())
    program = Program().call(callee, "update", inner, timeout_s=40, on_reply=seen)
    assert node.ask(canister, program).number == 40 * SECOND
    far = Program().call(callee, "update", inner, timeout_s=10**6, on_reply=seen)
    assert node.ask(canister, far).number == 300 * SECOND
    for method, timeout in (("query", 40), ("update", None)):
        assert node.ask(canister, Program().call(callee, method, inner, timeout_s=timeout)).number == 0
    assert node.ask(canister, inner).number == 0


@pytest.mark.spec("ic0.call_with_best_effort_response")
def test_second_timeout_traps(node: SpecNode) -> None:
    """At most once between call_new and call_perform."""
    canister = node.universal()
    half = Program().call(canister, "update", timeout_s=5).code
    outcome = node.ask(canister, Program(half[: half.index(b"\x25") + 1] + integer(5).code + b"\x25"))
    assert outcome.rejected == (5, "IC0504")
    assert "a timeout is already set" in outcome.message


@pytest.mark.spec("call-expiry")
@pytest.mark.spec("message-timeout")
def test_bounded_wait_call_expires(node: SpecNode) -> None:
    """SYS_UNKNOWN after the deadline; the late reply is dropped."""
    canister, callee = node.universal(), node.universal()
    slow = Program().call(callee, "update", Program().call(bytes(0), "raw_rand", b"DIDL\0\0"), timeout_s=1, on_reject=TOLD)
    message = node.submit(canister, slow)
    node.round(seconds=2)
    reply = node.outcome(message).replied
    assert int.from_bytes(reply[:8], "little") == 6
    assert reply[8:] == b"Call deadline has expired."
    node.rounds(3)
    assert not node.canister(canister).callbacks


@pytest.mark.spec("call-context-removal")
def test_contexts_and_callbacks_are_gone_afterwards(node: SpecNode) -> None:
    """Nothing is left of finished calls."""
    canister, callee = node.universal(), node.universal()
    node.ask(canister, Program().call(callee, "update", Program().reply()))
    assert not node.canister(canister).contexts
    assert not node.canister(canister).callbacks
    assert USER in node.canister(canister).settings.controllers
    assert node.ask(canister, Program().reply(self_id())).replied == bytes(canister)
