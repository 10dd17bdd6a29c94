"""The chapter "System imports", function by function, on the execution state itself: no Wasm, no process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import MAX_RESPONSE_BYTES, MESSAGE_STRUCT_BYTES, SubnetLimits
from ic_types.chain_keys.key_id import KeyId
from ic_types.principal import Principal
from ic_types.reject import ErrorCode
from sandbox.protocol import Closure, EntryPoint, Environment, ExecutionContext, ExecutionInput, RejectMessage, ReplyData
from sandbox.system_api import calls, certified, costs, cycles, environment, message, timers
from sandbox.system_api import message as messages
from sandbox.system_api.costs import ECDSA_CURVES, SCHNORR_ALGORITHMS, VETKD_CURVES
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import CanisterTrap

SELF, PEER = Principal.canister(7), Principal.canister(8)
LIMITS, FEES = SubnetLimits(), CyclesCostSchedule()
HEAP = 65536
LARGE = 1 << 64


class Quiet:
    """A port that counts 1000 instructions and has nothing to settle."""

    def settle(self) -> ExecutionContext:
        """Never asked: every message here has its context."""
        raise AssertionError

    def pause(self, slice_instructions: int, instructions: int) -> None:
        """Nothing is sliced."""

    def read_counter(self) -> int:
        """What is left of 2000."""
        return 1000

    def heap_grown(self, old_bytes: int, new_bytes: int) -> None:
        """Nothing to do."""


def state(entry: EntryPoint = EntryPoint.UPDATE, fields: dict[str, Any] | None = None, **context: Any) -> MessageState:
    """A running message; `fields` are of its input, the rest of its context."""
    given = Environment(canister_id=SELF, subnet_id=PEER, root_key=b"key", subnet_type="application", limits=LIMITS, fees=FEES)
    made = MessageState(given, Quiet(), wasm64=False)
    made.heap, made.heap_bytes = memoryview(bytearray(HEAP)), HEAP
    values = {"instruction_limit": 2000, "slice_limit": 2000, **(fields or {})}
    made.begin(ExecutionInput(entry=entry, **values), ExecutionContext(**{"balance": 10**15, **context}))
    return made


def put(s: MessageState, at: int, data: bytes) -> tuple[int, int]:
    """Write to the heap; start and length."""
    s.heap[at : at + len(data)] = data
    return at, len(data)


def got(s: MessageState, at: int = 0) -> int:
    """The 128-bit amount at this place."""
    return int.from_bytes(s.heap[at : at + 16], "little")


def new_call(s: MessageState, callee: bytes = PEER, name: bytes = b"m") -> None:
    """`call_new` with callbacks 1 and 2."""
    calls.call_new(s, *put(s, 1000, callee), *put(s, 1100, name), 1, 10, 2, 20)


def price(payload: int) -> int:
    """What call_perform takes beside the attached cycles."""
    return FEES.call(payload, LIMITS.instructions_per_message, LIMITS.max_payload)


# --- answers


@pytest.mark.spec("ic0.msg_reply", condition=(1, 2, 3))
@pytest.mark.spec("ic0.msg_reply_data_append", condition=(1, 2))
def test_reply() -> None:
    """The appended pieces in order; afterwards nothing can be appended, replied, rejected or accepted."""
    s = state(cycles_available=100)
    for piece in (b"ab", b"c"):
        message.msg_reply_data_append(s, *put(s, 0, piece))
    message.msg_reply(s)
    assert s.response == ReplyData(b"abc")
    for again in (
        lambda: message.msg_reply(s),
        lambda: message.msg_reject(s, 0, 1),
        lambda: message.msg_reply_data_append(s, 0, 1),
    ):
        with pytest.raises(CanisterTrap, match="the call is already replied"):
            again()
    assert cycles.msg_cycles_accept(s, 7) == cycles.msg_cycles_available(s) == 0


@pytest.mark.spec("ic0.msg_reject", condition=(1, 2))
def test_reject() -> None:
    """CANISTER_REJECT with the text; then the call is answered. The text is UTF-8."""
    s = state()
    with pytest.raises(CanisterTrap, match="invalid UTF-8"):
        message.msg_reject(s, *put(s, 0, b"\xff"))
    message.msg_reject(s, *put(s, 0, b"no"))
    assert s.response == RejectMessage("no")
    with pytest.raises(CanisterTrap, match="the call is already replied"):
        message.msg_reject(s, 0, 2)


@pytest.mark.spec("ic0.msg_reply_data_append", condition=3)
@pytest.mark.parametrize(("fields", "most"), [({}, LIMITS.max_payload), ({"replicated": False}, LIMITS.max_query_reply)])
def test_largest_reply(fields: dict[str, Any], most: int) -> None:
    """2 MiB in replicated execution, 3 MiB in other queries, over all pieces."""
    s = state(EntryPoint.QUERY, fields)
    s.reply_data += bytes(most - 1)
    message.msg_reply_data_append(s, 0, 1)
    with pytest.raises(CanisterTrap, match=f"cannot be larger than {most}"):
        message.msg_reply_data_append(s, 0, 1)


@pytest.mark.spec("ic0.accept_message", condition=1)
def test_accept_message() -> None:
    """Once."""
    s = state(EntryPoint.INSPECT_MESSAGE)
    message.accept_message(s)
    assert s.accepted
    with pytest.raises(CanisterTrap, match="already called"):
        message.accept_message(s)


# --- cycles


@pytest.mark.spec("ic0.msg_cycles_accept128", condition=(1, 2))
@pytest.mark.spec("ic0.msg_cycles_accept", condition=1)
def test_accept_cycles() -> None:
    """min(max_amount, available): it leaves what is available and comes to the balance."""
    s = state(balance=10, cycles_available=LARGE + 5)
    cycles.msg_cycles_accept128(s, 1, 2, 0)
    assert (got(s), s.cycles_available, s.balance, s.cycles_accepted) == (LARGE + 2, 3, LARGE + 12, LARGE + 2)
    assert cycles.msg_cycles_accept(s, 100) == 3
    assert (s.cycles_available, s.balance) == (0, LARGE + 15)


@pytest.mark.spec("ic0.msg_cycles_available", condition=1)
@pytest.mark.spec("ic0.msg_cycles_refunded", condition=1)
@pytest.mark.spec("ic0.canister_cycle_balance", condition=1)
def test_amounts_of_64_bits() -> None:
    """The functions that return an i64 trap when the amount needs more; the others write all of it."""
    s = state(EntryPoint.REPLY, {"cycles_refunded": LARGE}, cycles_available=LARGE, balance=LARGE)
    for small in (cycles.msg_cycles_available, cycles.msg_cycles_refunded, cycles.canister_cycle_balance):
        with pytest.raises(CanisterTrap, match="64-bit"):
            small(s)
    for large in (cycles.msg_cycles_available128, cycles.msg_cycles_refunded128, cycles.canister_cycle_balance128):
        put(s, 0, bytes(16))
        large(s, 0)
        assert got(s) == LARGE
    s = state(EntryPoint.REPLY, {"cycles_refunded": LARGE - 1}, cycles_available=LARGE - 1, balance=LARGE - 1)
    for small in (cycles.msg_cycles_available, cycles.msg_cycles_refunded, cycles.canister_cycle_balance):
        assert small(s) == LARGE - 1


POOR = {"freezing_threshold_s": 86_400, "compute_allocation": 1, "reserved_balance": 0}
THRESHOLD = 10_000_000 * 86_400


@pytest.mark.spec("ic0.canister_liquid_cycle_balance128", condition=1)
@pytest.mark.spec("helper-functions", condition=3)
@pytest.mark.parametrize(("balance", "reserved", "liquid"), [(9, 0, 9), (9, 8, 17), (0, 10**15, THRESHOLD), (-1, 0, 0)])
def test_liquid_balance(balance: int, reserved: int, liquid: int) -> None:
    """balance - max(freezing_limit - reserved_balance, 0), and never below 0."""
    s = state(balance=THRESHOLD + balance, **{**POOR, "reserved_balance": reserved})
    cycles.canister_liquid_cycle_balance128(s, 0)
    assert got(s) == liquid


@pytest.mark.spec("ic0.cycles_burn128", condition=(1, 2))
def test_burn() -> None:
    """min(amount, liquid balance), taken from the balance."""
    s = state(balance=THRESHOLD + 100, **POOR)
    cycles.cycles_burn128(s, 0, 30, 0)
    assert (got(s), s.balance, s.cycles_burned) == (30, THRESHOLD + 70, 30)
    cycles.cycles_burn128(s, 1, 0, 0)
    assert (got(s), s.balance, s.cycles_burned) == (70, THRESHOLD, 100)


# --- calls


@pytest.mark.spec("concrete-callback", condition=1)
@pytest.mark.spec("ic0.call_new", condition=(1, 2, 3))
def test_new_call() -> None:
    """A call that wasn't performed is dropped and its cycles return; callee and name are looked at."""
    s = state()
    new_call(s)
    calls.call_cycles_add(s, 77)
    new_call(s, PEER, b"other")
    assert s.balance == 10**15
    assert s.pending is not None
    assert (s.pending.callee, s.pending.method, s.pending.on_reply, s.pending.on_reject) == (
        PEER, "other", Closure(1, 10), Closure(2, 20),
    )  # fmt: skip
    new_call(s, bytes(29))
    with pytest.raises(CanisterTrap, match="invalid principal id"):
        new_call(s, bytes(30))
    calls.call_new(s, 0, 10, 0, 20_000, 1, 10, 2, 20)
    with pytest.raises(CanisterTrap, match="exceeds the allowed limit 20000"):
        calls.call_new(s, 0, 10, 0, 20_001, 1, 10, 2, 20)


