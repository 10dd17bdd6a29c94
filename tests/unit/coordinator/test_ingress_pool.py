"""The ingress pool: order, limits, duplicates, expiry, destinations."""

from __future__ import annotations

import pytest

from configs.limits import SubnetLimits
from ic_types.envelope import build_call
from ic_types.errors import EnvelopeError
from ic_types.identity import Ed25519Identity
from ic_types.messages import Ingress
from ic_types.principal import ANONYMOUS, MANAGEMENT_CANISTER, Principal
from ic_types.units import TimeNs
from subnet.coordinator.genesis import make_genesis
from subnet.coordinator.ingress_pool import MAX_BATCH_INGRESS_BYTES, IngressPool, PooledMessage
from tests.support.plans import small_plan

NOW = 1_000_000_000_000
MINUTE = 60_000_000_000
ALICE = Ed25519Identity.derive(b"seed", "alice")
SUBNETS = make_genesis(small_plan(1, 1)).subnets
LIMITS = SubnetLimits(max_ingress_per_round=3, max_payload=10_000)


def pool(*, any_expiry: bool = False) -> IngressPool:
    """A pool of two subnets."""
    return IngressPool(SUBNETS, [LIMITS, LIMITS], any_expiry=any_expiry)


def message(number: int, *, size: int = 100, expiry: int = NOW + MINUTE) -> PooledMessage:
    """A message as it is after verification."""
    ingress = Ingress(
        message_id=number.to_bytes(32, "big"), sender=ANONYMOUS, receiver=Principal.canister(0), method="m", arg=b"",
        expiry=TimeNs(expiry), raw_bytes=size,
    )  # fmt: skip
    return PooledMessage(ingress, b"envelope", 0)


def signed(receiver: Principal, *, expiry: int = NOW + MINUTE, arg: bytes = b"") -> bytes:
    """A signed call."""
    return build_call(ALICE, canister_id=receiver, method="m", arg=arg, expiry=TimeNs(expiry))


def numbers(messages: list[PooledMessage]) -> list[int]:
    """Which messages these are."""
    return [int.from_bytes(one.ingress.message_id, "big") for one in messages]


def test_batches_take_messages_in_order_of_arrival_up_to_the_count() -> None:
    """The rest stays for the next batch."""
    waiting = pool()
    for number in range(5):
        assert waiting.add(0, message(number))
    assert numbers(waiting.take(0, 1 << 30)) == [0, 1, 2]
    assert numbers(waiting.take(0, 1 << 30)) == [3, 4]
    assert len(waiting) == 0


def test_a_batch_is_bounded_in_bytes_but_never_stuck() -> None:
    """A message too large for what is left waits; the first of a batch goes in whatever its size."""
    waiting = pool()
    for number, size in enumerate((MAX_BATCH_INGRESS_BYTES + 1, 600, 600)):
        waiting.add(0, message(number, size=size))
    assert numbers(waiting.take(0, 1000)) == [0]
    assert numbers(waiting.take(0, 1000)) == [1]
    assert numbers(waiting.take(0, 1000)) == [2]


@pytest.mark.spec("api-request-submission", condition=3)
def test_nothing_enters_twice() -> None:
    """Not while it waits, and not after it was taken, until it has expired."""
    waiting = pool()
    assert waiting.add(0, message(1))
    assert not waiting.add(0, message(1))
    waiting.take(0, 1 << 30)
    assert not waiting.add(0, message(1))
    assert waiting.forget_expired(NOW + MINUTE) == []
    assert waiting.forget_expired(NOW + MINUTE + 1) == [message(1).ingress.message_id]
    assert waiting.add(0, message(1))


def test_messages_expire_while_they_wait() -> None:
    """Wherever they stand in the queue; the others keep their order."""
    waiting = pool()
    for number, expiry in enumerate((NOW + 5, NOW - 1, NOW, NOW + 5)):
        waiting.add(0, message(number, expiry=expiry))
    assert waiting.expire(0, NOW - 1) == []
    assert numbers(waiting.expire(0, NOW)) == [1]
    assert numbers(waiting.expire(0, NOW + 1)) == [2]
    assert waiting.expire(0, NOW + 5) == []
    assert numbers(waiting.take(0, 1 << 30)) == [0, 3]


def test_subnets_wait_apart() -> None:
    """A batch has its own subnet's messages alone."""
    waiting = pool()
    waiting.add(1, message(1))
    assert waiting.take(0, 1 << 30) == []
    assert waiting.waiting(1) == 1


def test_messages_of_a_recorded_batch_are_dropped_and_known() -> None:
    """A continued run doesn't send them again."""
    waiting = pool()
    for number in range(3):
        waiting.add(0, message(number))
    ids = [message(1).ingress.message_id, message(9).ingress.message_id]
    assert numbers(waiting.drop(0, ids, [NOW + MINUTE] * 2)) == [1]
    assert not waiting.add(0, message(9))
    assert numbers(waiting.take(0, 1 << 30)) == [0, 2]


@pytest.mark.parametrize("place", [0, 1])
def test_a_call_goes_to_the_subnet_of_its_canister(place: int) -> None:
    """First and last id of the range belong to it."""
    for receiver in (SUBNETS[place].range_start, SUBNETS[place].range_end):
        found, ingress = pool().open(signed(receiver), None, NOW, 0)
        assert (found, ingress.receiver, ingress.sender) == (place, receiver, ALICE.principal)


def test_a_management_call_goes_where_its_effective_canister_is() -> None:
    """Without one it goes to the subnet that the caller of `open` names."""
    raw = signed(MANAGEMENT_CANISTER)
    place, ingress = pool().open(raw, SUBNETS[1].range_start, NOW, 0)
    assert (place, ingress.effective_canister_id) == (1, SUBNETS[1].range_start)
    assert pool().open(raw, None, NOW, 0)[0] == 0


def test_refused_envelopes_say_why() -> None:
    """Unknown canister, too large, expired, too far in the future, signature of something else."""
    here = SUBNETS[0].range_start
    outside = Principal.canister(5 << 20)
    with pytest.raises(EnvelopeError, match=f"canister {outside} is in no subnet's range"):
        pool().open(signed(outside), None, NOW, 0)
    with pytest.raises(EnvelopeError, match=r"the envelope has \d+ bytes; at most 10000 are allowed"):
        pool().open(signed(here, arg=bytes(10_000)), None, NOW, 0)
    for expiry in (NOW - 1, NOW + 20 * MINUTE):
        with pytest.raises(EnvelopeError, match="Invalid request expiry: "):
            pool().open(signed(here, expiry=expiry), None, NOW, 0)
        assert pool(any_expiry=True).open(signed(here, expiry=expiry), None, NOW, 0)[0] == 0
    spoiled = signed(here, arg=b"aaaaaaaa").replace(b"aaaaaaaa", b"aaaaaaab")
    with pytest.raises(EnvelopeError, match="Invalid signature"):
        pool().open(spoiled, None, NOW, 0)
