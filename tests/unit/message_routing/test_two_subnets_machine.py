"""Two subnets and their streams under any interleaving: every call answered exactly once, no cycle gained or lost unseen."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ic_types.units import TimeNs
from message_routing.cycles_flow import cycles_of
from message_routing.local_induction import induct_on_same_subnet
from tests.support.routing_world import SECOND, FakeStatus, RoutingWorld, canister_id

SIDES = st.integers(0, 1)
CANISTERS = st.integers(0, 2)
RICH = 10**15


class TwoSubnets(RuleBasedStateMachine):
    """Each rule is a step that some round could take; slices may be late, partial or repeated as signals only."""

    def __init__(self) -> None:
        super().__init__()
        self.worlds = [RoutingWorld(n, queue_capacity=2, max_stream_messages=4) for n in range(2)]
        self.started = 0

    @rule(
        side=SIDES,
        caller=CANISTERS,
        to_side=st.integers(0, 2),
        callee=CANISTERS,
        cycles=st.integers(0, 50),
        timeout=st.sampled_from([0, 0, 5, 50]),
    )
    def call(self, side: int, caller: int, to_side: int, callee: int, cycles: int, timeout: int) -> None:
        """A canister calls: here, there, or where nobody lives."""
        world = self.worlds[side]
        deadline = world.time // SECOND + timeout if timeout else 0
        made = world.call(world.canister(caller), canister_id(to_side, callee), cycles=cycles, deadline_s=deadline)
        self.started += made is not None

    @rule(side=SIDES, who=CANISTERS, accept=st.integers(0, 60))
    def execute(self, side: int, who: int, accept: int) -> None:
        """A canister takes its next input."""
        self.worlds[side].take_input(self.worlds[side].canister(who), accept=accept)

    @rule(side=SIDES)
    def induct_locally(self, side: int) -> None:
        """Messages inside the subnet."""
        induct_on_same_subnet(self.worlds[side].delivery)

    @rule(side=SIDES)
    def build(self, side: int) -> None:
        """Outputs into streams."""
        self.worlds[side].build()

    @rule(side=SIDES, most=st.integers(0, 5))
    def receive(self, side: int, most: int) -> None:
        """Loopback, and a slice of at most so many messages."""
        world, other = self.worlds[side], self.worlds[1 - side]
        world.receive(world.slice_from(other, most))

    @rule(side=SIDES, seconds=st.integers(1, 400))
    def time_passes(self, side: int, seconds: int) -> None:
        """Time outs of what is due on one side; clocks of subnets differ."""
        world = self.worlds[side]
        world.time = TimeNs(world.time + seconds * SECOND)
        world.expire()

    @rule(side=SIDES, who=CANISTERS, status=st.sampled_from(["running", "running", "stopping", "stopped"]))
    def set_status(self, side: int, who: int, status: str) -> None:
        """Somebody stops or starts a canister."""
        self.worlds[side].canister(who).status = FakeStatus(status)

    @invariant()
    def cycles_are_conserved(self) -> None:
        """Per subnet and in all; between the subnets are exactly the messages not accepted yet."""
        for world in self.worlds:
            assert world.balance_sheet() == 3 * RICH
        under_way = sum(world.flow.sent - world.flow.received - world.flow.returned for world in self.worlds)
        assert under_way == sum(
            self.not_received(world, other) for world, other in zip(self.worlds, self.worlds[::-1], strict=True)
        )

    @staticmethod
    def not_received(world: RoutingWorld, other: RoutingWorld) -> int:
        """Cycles in the stream that the other side hasn't accepted; refused ones count until they are back."""
        stream, reverse = world.streams.get(other.own), other.streams.get(world.own)
        if stream is None:
            return 0
        seen = 0 if reverse is None else reverse.signals_end
        refused = () if reverse is None else {signal.index for signal in reverse.reject_signals}
        indexed = enumerate(stream.messages, stream.begin)
        return sum(cycles_of(message) for index, message in indexed if index >= seen or index in refused)

    @invariant()
    def queues_hold_together(self) -> None:
        """Counters and rotations."""
        for world in self.worlds:
            world.check()

    def teardown(self) -> None:
        """Let everything run: then each call has come back exactly once and nothing is reserved any more."""
        for world in self.worlds:
            for canister in world.canisters.known.values():
                canister.status = FakeStatus("running")
        for _ in range(200):
            for side, world in enumerate(self.worlds):
                world.receive(world.slice_from(self.worlds[1 - side]))
                for _ in range(4):
                    for canister in world.canisters.known.values():
                        while canister.queues.has_input():
                            world.take_input(canister)
                    induct_on_same_subnet(world.delivery)
                world.build()
            if self.settled():
                break
            for world in self.worlds:
                world.time = TimeNs(world.time + SECOND)
                world.expire()
        self.cycles_are_conserved()
        self.queues_hold_together()
        canisters = [c for world in self.worlds for c in world.canisters.known.values()]
        assert not any(c.callbacks for c in canisters), "a call was never answered"
        assert sum(len(c.outcomes) for c in canisters) == self.started
        assert not any(c.queues.peers for c in canisters), "a slot stayed reserved"
        assert sum(c.balance for c in canisters) + sum(w.lost.total() for w in self.worlds) == 6 * RICH
        assert all(w.lost.total() == 0 for w in self.worlds)

    def settled(self) -> bool:
        """Nothing is under way."""
        idle = all(not any(s.messages for s in w.streams.values()) and not len(w.refunds) for w in self.worlds)
        return idle and all(not c.queues.peers for w in self.worlds for c in w.canisters.known.values())


TwoSubnets.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestTwoSubnets = TwoSubnets.TestCase
TestTwoSubnets.__doc__ = "Whatever happens in which order, calls come back once and cycles stay."