@pytest.mark.spec("concrete-callback", condition=1)
@pytest.mark.spec("ic0.call_on_cleanup", condition=(1, 2))
@pytest.mark.spec("ic0.call_with_best_effort_response", condition=(1, 2, 3))
@pytest.mark.spec("ic0.call_data_append", condition=1)
@pytest.mark.spec("ic0.call_cycles_add128", condition=1)
@pytest.mark.spec("ic0.call_perform", condition=1)
def test_call_under_construction() -> None:
    """All of these need one; cleanup and timeout can be set once, the timeout is at most 300 s."""
    s = state()
    steps = [
        lambda: calls.call_on_cleanup(s, 3, 30),
        lambda: calls.call_with_best_effort_response(s, 1000),
        lambda: calls.call_data_append(s, 0, 1),
        lambda: calls.call_cycles_add128(s, 0, 1),
        lambda: calls.call_cycles_add(s, 1),
        lambda: calls.call_perform(s),
    ]
    for step in steps:
        with pytest.raises(CanisterTrap, match="no call is under construction"):
            step()
    new_call(s)
    steps[0]()
    with pytest.raises(CanisterTrap, match="at most once"):
        steps[0]()
    steps[1]()
    with pytest.raises(CanisterTrap, match="a timeout is already set"):
        steps[1]()
    assert calls.call_perform(s) == 0
    (made,) = s.calls
    assert (made.on_cleanup, made.timeout_s) == (Closure(3, 30), 300)
    with pytest.raises(CanisterTrap, match="no call is under construction"):
        calls.call_perform(s)


