"""Subnets without execution: queues, streams and routing of a few canisters whose behaviour the test decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.limits import SubnetLimits
from ic_types.messages import Ingress, Request, Response
from ic_types.principal import CanisterId, Principal, SubnetId
from ic_types.reject import Payload, Reject, Reply
from ic_types.units import CallbackId, Cycles, StreamIndex, TimeNs
from message_routing.cycles_flow import CyclesFlow, cycles_in_queues, cycles_in_stream
from message_routing.delivery import Delivery, GuaranteedMemory
from message_routing.ingress_history import IngressHistory
from message_routing.lost_cycles import LostCycles
from message_routing.queues import CanisterQueues
from message_routing.receivers import OutputCandidates
from message_routing.refunds import RefundPool
from message_routing.routing_table import RoutingTable, allocation_range
from message_routing.stream_builder import StreamBuilding, build_streams
from message_routing.stream_handler import StreamCounts, StreamPort, process_streams
from message_routing.timeouts import Deadlines, time_out_messages
from xnet.header import StreamHeader
from xnet.stream import Stream

USER = Principal(b"\x07user\x02")
START = TimeNs(1_000_000_000_000)
SECOND = 1_000_000_000


def subnet_id(index: int) -> SubnetId:
    """The n-th subnet of the tests."""
    return Principal(bytes([0xA0 + index]) * 28 + b"\x02")


def canister_id(subnet: int, index: int) -> CanisterId:
    """The n-th canister of a subnet."""
    return Principal.canister((subnet << 20) + index)


def ingress(number: int, receiver: CanisterId, *, method: str = "go", arg: bytes = b"", **fields: object) -> Ingress:
    """An ingress message; the number makes its id."""
    values: dict[str, object] = {"expiry": TimeNs(START + 200 * SECOND), "raw_bytes": 100, "sender": USER, **fields}
    return Ingress(
        message_id=number.to_bytes(32, "big"),
        receiver=receiver,
        method=method,
        arg=arg,
        **values,  # type: ignore[arg-type]
    )


def request(sender: CanisterId, receiver: CanisterId, callback: int = 1, *, cycles: int = 0, **fields: object) -> Request:
    """A request."""
    values: dict[str, object] = {"method": "go", "arg": b"", **fields}
    return Request(
        sender=sender,
        receiver=receiver,
        callback_id=CallbackId(callback),
        payment=Cycles(cycles),
        **values,  # type: ignore[arg-type]
    )


def response(to: Request, payload: Payload | None = None, *, refund: int = 0) -> Response:
    """The answer to a request."""
    return Response(
        originator=to.sender,
        respondent=to.receiver,
        callback_id=to.callback_id,
        refund=Cycles(refund),
        payload=Reply(b"ok") if payload is None else payload,
        deadline_s=to.deadline_s,
    )


class FakeStatus:
    """A run status."""

    def __init__(self, value: str) -> None:
        self.value = value


@dataclass
class FakeCanister:
    """Satisfies `message_routing.receivers.RoutableCanister`."""

    canister_id: CanisterId
    queues: CanisterQueues = field(default_factory=CanisterQueues)
    status: FakeStatus = field(default_factory=lambda: FakeStatus("running"))
    callbacks: dict[CallbackId, Request] = field(default_factory=dict)
    balance: Cycles = Cycles(10**15)
    next_callback: int = 1
    outcomes: list[tuple[CallbackId, Payload]] = field(default_factory=list)
    """What came back, in order."""


@dataclass
class FakeCanisters:
    """Satisfies `message_routing.receivers.Canisters`."""

    known: dict[CanisterId, FakeCanister] = field(default_factory=dict)
    outputs: OutputCandidates = field(default_factory=OutputCandidates)
    touched: dict[CanisterId, None] = field(default_factory=dict)

    def get(self, wanted: CanisterId, /) -> FakeCanister | None:
        """Look it up."""
        return self.known.get(wanted)

    def touch(self, changed: CanisterId, /) -> None:
        """Note the change."""
        self.touched[changed] = None
        self.outputs.add(changed)


@dataclass(frozen=True)
class FakeSlice:
    """Satisfies `message_routing.stream_handler.Slice`."""

    header: StreamHeader
    begin: StreamIndex
    messages: tuple[object, ...]


class RoutingWorld:
    """One subnet of a network of `subnets`."""

    def __init__(self, index: int = 0, subnets: int = 2, canisters: int = 3, **limits: int) -> None:
        self.index, self.own = index, subnet_id(index)
        self.limits = SubnetLimits(**limits)  # type: ignore[arg-type]
        ranges = [(*allocation_range(n), subnet_id(n)) for n in range(subnets)]
        self.routing = RoutingTable(self.own, ranges)
        self.canisters = FakeCanisters()
        for n in range(canisters):
            queues = CanisterQueues(self.limits.queue_capacity)
            self.canisters.known[canister_id(index, n)] = FakeCanister(canister_id(index, n), queues)
        self.management_queues = CanisterQueues(by_effective_id=True)
        self.deadlines, self.lost, self.flow = Deadlines(), LostCycles(), CyclesFlow()
        self.refunds, self.history = RefundPool(), IngressHistory()
        self.streams: dict[SubnetId, Stream] = {}
        self.memory = GuaranteedMemory(1 << 40)
        self.time = START
        self.resolve = lambda request: self.own
        self.delivery = Delivery(self.canisters, self.management_queues, self.routing, self.deadlines, self.memory, self.lost)
        self.port = StreamPort(self.delivery, self.streams, self.flow)

    def canister(self, index: int) -> FakeCanister:
        """The n-th canister."""
        return self.canisters.known[canister_id(self.index, index)]

    def call(self, sender: FakeCanister, receiver: CanisterId, *, cycles: int = 0, **fields: object) -> Request | None:
        """Make a call; None when the queue has no room."""
        made = request(sender.canister_id, receiver, sender.next_callback, cycles=cycles, **fields)
        if not sender.queues.push_output_request(made, self.time):
            return None
        sender.next_callback += 1
        sender.callbacks[made.callback_id] = made
        sender.balance = Cycles(sender.balance - cycles)
        self.canisters.touch(sender.canister_id)
        return made

    def take_input(self, canister: FakeCanister, *, accept: int = 0, payload: Payload | None = None) -> object:
        """Execute the next input: a request is answered, a response ends its call."""
        message = canister.queues.pop_input()
        self.canisters.touch(canister.canister_id)
        if isinstance(message, Request):
            taken = min(accept, message.payment)
            canister.balance = Cycles(canister.balance + taken)
            answer = response(message, payload, refund=message.payment - taken)
            canister.queues.push_output_response(answer)
        elif isinstance(message, Response):
            del canister.callbacks[message.callback_id]
            canister.balance = Cycles(canister.balance + message.refund)
            canister.outcomes.append((message.callback_id, message.payload))
        return message

    def build(self) -> StreamCounts:
        """Route outputs into streams."""
        return build_streams(
            StreamBuilding(
                canisters=self.canisters,
                management_queues=self.management_queues,
                routing=self.routing,
                streams=self.streams,
                refunds=self.refunds,
                deadlines=self.deadlines,
                lost=self.lost,
                flow=self.flow,
                limits=self.limits,
                system_subnets=frozenset(),
                resolve=self.resolve,
            )
        )

    def expire(self) -> int:
        """Time out what is due."""
        return time_out_messages(self.deadlines, self.canisters, self.management_queues, self.routing, self.refunds, self.time)

    def slice_from(self, source: RoutingWorld, most: int = 1000) -> tuple[SubnetId, FakeSlice]:
        """What the source has for us now: everything new, at most so many messages."""
        stream = source.streams.setdefault(self.own, Stream())
        expected = self.streams.setdefault(source.own, Stream()).signals_end
        messages = list(stream.messages)[expected - stream.begin :][:most]
        return source.own, FakeSlice(stream.header(), expected, tuple(messages))

    def receive(self, *slices: tuple[SubnetId, FakeSlice]) -> StreamCounts:
        """Process the loopback stream and these slices."""
        return process_streams(self.port, slices)  # type: ignore[arg-type]

    def held_cycles(self) -> int:
        """Balances, queues, owed refunds, loopback stream."""
        total = sum(c.balance + cycles_in_queues(c.queues) for c in self.canisters.known.values())
        loopback = self.streams.get(self.own)
        total += cycles_in_queues(self.management_queues) + self.refunds.total()
        return total + (0 if loopback is None else cycles_in_stream(loopback))

    def balance_sheet(self) -> int:
        """Held cycles corrected for what was lost and what crossed the border: constant."""
        return self.held_cycles() + self.lost.total() + self.flow.sent - self.flow.received - self.flow.returned

    def check(self) -> None:
        """Invariants of all queues."""
        for canister in self.canisters.known.values():
            canister.queues.check_invariants()
        self.management_queues.check_invariants()


def rejects_of(canister: FakeCanister) -> list[Reject]:
    """The rejects among what came back."""
    return [payload for _, payload in canister.outcomes if isinstance(payload, Reject)]
