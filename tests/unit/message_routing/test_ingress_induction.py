"""Ingress messages from the batch into queues: duplicates, expiry, fees, run status, management calls."""

from __future__ import annotations

from dataclasses import dataclass, field

from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from ic_types.reject import ErrorCode, Reject, reject
from ic_types.units import TimeNs
from message_routing.demux import demux
from message_routing.induction import IngressInduction, ManagementTarget, induct_ingress
from message_routing.ingress_history import IngressState
from message_routing.timeouts import time_out_ingress
from tests.support.routing_world import SECOND, START, FakeStatus, RoutingWorld, canister_id, ingress

BROKE = reject(ErrorCode.CANISTER_OUT_OF_CYCLES, "broke")


@dataclass
class Induction:
    """A subnet that inducts; `paid` lists who was charged for how many bytes."""

    world: RoutingWorld = field(default_factory=RoutingWorld)
    paid: list[tuple[CanisterId, int]] = field(default_factory=list)
    broke: bool = False
    target: ManagementTarget | Reject = field(default_factory=lambda: ManagementTarget(canister_id(0, 0)))
    port: IngressInduction = field(init=False)

    def __post_init__(self) -> None:
        world = self.world
        self.port = IngressInduction(
            canisters=world.canisters,
            management_queues=world.management_queues,
            routing=world.routing,
            history=world.history,
            deadlines=world.deadlines,
            limits=world.limits,
            system_subnet=False,
            pay=self.pay,
            management_rule=lambda message: self.target,
        )

    def pay(self, payer: CanisterId, raw_bytes: int) -> Reject | None:
        """Charge, or say why not."""
        self.paid.append((payer, raw_bytes))
        return BROKE if self.broke else None

    def induct(self, message: Ingress) -> Reject | None:
        """Induct, and tell why it failed."""
        assert induct_ingress(self.port, message, self.world.time)
        status = self.world.history.get(message.message_id)
        assert status is not None
        if status.reject is None:
            assert status.state is IngressState.RECEIVED
        return status.reject


def code_of(why: Reject | None) -> ErrorCode | None:
    """Its error code."""
    assert why is not None
    return why.error_code


def test_a_message_is_queued_and_paid_for_by_its_receiver() -> None:
    """By the bytes of its envelope; status received."""
    subnet = Induction()
    assert subnet.induct(ingress(1, canister_id(0, 1), raw_bytes=321)) is None
    assert subnet.paid == [(canister_id(0, 1), 321)]
    assert subnet.world.canister(1).queues.has_input()
    assert list(subnet.world.canisters.touched) == [canister_id(0, 1)]


def test_a_known_message_is_skipped_without_a_trace() -> None:
    """No second charge, no status change."""
    subnet = Induction()
    subnet.induct(ingress(1, canister_id(0, 1)))
    assert not induct_ingress(subnet.port, ingress(1, canister_id(0, 1)), subnet.world.time)
    assert len(subnet.paid) == 1


def test_expired_messages_fail_unpaid() -> None:
    """IC0202 as soon as the batch time is past the expiry."""
    subnet = Induction()
    late = ingress(1, canister_id(0, 1), expiry=TimeNs(START - 1))
    assert code_of(subnet.induct(late)) is ErrorCode.INGRESS_MESSAGE_TIMEOUT
    assert subnet.induct(ingress(2, canister_id(0, 1), expiry=START)) is None
    assert len(subnet.paid) == 1


def test_a_full_history_refuses_except_on_system_subnets() -> None:
    """IC0204."""
    subnet = Induction(RoutingWorld(ingress_history_messages=1))
    subnet.induct(ingress(1, canister_id(0, 1)))
    assert code_of(subnet.induct(ingress(2, canister_id(0, 1)))) is ErrorCode.INGRESS_HISTORY_FULL
    subnet.port.system_subnet = True
    assert subnet.induct(ingress(3, canister_id(0, 1))) is None