@pytest.mark.spec("ic0.call_data_append", condition=(2, 3))
def test_argument() -> None:
    """Pieces in order; name and argument have 10 MiB at most."""
    s = state()
    new_call(s)
    for piece in (b"ab", b"c"):
        calls.call_data_append(s, *put(s, 0, piece))
    assert s.pending is not None
    assert bytes(s.pending.arg) == b"abc"
    s.pending.arg += bytes(LIMITS.max_local_payload - 5)
    calls.call_data_append(s, 0, 1)
    with pytest.raises(CanisterTrap, match="exceeded the allowed limit local-subnet 10485760"):
        calls.call_data_append(s, 0, 1)


@pytest.mark.spec("ic0.call_cycles_add128", condition=(2, 3))
@pytest.mark.spec("ic0.call_cycles_add", condition=1)
def test_attached_cycles() -> None:
    """They leave the balance at once; more than the liquid balance traps."""
    s = state(balance=THRESHOLD + 100, **POOR)
    new_call(s)
    calls.call_cycles_add128(s, 0, 30)
    calls.call_cycles_add(s, 70)
    assert s.pending is not None
    assert (s.balance, s.pending.cycles) == (THRESHOLD, 100)
    for add in (lambda: calls.call_cycles_add128(s, 0, 1), lambda: calls.call_cycles_add(s, 1)):
        with pytest.raises(CanisterTrap, match="is out of cycles") as caught:
            add()
        assert caught.value.code is ErrorCode.CANISTER_CONTRACT_VIOLATION


