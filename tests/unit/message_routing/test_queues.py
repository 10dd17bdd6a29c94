"""Queues of one canister: order, capacity, reservations, memory."""

from __future__ import annotations

from configs.limits import MAX_RESPONSE_BYTES
from ic_types.messages import Request, Response
from ic_types.reject import Reply
from ic_types.units import TimeNs
from message_routing.message_size import digest, memory_bytes, payload_bytes
from message_routing.queues import REQUEST_LIFETIME_NS, CanisterQueues
from tests.support.routing_world import START, canister_id, ingress, request, response

ME, A, B, C = (canister_id(0, n) for n in range(4))


def drained(queues: CanisterQueues) -> list[object]:
    """Everything in pop order."""
    found = []
    while (message := queues.pop_input()) is not None:
        found.append(message)
    return found


def test_classes_rotate_starting_with_the_local_subnet() -> None:
    """Local, ingress and remote messages take turns, whatever arrived first."""
    queues = CanisterQueues()
    first, second = ingress(1, ME), ingress(2, ME)
    queues.push_ingress(first)
    queues.push_ingress(second)
    remote, local = request(B, ME, 1), request(A, ME, 1)
    queues.push_input_request(remote, local=False)
    queues.push_input_request(local, local=True)
    assert drained(queues) == [local, first, remote, second]


def test_pointer_advances_past_empty_classes() -> None:
    """A class that had nothing isn't owed a turn."""
    queues = CanisterQueues()
    queues.push_ingress(ingress(1, ME))
    queues.pop_input()
    assert queues.next_class == 2


def test_senders_of_a_class_take_turns() -> None:
    """Round robin over senders, first come first served within one."""
    queues = CanisterQueues()
    a1, a2, b1, b2, c1 = request(A, ME, 1), request(A, ME, 2), request(B, ME, 1), request(B, ME, 2), request(C, ME, 1)
    for message in (a1, a2, b1, b2, c1):
        queues.push_input_request(message, local=True)
    assert drained(queues) == [a1, b1, c1, a2, b2]


def test_peek_shows_the_pop_order_and_changes_nothing() -> None:
    """What peek says is what pop does."""
    queues = CanisterQueues()
    for n in range(4):
        queues.push_ingress(ingress(n, ME))
        queues.push_input_request(request(A, ME, n), local=True)
    queues.push_input_request(request(B, ME, 1), local=True)
    queues.push_input_request(request(C, ME, 1), local=False)
    before = queues.to_canonical()
    seen = queues.peek_inputs(100)
    assert queues.to_canonical() == before
    assert queues.peek_inputs(3) == seen[:3]
    assert list(seen) == drained(queues)


def test_request_queue_holds_its_capacity() -> None:
    """The 501st request of a sender is refused, another sender's isn't."""
    queues = CanisterQueues()
    for n in range(500):
        assert queues.push_input_request(request(A, ME, n), local=True) is not None
    assert queues.push_input_request(request(A, ME, 500), local=True) is None
    assert queues.push_input_request(request(B, ME, 0), local=True) is not None
    queues.check_invariants()


def test_unanswered_requests_keep_their_response_slots() -> None:
    """Requests taken out but not answered still count against what their sender may send."""
    queues = CanisterQueues(capacity=2)
    for n in range(2):
        queues.push_input_request(request(A, ME, n), local=True)
        queues.pop_input()
    assert queues.push_input_request(request(A, ME, 2), local=True) is None
    queues.push_output_response(response(request(A, ME, 0)))
    assert queues.push_input_request(request(A, ME, 2), local=True) is None
    queues.pop_output(A)
    assert queues.push_input_request(request(A, ME, 2), local=True) is not None


def test_open_calls_take_output_slots_until_their_response_is_taken() -> None:
    """A call reserves the slot of its response; routing the request away doesn't free it."""
    queues = CanisterQueues(capacity=3)
    sent = request(ME, A, 1)
    assert queues.push_output_request(sent, START)
    assert queues.pop_output(A) == sent
    assert queues.free_output_slots(A) == 2
    assert queues.limited_slots() == ((A, 2),)
    queues.push_input_response(response(sent), local=True)
    assert queues.free_output_slots(A) == 2
    queues.pop_input()
    assert queues.free_output_slots(A) == 3
    assert queues.limited_slots() == ()
    assert not queues.peers


def test_full_output_refuses_further_calls() -> None:
    """`push_output_request` says no instead of overflowing."""
    queues = CanisterQueues(capacity=1)
    assert queues.push_output_request(request(ME, A, 1), START)
    assert not queues.push_output_request(request(ME, A, 2), START)


def test_idle_pairs_take_no_room() -> None:
    """After a call and its answer the canister knows nothing of the peer."""
    queues = CanisterQueues()
    queues.push_input_request(request(A, ME, 1), local=False)
    queues.pop_input()
    queues.push_output_response(response(request(A, ME, 1)))
    queues.pop_output(A)
    assert not queues.peers
    assert not queues.has_output()


def test_output_peers_ascend() -> None:
    """The order of routing doesn't depend on who was called first."""
    queues = CanisterQueues()
    for peer in (C, A, B):
        queues.push_output_request(request(ME, peer, 1), START)
    assert queues.output_peers() == (A, B, C)


def test_guaranteed_calls_reserve_a_largest_response_at_both_ends() -> None:
    """Memory is taken when the call is made, not when the response comes."""
    sender, receiver, sent = CanisterQueues(), CanisterQueues(), request(ME, A, 1, arg=b"x" * 10)
    sender.push_output_request(sent, START)
    assert sender.guaranteed_memory() == MAX_RESPONSE_BYTES
    receiver.push_input_request(sent, local=True)
    assert receiver.guaranteed_memory() == MAX_RESPONSE_BYTES
    receiver.pop_input()
    answer = response(sent, Reply(b"y" * 100))
    receiver.push_output_response(answer)
    assert receiver.guaranteed_memory() == memory_bytes(answer)
    assert sender.best_effort_memory() == 0


