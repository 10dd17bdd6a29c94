"""Every invariant of the replicated state: sound states pass, and each kind of damage is named with subnet and canister."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.messages import Request, Response
from ic_types.principal import CanisterId, Principal
from ic_types.reject import Reply
from ic_types.units import CallbackId, CallContextId, Cycles, TimeNs
from message_routing.queues import CanisterQueues
from sandbox.protocol import Closure, EntryPoint
from scheduler.canister import (
    Callback,
    CallContext,
    Canister,
    CanisterOrigin,
    IngressOrigin,
    RunStatus,
    Settings,
    StopCall,
    SystemOrigin,
    SystemTask,
)
from scheduler.canister import LongExecution as Long
from subnet.account import Breach, report_of
from subnet.protocol import NodeConfig
from subnet.state.genesis import genesis_state
from subnet.state.invariants import check_invariants
from subnet.state.replicated_state import ReplicatedState
from tests.support.lone_node import network_record
from xnet.stream import Stream

NEAR, OTHER, FAR = Principal.canister(0), Principal.canister(1), Principal.canister(1 << 20)
NOW = TimeNs(100_000_000_000)
CYCLES = 1_000_000
ORIGIN = IngressOrigin(b"m", Principal(b"u"))


def states() -> tuple[ReplicatedState, ReplicatedState]:
    """Two subnets: NEAR and OTHER on the first, FAR on the second."""
    network, shares = network_record(("left", "right"))
    made = []
    for record, ids in zip(network.subnets, ((NEAR, OTHER), (FAR,)), strict=True):
        config = NodeConfig(
            subnet=record.subnet_id,
            subnet_name=record.name,
            node_index=1,
            node_id=record.nodes[0],
            network=network,
            limits=SubnetLimits(),
            fees=CyclesCostSchedule(),
            genesis_time_ns=NOW,
            key_share=shares[record.name][0],
            threshold=1,
            coordinator_endpoint="",
            socket_dir="",
            compiler_endpoint="",
            cache_dir="",
        )
        state = genesis_state(config)
        for canister_id in ids:
            settings = Settings(controllers=())
            state.canisters.add(
                Canister(
                    canister_id=canister_id, settings=settings, balance=Cycles(CYCLES), created=NOW, queues=CanisterQueues()
                )
            )
            state.minted += CYCLES
        made.append(state)
    return made[0], made[1]


def open_call(state: ReplicatedState, callee: CanisterId, *, cycles: int = 0, deadline_s: int = 0) -> Request:
    """NEAR calls: context 1 waits with callback 1, and the request is in the output queue."""
    caller = state.canisters[NEAR]
    caller.contexts[CallContextId(1)] = context(1, outstanding_calls=1)
    caller.next_context_id = 2
    caller.callbacks[CallbackId(1)] = callback(1, 1, callee, deadline_s)
    caller.next_callback_id = 2
    caller.balance = Cycles(caller.balance - cycles)
    made = Request(
        sender=NEAR,
        receiver=callee,
        callback_id=CallbackId(1),
        payment=Cycles(cycles),
        method="m",
        arg=b"",
        deadline_s=deadline_s,
    )
    assert caller.queues.push_output_request(made, NOW)
    return made


def context(number: int, **fields: object) -> CallContext:
    """A context of a user's call."""
    values: dict[str, object] = {"origin": ORIGIN, "available_cycles": Cycles(0), "created": NOW, **fields}
    return CallContext(context_id=CallContextId(number), **values)  # type: ignore[arg-type]


def callback(number: int, of: int, callee: CanisterId, deadline_s: int = 0) -> Callback:
    """A callback with nothing prepaid."""
    nothing = Closure(0, 0)
    return Callback(
        callback_id=CallbackId(number),
        context_id=CallContextId(of),
        callee=callee,
        on_reply=nothing,
        on_reject=nothing,
        on_cleanup=None,
        cycles_sent=Cycles(0),
        prepaid_execution=Cycles(0),
        prepaid_transmission=Cycles(0),
        wasm64=False,
        deadline_s=deadline_s,
    )


def breaches_of(*subnets: ReplicatedState) -> list[Breach]:
    """The breaches, with every change by the test noted as the rules do."""
    for subnet in subnets:
        for canister_id in subnet.canisters:
            subnet.canisters.touch(canister_id)
    return check_invariants(subnets)


def test_a_call_is_sound_wherever_it_is() -> None:
    """As a request in queues and streams, as a context, as a response on the way back: one place at every time."""
    left, right = states()
    open_call(left, FAR, cycles=77)
    assert breaches_of(left, right) == []
    sent = left.canisters[NEAR].queues.pop_output(FAR)
    assert isinstance(sent, Request)
    there = left.streams[right.own.subnet_id] = Stream()
    there.push(sent)
    left.flow.sent += 77
    assert breaches_of(left, right) == []
    back = right.streams[left.own.subnet_id] = Stream()
    back.accept()
    right.flow.received += 77
    far = right.canisters[FAR]
    far.queues.push_input_request(sent, local=False)
    assert breaches_of(left, right) == []
    far.queues.pop_input()
    origin = CanisterOrigin(NEAR, CallbackId(1), 0)
    far.contexts[CallContextId(1)] = context(1, origin=origin, available_cycles=Cycles(77), outstanding_calls=1)
    far.callbacks[CallbackId(1)], far.next_callback_id, far.next_context_id = callback(1, 1, OTHER), 2, 2
    mine = Request(sender=FAR, receiver=OTHER, callback_id=CallbackId(1), payment=Cycles(0), method="m", arg=b"")
    assert far.queues.push_output_request(mine, NOW)
    assert breaches_of(left, right) == []
    there.discard_messages_before(there.end)
    assert breaches_of(left, right) == []