@pytest.mark.spec("ic0.call_perform", condition=(2, 3))
@pytest.mark.parametrize(("missing", "code"), [(0, 0), (1, 2)])
def test_price_of_a_call(missing: int, code: int) -> None:
    """Liquid balance below the price: 2, the call is dropped, and its cycles return."""
    reservation = FEES.storage(MAX_RESPONSE_BYTES, 86_400)
    balance = THRESHOLD + reservation + price(1) + 50 - missing
    s = state(balance=balance, **POOR)
    new_call(s)
    calls.call_cycles_add(s, 50)
    assert calls.call_perform(s) == code
    assert (s.balance, len(s.calls)) == ((balance, 0) if code else (THRESHOLD + reservation, 1))
    assert s.pending is None


@pytest.mark.spec("ic0.call_perform", condition=4)
def test_room_in_the_queue() -> None:
    """As many calls to one callee as it has slots, 500 if it isn't named; others have their own."""
    s = state(output_slots=((PEER, 1),), balance=10**18)
    results = []
    for callee in (PEER, PEER, SELF):
        new_call(s, callee)
        results.append(calls.call_perform(s))
    assert results == [0, 2, 0]
    s.slots_used[SELF] = LIMITS.queue_capacity
    new_call(s, SELF)
    assert calls.call_perform(s) == 2


@pytest.mark.spec("ic0.call_perform", condition=5)
def test_callbacks() -> None:
    """No more calls than callbacks that the canister and its subnet have left."""
    s = state(callbacks_available=2, balance=10**18)
    results = []
    for callee in (PEER, SELF, PEER):
        new_call(s, callee)
        results.append(calls.call_perform(s))
    assert results == [0, 0, 2]


@pytest.mark.spec("ic0.call_perform", condition=6)
def test_message_memory() -> None:
    """A guaranteed response reserves memory for the largest; a bounded-wait call needs none of it."""
    s = state(message_memory_available=MAX_RESPONSE_BYTES, balance=10**18)
    results = []
    for timeout in (None, None, 5):
        new_call(s)
        if timeout is not None:
            calls.call_with_best_effort_response(s, timeout)
        results.append(calls.call_perform(s))
    assert results == [0, 2, 0]
    assert s.message_bytes == MAX_RESPONSE_BYTES + MESSAGE_STRUCT_BYTES + 1


@pytest.mark.spec("ic0.call_perform", condition=7)
def test_message_memory_must_not_freeze() -> None:
    """What a call takes of message memory counts for the freezing threshold of whatever comes after it."""
    s = state(balance=10**18, **POOR)
    before = s.threshold()
    new_call(s)
    assert calls.call_perform(s) == 0
    assert s.threshold() - before == FEES.storage(MAX_RESPONSE_BYTES, 86_400) > 0


# --- certified data, timer, counters


@pytest.mark.spec("ic0.certified_data_set", condition=1)
def test_certified_data() -> None:
    """32 bytes at most."""
    s = state()
    certified.certified_data_set(s, *put(s, 0, bytes(range(32))))
    assert s.certified_data == bytes(range(32))
    with pytest.raises(CanisterTrap, match="no larger than 32 bytes"):
        certified.certified_data_set(s, 0, 33)