def test_best_effort_calls_reserve_nothing() -> None:
    """They use what their messages take, no more."""
    queues, sent = CanisterQueues(), request(ME, A, 1, deadline_s=2000)
    queues.push_output_request(sent, START)
    assert queues.guaranteed_memory() == 0
    assert queues.best_effort_memory() == memory_bytes(sent)
    assert queues.message_memory() == memory_bytes(sent)


def test_requests_larger_than_a_response_count_their_excess() -> None:
    """A local request may have 10 MiB."""
    queues, sent = CanisterQueues(), request(ME, A, 1, arg=bytes(5 << 20))
    queues.push_output_request(sent, START)
    assert queues.guaranteed_memory() == MAX_RESPONSE_BYTES + memory_bytes(sent) - MAX_RESPONSE_BYTES


def test_second_best_effort_response_to_a_call_is_dropped() -> None:
    """A reject made on timeout and the real response can't both be queued."""
    queues, sent = CanisterQueues(), request(ME, A, 7, deadline_s=2000)
    queues.push_output_request(sent, START)
    queues.pop_output(A)
    assert queues.push_input_response(response(sent), local=True) is not None
    assert queues.push_input_response(response(sent), local=True) is None
    queues.check_invariants()


def test_dropping_an_expired_request_gives_its_slot_back() -> None:
    """Nobody will answer it."""
    queues = CanisterQueues()
    sequence = queues.push_input_request(request(A, ME, 1, deadline_s=2000, cycles=5), local=True)
    assert sequence is not None
    dropped = queues.drop_input(A, sequence)
    assert isinstance(dropped, Request)
    assert queues.drop_input(A, sequence) is None
    assert not queues.has_input()
    assert not queues.peers


def test_guaranteed_requests_expire_300_seconds_after_they_were_sent() -> None:
    """Best-effort ones at their deadline; responses of guaranteed calls never."""
    queues = CanisterQueues()
    queues.push_input_request(request(A, ME, 3), local=True)
    queues.pop_input()
    queues.push_output_response(response(request(A, ME, 3)))
    slow, fast = request(ME, A, 1), request(ME, A, 2, deadline_s=START // 10**9 + 10)
    queues.push_output_request(slow, START)
    queues.push_output_request(fast, START)
    assert sorted(queues.output_deadlines(A)) == [START + 10 * 10**9, START + REQUEST_LIFETIME_NS]
    assert queues.output_deadlines(A) == []
    assert queues.drop_expired_outputs(A, TimeNs(START + 10 * 10**9)) == []
    assert queues.drop_expired_outputs(A, TimeNs(START + 10 * 10**9 + 1)) == [fast]
    assert queues.drop_expired_outputs(A, TimeNs(START + REQUEST_LIFETIME_NS + 1)) == [slow]
    assert isinstance(queues.peek_output(A), Response)
    queues.check_invariants()


def test_management_queue_rotates_over_effective_canisters() -> None:
    """One canister's flood of management calls doesn't hold up another's."""
    queues = CanisterQueues(by_effective_id=True)
    calls = [ingress(n, ME, effective_canister_id=who) for n, who in enumerate((A, A, A, B))]
    for message in calls:
        queues.push_ingress(message)
    assert drained(queues) == [calls[0], calls[3], calls[1], calls[2]]


def test_calls_that_may_not_run_are_passed_over_and_keep_their_place() -> None:
    """The first ready head is taken; the others stay where they were."""
    queues = CanisterQueues(by_effective_id=True)
    for n, who in enumerate((A, A, B)):
        queues.push_ingress(ingress(n, ME, effective_canister_id=who))
    taken = queues.pop_first_ready(lambda m: getattr(m, "effective_canister_id", None) == B)
    assert getattr(taken, "effective_canister_id", None) == B
    assert queues.pop_first_ready(lambda m: False) is None
    assert [m.message_id[-1] for m in drained(queues)] == [0, 1]  # type: ignore[attr-defined]


def test_expired_ingress_is_dropped_wherever_it_stands() -> None:
    """Dropping the last one of a queue takes the queue out of the rotation."""
    queues = CanisterQueues()
    first, second = ingress(1, ME), ingress(2, ME)
    queues.push_ingress(first)
    queues.push_ingress(second)
    assert queues.drop_ingress(second)
    assert not queues.drop_ingress(second)
    assert queues.drop_ingress(first)
    assert not queues.has_input()
    queues.check_invariants()


def test_digests_tell_messages_apart() -> None:
    """Every field of a message shows in its digest."""
    base = request(ME, A, 1, cycles=1)
    others = [
        request(ME, B, 1, cycles=1),
        request(ME, A, 2, cycles=1),
        request(ME, A, 1, cycles=2),
        request(ME, A, 1, cycles=1, arg=b"x"),
        request(ME, A, 1, cycles=1, method="og"),
        request(ME, A, 1, cycles=1, deadline_s=1),
    ]
    messages = [base, *others, response(base), response(base, refund=1), response(base, Reply(b"")), ingress(1, ME)]
    assert len({digest(message) for message in messages}) == len(messages)


def test_payload_is_method_name_plus_argument() -> None:
    """In bytes, not characters."""
    assert payload_bytes(request(ME, A, 1, method="ü", arg=b"abc")) == 5
