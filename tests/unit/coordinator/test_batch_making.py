"""Batches and the slices that are asked for."""

from __future__ import annotations

from configs.limits import SubnetLimits
from ic_types.messages import Ingress
from ic_types.principal import ANONYMOUS
from ic_types.units import TimeNs
from subnet.coordinator.batch_maker import (
    MAX_BATCH_BYTES,
    empty_batch,
    fitting_slices,
    is_quiet,
    make_batch,
    slice_requests,
)
from subnet.coordinator.genesis import make_genesis, threshold_of
from subnet.coordinator.ingress_pool import IngressPool, PooledMessage
from subnet.coordinator.network_state import Network, new_network
from subnet.protocol import CertifiedSlice, StreamHead
from tests.support.plans import small_plan

PLAN = small_plan(1, 1, 1)
GENESIS = make_genesis(PLAN)
IDS = [record.subnet_id for record in GENESIS.subnets]


def network(**heads: tuple[int, int, int]) -> Network:
    """A network whose streams stand so: `s01` is that of subnet 0 to subnet 1, (begin, end, signals_end)."""
    found = new_network(PLAN, GENESIS)
    for name, (begin, end, signals_end) in heads.items():
        source, peer = int(name[1]), IDS[int(name[2])]
        found.subnets[source].heads[peer] = StreamHead(peer=peer, begin=begin, end=end, signals_end=signals_end)
    return found


def slice_of(source: int, size: int) -> CertifiedSlice:
    """A slice of so many bytes."""
    return CertifiedSlice(source=IDS[source], witness=bytes(size), certificate_signature=b"")


def test_new_messages_are_asked_for_from_where_we_stand() -> None:
    """Messages from our signals_end on, signals from our stream's begin on."""
    asked = slice_requests(network(s01=(2, 9, 4), s10=(3, 5, 6)), 1)
    assert sorted(asked) == [0, 1]
    ((receiver, request),) = asked[0]
    assert (receiver, request.peer) == (1, IDS[1])
    assert (request.message_begin, request.signals_begin) == (6, 3)
    ((receiver, request),) = asked[1]
    assert (receiver, request.message_begin, request.signals_begin) == (0, 4, 2)


def test_signals_alone_are_fetched_and_then_there_is_peace() -> None:
    """Subnet 0 has its message inducted by 1, and learns so; afterwards nothing is asked for."""
    asked = slice_requests(network(s01=(0, 1, 0), s10=(0, 0, 1)), 1)
    assert list(asked) == [1]
    assert not is_quiet(network(s01=(0, 1, 0), s10=(0, 0, 1)))
    assert is_quiet(network(s01=(1, 1, 0), s10=(0, 0, 1)))


def test_a_stream_to_oneself_is_never_asked_for() -> None:
    """The loopback stream doesn't travel."""
    assert slice_requests(network(s00=(0, 5, 0)), 1) == {}


def test_slices_that_do_not_fit_wait_and_peers_take_turns() -> None:
    """The rotation moves the first place on with the height."""
    limit = PLAN.subnets[2].limits.max_slice_bytes
    found = network(s02=(0, 1, 0), s12=(0, 1, 0))
    big = [slice_of(0, limit - 10), slice_of(1, limit - 10)]
    first = {fitting_slices(found, found.subnets[2], big, height)[0].source for height in (1, 2)}
    assert first == {IDS[0], IDS[1]}
    assert all(len(fitting_slices(found, found.subnets[2], big, height)) == 1 for height in (1, 2))
    small = [slice_of(0, 10), slice_of(1, 10)]
    assert len(fitting_slices(found, found.subnets[2], small, 1)) == 2
    assert fitting_slices(found, found.subnets[2], [slice_of(0, limit + 500)], 1)


def test_slices_leave_less_room_for_ingress() -> None:
    """A batch has a bounded size in all."""
    found = network()
    pool = IngressPool(GENESIS.subnets, [SubnetLimits()] * 3)
    for number in range(4):
        ingress = Ingress(
            message_id=bytes([number]), sender=ANONYMOUS, receiver=GENESIS.subnets[0].range_start, method="m", arg=b"",
            expiry=TimeNs(found.now + 10**12), raw_bytes=1 << 20,
        )  # fmt: skip
        pool.add(0, PooledMessage(ingress, b"", 0))
    made = make_batch(found.subnets[0], 1, PLAN.virtual_time_at(1), pool, (slice_of(1, 2 << 20),))
    assert len(made.batch.ingress) == (MAX_BATCH_BYTES - (2 << 20)) >> 20
    assert not made.is_empty


def test_time_and_checkpoints_follow_the_height() -> None:
    """The time it is given; a checkpoint every so many rounds."""
    found = network()
    interval = PLAN.subnets[0].limits.checkpoint_interval
    batch = empty_batch(found.subnets[0], interval, 7, b"tape")
    assert batch.time_ns == 7
    assert batch.is_checkpoint
    assert not empty_batch(found.subnets[0], interval + 1, 7, b"tape").is_checkpoint


def test_thresholds_are_those_of_the_internet_computer() -> None:
    """n - f of n = 3f + 1."""
    assert [threshold_of(n) for n in (1, 2, 3, 4, 7, 13, 40)] == [1, 2, 3, 3, 5, 9, 27]


def test_keys_follow_the_identity_seed_and_randomness_the_seed() -> None:
    """Another seed gives other genesis randomness under the same keys."""
    other = small_plan(1, 1, 1, seed=2)
    assert make_genesis(other) == GENESIS
    assert new_network(other, GENESIS).subnets[0].randomness != new_network(PLAN, GENESIS).subnets[0].randomness