@pytest.mark.spec("ic0.data_certificate_present", condition=1)
@pytest.mark.spec("ic0.data_certificate_size", condition=1)
@pytest.mark.spec("ic0.data_certificate_copy", condition=1)
def test_data_certificate() -> None:
    """There, or not: then size and copy trap."""
    query = {"replicated": False}
    s = state(EntryPoint.QUERY, {**query, "data_certificate": b"signed"})
    assert (certified.data_certificate_present(s), certified.data_certificate_size(s)) == (1, 6)
    certified.data_certificate_copy(s, 0, 0, 6)
    assert bytes(s.heap[:6]) == b"signed"
    s = state(EntryPoint.QUERY, query)
    assert certified.data_certificate_present(s) == 0
    for read in (lambda: certified.data_certificate_size(s), lambda: certified.data_certificate_copy(s, 0, 0, 0)):
        with pytest.raises(CanisterTrap, match="without a data certificate"):
            read()


@pytest.mark.spec("ic0.global_timer_set", condition=(1, 2))
def test_timer() -> None:
    """Returns the canister's timer first, then what was set before in this message."""
    s = state(global_timer=5)
    assert [timers.global_timer_set(s, at) for at in (10, 0, 7)] == [5, 10, 0]
    assert s.global_timer == 7


@pytest.mark.spec("ic0.performance_counter", condition=1)
def test_performance_counter() -> None:
    """This message, or its context with it; other types trap."""
    s = state(call_context_instructions=50)
    assert [timers.performance_counter(s, kind) for kind in (0, 1)] == [1000, 1050]
    with pytest.raises(CanisterTrap, match="performance counter type 2"):
        timers.performance_counter(s, 2)


# --- who and where


@pytest.mark.spec("ic0.is_controller", condition=(1, 2))
def test_is_controller() -> None:
    """1 or 0; bytes that are no principal trap."""
    s = state(controllers=(PEER,))
    assert [environment.is_controller(s, *put(s, 0, who)) for who in (PEER, SELF, b"")] == [1, 0, 0]
    assert environment.is_controller(s, 0, 29) == 0
    with pytest.raises(CanisterTrap, match="invalid principal id"):
        environment.is_controller(s, 0, 30)


@pytest.mark.spec("ic0.in_replicated_execution", condition=1)
@pytest.mark.parametrize(
    ("entry", "replicated", "expected"),
    [
        (EntryPoint.UPDATE, True, 1),
        (EntryPoint.QUERY, True, 1),
        (EntryPoint.QUERY, False, 0),
        (EntryPoint.INSPECT_MESSAGE, False, 0),
    ],
)
def test_in_replicated_execution(entry: EntryPoint, replicated: bool, expected: int) -> None:
    """Where all nodes do the same."""
    assert environment.in_replicated_execution(state(entry, {"replicated": replicated})) == expected


VARIABLES = (("B", "2"), ("A", "11"))


@pytest.mark.spec("ic0.env_var_name_size", condition=(1, 2))
@pytest.mark.spec("ic0.env_var_name_copy", condition=1)
@pytest.mark.spec("ic0.env_var_name_exists", condition=(1, 2))
@pytest.mark.spec("ic0.env_var_value_size", condition=1)
@pytest.mark.spec("ic0.env_var_value_copy", condition=1)
def test_environment_variables() -> None:
    """Names in order; an index too large, a name too long, no UTF-8 or unknown traps."""
    s = state(environment_variables=VARIABLES)
    assert environment.env_var_count(s) == 2
    for index, name in enumerate(b"AB"):
        assert environment.env_var_name_size(s, index) == 1
        environment.env_var_name_copy(s, index, 0, 0, 1)
        assert s.heap[0] == name
    for read in (lambda: environment.env_var_name_size(s, 2), lambda: environment.env_var_name_copy(s, 2, 0, 0, 0)):
        with pytest.raises(CanisterTrap, match="index 2 is out of bounds"):
            read()
    assert [environment.env_var_name_exists(s, *put(s, 0, name)) for name in (b"A", b"C")] == [1, 0]
    assert environment.env_var_name_exists(s, 0, 128) == 0
    with pytest.raises(CanisterTrap, match="longer than 128"):
        environment.env_var_name_exists(s, 0, 129)
    with pytest.raises(CanisterTrap, match="UTF-8"):
        environment.env_var_name_exists(s, *put(s, 0, b"\xff"))
    assert environment.env_var_value_size(s, *put(s, 0, b"A")) == 2
    environment.env_var_value_copy(s, 0, 1, 100, 0, 2)
    assert bytes(s.heap[100:102]) == b"11"
    for value in (lambda: environment.env_var_value_size(s, 0, 1), lambda: environment.env_var_value_copy(s, 0, 1, 9, 0, 1)):
        put(s, 0, b"C")
        with pytest.raises(CanisterTrap, match="Environment variable C not found"):
            value()