def test_unknown_canisters_and_poor_ones_get_no_message() -> None:
    """IC0301 without a charge, IC0207 with a failed one."""
    subnet = Induction()
    assert code_of(subnet.induct(ingress(1, canister_id(0, 77)))) is ErrorCode.CANISTER_NOT_FOUND
    assert subnet.paid == []
    subnet.broke = True
    assert code_of(subnet.induct(ingress(2, canister_id(0, 1)))) is ErrorCode.CANISTER_OUT_OF_CYCLES
    assert not subnet.world.canister(1).queues.has_input()


def test_canisters_that_do_not_run_pay_and_refuse() -> None:
    """The charge comes before the look at the status."""
    subnet = Induction()
    subnet.world.canister(1).status = FakeStatus("stopping")
    subnet.world.canister(2).status = FakeStatus("stopped")
    assert code_of(subnet.induct(ingress(1, canister_id(0, 1)))) is ErrorCode.CANISTER_STOPPING
    assert code_of(subnet.induct(ingress(2, canister_id(0, 2)))) is ErrorCode.CANISTER_STOPPED
    assert len(subnet.paid) == 2


def test_management_calls_are_paid_by_the_effective_canister() -> None:
    """They go to the subnet's own queue, filed under that canister."""
    subnet = Induction()
    assert subnet.induct(ingress(1, MANAGEMENT_CANISTER, raw_bytes=9)) is None
    assert subnet.paid == [(canister_id(0, 0), 9)]
    queued = subnet.world.management_queues.pop_input()
    assert isinstance(queued, Ingress)
    assert queued.effective_canister_id == canister_id(0, 0)


def test_management_calls_may_be_free() -> None:
    """About no canister, or a short update_settings of a frozen one."""
    subnet = Induction(target=ManagementTarget(None))
    assert subnet.induct(ingress(1, subnet.world.own)) is None
    subnet.target = ManagementTarget(canister_id(0, 0), free=True)
    assert subnet.induct(ingress(2, MANAGEMENT_CANISTER)) is None
    assert subnet.paid == []


def test_management_calls_about_missing_canisters_or_methods_fail() -> None:
    """IC0301, or what the management rule says."""
    subnet = Induction(target=ManagementTarget(canister_id(0, 77)))
    assert code_of(subnet.induct(ingress(1, MANAGEMENT_CANISTER))) is ErrorCode.CANISTER_NOT_FOUND
    subnet.target = reject(ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE, "what?")
    assert code_of(subnet.induct(ingress(2, MANAGEMENT_CANISTER))) is ErrorCode.UNKNOWN_MANAGEMENT_MESSAGE


def test_queued_messages_expire() -> None:
    """IC0202 once the expiry is past; executed ones are left alone."""
    subnet = Induction()
    world = subnet.world
    for n in range(3):
        subnet.induct(ingress(n, canister_id(0, 1), expiry=TimeNs(START + SECOND)))
    subnet.target = ManagementTarget(None)
    subnet.induct(ingress(3, MANAGEMENT_CANISTER, expiry=TimeNs(START + SECOND)))
    world.canister(1).queues.pop_input()
    late = TimeNs(START + SECOND + 1)
    ports = (world.deadlines, world.canisters, world.management_queues, world.routing, world.history)
    assert time_out_ingress(*ports, TimeNs(START + SECOND)) == 0
    assert time_out_ingress(*ports, late) == 3
    states = [world.history.statuses[n.to_bytes(32, "big")].state for n in range(4)]
    assert states == [IngressState.RECEIVED, IngressState.REJECTED, IngressState.REJECTED, IngressState.REJECTED]
    assert not world.canister(1).queues.has_input()
    assert not world.management_queues.has_input()


def test_a_batch_is_inducted_streams_first() -> None:
    """Counters of one batch; duplicates within it count as such."""
    subnet = Induction()
    messages = [ingress(1, canister_id(0, 1)), ingress(1, canister_id(0, 1)), ingress(2, canister_id(0, 2))]
    counts = demux(subnet.world.port, subnet.port, (), messages, subnet.world.time)
    assert (counts.ingress, counts.duplicates, counts.streams.requests) == (2, 1, 0)
