"""The ingress pool: calls of users, verified once, wait here for a batch in the order in which they came.

Rule module. Spec: interface spec, "Request: Call" and "Authentication"; nodes trust a batch for signature and expiry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from configs.limits import SubnetLimits
from ic_types import trace
from ic_types.errors import EnvelopeError, EnvelopeTooLarge
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from ic_types.units import NS_PER_SECOND
from subnet.authentication.requests import check_expiry, open_call
from subnet.protocol import SubnetRecord

MAX_INSTALL_BYTES = 102 << 20
"""Of an install_code envelope: the largest module and its argument."""
MAX_BATCH_INGRESS_BYTES = 4 << 20
"""Of one batch; the replica's block payload."""
_NEVER = 1 << 64


@dataclass(frozen=True, slots=True)
class PooledMessage:
    """A verified call that waits for a batch."""

    ingress: Ingress
    envelope: bytes
    arrival_height: int
    """Last finished height when it came."""


class IngressPool:
    """Calls per subnet; subnets are numbered in topology order."""

    def __init__(
        self,
        subnets: Sequence[SubnetRecord],
        limits: Sequence[SubnetLimits],
        *,
        root_key: bytes = b"",
        any_expiry: bool = False,
    ) -> None:
        self._limits = limits
        self._root_key = root_key
        self._any_expiry = any_expiry
        self._ranges = [(_index(subnet.range_start), _index(subnet.range_end)) for subnet in subnets]
        self.moved: dict[CanisterId, int] = {}
        """Subnets of canisters that were renamed."""
        self._waiting: list[deque[PooledMessage]] = [deque() for _ in subnets]
        self._earliest = [_NEVER] * len(subnets)
        """No message that waits expires before this."""
        self._expiries: dict[bytes, int] = {}
        """Of every message that is waiting or was taken and hasn't expired: none enters twice."""
        self._taken: deque[bytes] = deque()

    def __len__(self) -> int:
        return sum(map(len, self._waiting))

    def waiting(self, subnet: int) -> int:
        """How many messages wait for this subnet."""
        return len(self._waiting[subnet])

    def subnet_of(self, canister_id: CanisterId) -> int | None:
        """The subnet whose range holds this canister id, or that its canister was moved to."""
        if canister_id in self.moved:
            return self.moved[canister_id]
        index = canister_id.canister_index()
        if index is None:
            return None
        return next((place for place, (low, high) in enumerate(self._ranges) if low <= index <= high), None)

    def move(self, canister_id: CanisterId, subnet: int) -> None:
        """A canister of this subnet got this id."""
        self.moved[canister_id] = subnet

    def open(self, raw: bytes, effective: CanisterId | None, now: int, default_subnet: int) -> tuple[int, Ingress]:
        """Decode and verify a signed call; returns the subnet it belongs to.

        Raises: EnvelopeError when form, signature, expiry, size or destination is wrong.
        """
        message = open_call(raw, effective, now=now, root_key=self._root_key)
        trace.emit("subnet.coordinator.ingress_pool.open", message.message_id, message.method)
        target = effective if message.receiver == MANAGEMENT_CANISTER else message.receiver
        subnet = default_subnet if target is None else self.subnet_of(target)
        if subnet is None:
            raise EnvelopeError(f"canister {target} is in no subnet's range; `icsim status` lists the canisters")
        self._check(raw, message, subnet, now)
        return subnet, message

    def open_at(self, raw: bytes, effective: Principal, subnet: int, now: int) -> Ingress:
        """As `open`, for a call that came for this canister or subnet."""
        message = open_call(raw, effective, now=now, root_key=self._root_key)
        trace.emit("subnet.coordinator.ingress_pool.open", message.message_id, message.method)
        self._check(raw, message, subnet, now)
        return message

    def _check(self, raw: bytes, message: Ingress, subnet: int, now: int) -> None:
        limits = self._limits[subnet]
        # Not in the spec: large modules are installed whole here; the real network takes them in chunks.
        install = message.receiver == MANAGEMENT_CANISTER and message.method == "install_code"
        most = MAX_INSTALL_BYTES if install else limits.max_payload
        if len(raw) > most:
            raise EnvelopeTooLarge(f"the envelope has {len(raw)} bytes; at most {most} are allowed")
        if not self._any_expiry:
            check_expiry(message.expiry, now, limits.ingress_ttl_s * NS_PER_SECOND)

    def knows(self, message_id: bytes) -> bool:
        """Whether this message waits, or was taken and hasn't expired."""
        return message_id in self._expiries

    def add(self, subnet: int, message: PooledMessage) -> bool:
        """Let it wait for a batch; False when it is known already, which is no error: sending again is safe."""
        if self.knows(message.ingress.message_id):
            return False
        self._expiries[message.ingress.message_id] = message.ingress.expiry
        self._waiting[subnet].append(message)
        self._earliest[subnet] = min(self._earliest[subnet], message.ingress.expiry)
        return True

    def expire(self, subnet: int, time_ns: int) -> list[PooledMessage]:
        """Take out the messages that expired while they waited; done every round, so that it depends on nothing else."""
        if self._any_expiry or self._earliest[subnet] >= time_ns:
            return []
        queue = self._waiting[subnet]
        expired = [one for one in queue if one.ingress.expiry < time_ns]
        queue = self._waiting[subnet] = deque(one for one in queue if one.ingress.expiry >= time_ns)
        self._earliest[subnet] = min((one.ingress.expiry for one in queue), default=_NEVER)
        self._taken.extend(one.ingress.message_id for one in expired)
        return expired

    def take(self, subnet: int, max_bytes: int) -> list[PooledMessage]:
        """The next batch's messages in order of arrival."""
        queue, limits = self._waiting[subnet], self._limits[subnet]
        chosen: list[PooledMessage] = []
        left = min(max_bytes, MAX_BATCH_INGRESS_BYTES)
        while queue and len(chosen) < limits.max_ingress_per_round:
            left -= queue[0].ingress.raw_bytes
            if left < 0 and chosen:
                break
            chosen.append(queue.popleft())
        self._taken.extend(one.ingress.message_id for one in chosen)
        return chosen

    def drop(self, subnet: int, message_ids: Sequence[bytes], expiries: Sequence[int]) -> list[PooledMessage]:
        """Messages that a recorded batch took; they are known from now on. Returns those that waited here."""
        gone = set(message_ids)
        self._expiries.update(zip(message_ids, expiries, strict=True))
        self._taken.extend(message_ids)
        queue = self._waiting[subnet]
        found = [one for one in queue if one.ingress.message_id in gone]
        if found:
            self._waiting[subnet] = deque(one for one in queue if one.ingress.message_id not in gone)
        return found

    def forget_expired(self, time_ns: int) -> list[bytes]:
        """Forget taken messages that can't come again, since they would be refused as expired."""
        forgotten = []
        while self._taken and self._expiries.get(self._taken[0], 0) < time_ns:
            message_id = self._taken.popleft()
            if self._expiries.pop(message_id, None) is not None:
                forgotten.append(message_id)
        return forgotten


def _index(canister_id: CanisterId) -> int:
    index = canister_id.canister_index()
    assert index is not None, f"{canister_id} is not a canister id"
    return index