# --- helpers


@pytest.mark.spec("helper-functions", condition=(1, 2))
def test_copies_stay_within_bounds() -> None:
    """dst + size within the heap, offset + size within the data, src + size within the heap; exactly at the end is within."""
    s = state(fields={"arg": b"0123456789"})
    messages.msg_arg_data_copy(s, HEAP - 10, 0, 10)
    messages.msg_arg_data_copy(s, 0, 10, 0)
    for dst, offset, size in ((HEAP - 9, 0, 10), (0, 1, 10), (0, 11, 0)):
        with pytest.raises(CanisterTrap) as caught:
            messages.msg_arg_data_copy(s, dst, offset, size)
        assert caught.value.code is ErrorCode.CANISTER_CONTRACT_VIOLATION
    messages.msg_reply_data_append(s, HEAP - 1, 1)
    with pytest.raises(CanisterTrap):
        messages.msg_reply_data_append(s, HEAP, 1)
    cycles.canister_cycle_balance128(s, HEAP - 16)
    with pytest.raises(CanisterTrap):
        cycles.canister_cycle_balance128(s, HEAP - 15)


@pytest.mark.spec("ic0.cost_call", condition=1)
@pytest.mark.spec("ic0.cost_sign_with_ecdsa", condition=(1, 2))
@pytest.mark.spec("ic0.cost_sign_with_schnorr", condition=1)
@pytest.mark.spec("ic0.cost_vetkd_derive_key", condition=1)
def test_costs() -> None:
    """cost_call is what call_perform takes; unknown curve 1, unknown key 2."""
    s = state(balance=10**18)
    costs.cost_call(s, 1, 3, 0)
    told, before = got(s), s.balance
    new_call(s)
    calls.call_data_append(s, 200, 3)
    assert calls.call_perform(s) == 0
    assert before - s.balance == told == price(4)
    kinds = (ECDSA_CURVES[0], SCHNORR_ALGORITHMS[0], VETKD_CURVES[0])
    functions = (costs.cost_sign_with_ecdsa, costs.cost_sign_with_schnorr, costs.cost_vetkd_derive_key)
    for cost, kind in zip(functions, kinds, strict=True):
        s.environment = replace(s.environment, signing_fees={str(KeyId(kind, "key_1")): 77})
        key = put(s, 0, b"key_1")
        assert (cost(s, *key, 0, 100), cost(s, *key, 9, 100), cost(s, *put(s, 0, b"nokey"), 0, 100)) == (0, 1, 2)
        assert got(s, 100) == 77


@pytest.mark.spec("execution-state", condition=1)
def test_messages_start_anew() -> None:
    """One object serves all messages of a sandbox: nothing of one is left for the next."""
    s = state(cycles_available=10)
    message.msg_reply_data_append(s, *put(s, 0, b"old"))
    new_call(s)
    assert calls.call_perform(s) == 0
    new_call(s)
    cycles.msg_cycles_accept(s, 3)
    timers.global_timer_set(s, 9)
    s.begin(ExecutionInput(entry=EntryPoint.UPDATE, instruction_limit=1, slice_limit=1), ExecutionContext(balance=5))
    assert (s.calls, s.pending, s.reply_data, s.response, s.global_timer) == ([], None, b"", None, None)
    assert (s.cycles_accepted, s.cycles_burned, s.message_bytes, s.guaranteed_bytes, s.balance) == (0, 0, 0, 0, 5)