Damage = Callable[[Canister, ReplicatedState], None]


def lose_callback(near: Canister, _state: ReplicatedState) -> None:
    """The request's callback and context vanish."""
    near.callbacks.clear()
    near.contexts.clear()


def answer_twice(near: Canister, state: ReplicatedState) -> None:
    """A response arrives although the request hasn't gone."""
    response = Response(originator=NEAR, respondent=OTHER, callback_id=CallbackId(1), refund=Cycles(0), payload=Reply(b""))
    assert near.queues.push_input_response(response, local=True) is not None


def responded_with_cycles(near: Canister, _state: ReplicatedState) -> None:
    """A context keeps cycles after its response."""
    near.contexts[CallContextId(1)].responded = True
    near.contexts[CallContextId(1)].available_cycles = Cycles(5)


def set_field(name: str, value: object) -> Damage:
    """NEAR's field takes this value."""

    def damage(near: Canister, _state: ReplicatedState) -> None:
        setattr(near, name, value)

    return damage


def set_context(name: str, value: object) -> Damage:
    """A field of NEAR's call context takes this value."""

    def damage(near: Canister, _state: ReplicatedState) -> None:
        setattr(near.contexts[CallContextId(1)], name, value)

    return damage


def half_a_queue(near: Canister, _state: ReplicatedState) -> None:
    """A message goes without its counters."""
    near.queues.peers[OTHER].outputs.clear()


def system_cycles(near: Canister, _state: ReplicatedState) -> None:
    """A timer's context holds cycles."""
    one = near.contexts[CallContextId(1)]
    one.origin, one.available_cycles = SystemOrigin(EntryPoint.GLOBAL_TIMER), Cycles(1)


def negative_prepayment(near: Canister, _state: ReplicatedState) -> None:
    """A callback owes cycles."""
    near.callbacks[CallbackId(1)] = replace(near.callbacks[CallbackId(1)], prepaid_execution=Cycles(-1))


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (lose_callback, "referenced call contexts exist"),
        (answer_twice, "every open call gets exactly one response"),
        (half_a_queue, "queues, slots and memory counters agree"),
        (responded_with_cycles, "responded call contexts have no cycles left"),
        (system_cycles, "a system task holds no cycles"),
        (negative_prepayment, "what is prepaid isn't negative"),
        (set_context("deleted", True), "deleted call contexts await no response"),
        (set_context("outstanding_calls", 2), "an open call context awaits exactly its outstanding calls"),
        (set_field("contexts", {}), "a callback belongs to an existing call context"),
        (set_field("status", RunStatus.STOPPED), "a stopped canister has no call contexts"),
        (set_field("stop_calls", [StopCall(ORIGIN, Cycles(0), NOW)]), "only a stopping canister has stop calls waiting"),
        (set_field("tasks", [SystemTask(EntryPoint.HEARTBEAT)]), "no task is left between rounds"),
        (set_field("global_timer", TimeNs(9)), "an empty canister has neither timer nor certified data"),
        (set_field("certified_data", bytes(33)), "certified data has at most 32 bytes"),
        (set_field("balance", Cycles(-1)), "no balance is negative"),
        (set_field("balance", Cycles(CYCLES + 1)), "minted - burned - lost = balances + reserved + in flight + prepaid"),
        (
            set_field(
                "long_execution", Long(SystemTask(EntryPoint.HEARTBEAT), Cycles(0), paused=False, started_round=1, slices=1)
            ),
            "only a paused message has slices",
        ),
    ],
)
def test_damage_is_named_with_subnet_and_canister(damage: Damage, invariant: str) -> None:
    """Each kind of damage breaks its invariant; the report says where."""
    left, right = states()
    open_call(left, OTHER)
    assert check_invariants([left, right]) == []
    damage(left.canisters[NEAR], left)
    found = check_invariants([left, right])
    assert invariant in [one.invariant for one in found]
    one = next(one for one in found if one.invariant == invariant)
    assert one.subnet == "left"
    assert one.canister == (None if invariant.startswith("minted") else NEAR)
    assert f"an invariant is broken at height 3: {found[0].text()}" in report_of(found, 3)
    assert "subnet left" in one.text()


def test_cycles_lost_between_subnets_are_found() -> None:
    """A message that left one subnet and is nowhere: each subnet's own book is right, that of all isn't."""
    left, right = states()
    left.canisters[NEAR].balance = Cycles(CYCLES - 10)
    left.flow.sent += 10
    found = check_invariants([left, right])
    assert [one.invariant for one in found] == ["cycles are conserved in all"]
    assert found[0].detail == "sent and not arrived 10, travelling 0, difference +10"
    assert check_invariants([left]) == []


def test_an_expired_call_may_outlive_its_callback() -> None:
    """Bounded-wait calls whose deadline is over need no call context; before it they do, and two places are no breach."""
    left, right = states()
    open_call(left, OTHER, deadline_s=NOW // 1_000_000_000)
    lose_callback(left.canisters[NEAR], left)
    assert [one.invariant for one in check_invariants([left, right])] == ["referenced call contexts exist"]
    left.time = TimeNs(NOW + 1)
    assert check_invariants([left, right]) == []


def test_other_subnets_calls_are_judged_only_when_these_are_there() -> None:
    """One subnet alone doesn't know whether a caller elsewhere still waits."""
    left, right = states()
    stray = Request(sender=NEAR, receiver=FAR, callback_id=CallbackId(9), payment=Cycles(0), method="m", arg=b"")
    right.canisters[FAR].queues.push_input_request(stray, local=False)
    assert check_invariants([right]) == []
    found = check_invariants([left, right])
    assert [(one.invariant, one.canister) for one in found] == [("referenced call contexts exist", NEAR)]
    assert f"a request in the input queue of {FAR} on subnet right" in found[0].detail
