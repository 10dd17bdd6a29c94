"""What became of ingress messages: the statuses that `request_status` certifies.

Rule module. Spec: abstract behaviour, "Respond to user request", "Update call request clean up"; interface spec, "Request
status". A terminal status is forgotten 300 s after it was reached, and not before the message's expiry; its payload earlier if
all payloads together take too many bytes (status `done`).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from enum import Enum

from ic_types.fast_init import fast_init
from ic_types.principal import CanisterId, Principal
from ic_types.reject import Reject
from ic_types.units import NS_PER_SECOND, NumBytes, TimeNs
from message_routing.queue_state import Canonical

GIB = 1 << 30
NEVER = TimeNs(0)


class IngressState(Enum):
    """The status texts of the interface spec."""

    RECEIVED = "received"
    PROCESSING = "processing"
    REPLIED = "replied"
    REJECTED = "rejected"
    DONE = "done"


TERMINAL = (IngressState.REPLIED, IngressState.REJECTED, IngressState.DONE)


@fast_init
@dataclass(frozen=True, slots=True, kw_only=True)
class IngressStatus:
    """Status of one message."""

    state: IngressState
    receiver: CanisterId
    sender: Principal
    """Only this user may read it."""
    time: TimeNs
    """Batch time at which this status was set."""
    expiry: TimeNs = NEVER
    """Until then the message could come again, so it isn't forgotten."""
    effective_id: Principal | None = None
    """Where a management call came in: it is read there again; None if it doesn't matter."""
    reply: bytes = b""
    reject: Reject | None = None

    @property
    def is_terminal(self) -> bool:
        """Nothing follows but being forgotten."""
        return self.state in TERMINAL

    def payload_bytes(self) -> int:
        """Bytes that count against the history's limit."""
        return len(self.reply) + (0 if self.reject is None else len(self.reject.message.encode()))

    def to_canonical(self) -> Canonical:
        """The hashable form."""
        why: Canonical = ()
        if self.reject is not None:
            error = self.reject.error_code
            why = (int(self.reject.code), 0 if error is None else int(error), self.reject.message)
        return (self.state.value, self.receiver, self.sender, self.time, self.expiry, self.effective_id, self.reply, why)


class IngressHistory:
    """Statuses by message id, with what is due to be forgotten."""

    __slots__ = ("_changed", "_due", "_payloads", "bytes_limit", "payload_bytes", "statuses", "ttl_ns")

    def __init__(self, *, bytes_limit: int = 4 * GIB, ttl_s: int = 300) -> None:
        """`bytes_limit`: for all payloads together; `ttl_s`: how long a terminal status stays."""
        self.statuses: dict[bytes, IngressStatus] = {}
        self.bytes_limit = bytes_limit
        self.ttl_ns = ttl_s * NS_PER_SECOND
        self.payload_bytes = NumBytes(0)
        self._due: list[tuple[TimeNs, bytes]] = []  # terminal statuses by the time they are forgotten
        self._payloads: list[tuple[TimeNs, bytes]] = []  # the same, while they hold a payload
        self._changed: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self.statuses)

    def get(self, message_id: bytes) -> IngressStatus | None:
        """The status, or None if the message is unknown."""
        return self.statuses.get(message_id)

    def set(self, message_id: bytes, status: IngressStatus) -> None:
        """Move a message to this status; what the spec's state machine doesn't allow is a bug."""
        known = self.statuses.get(message_id)
        if known is not None:
            allowed = not known.is_terminal and status.state is not IngressState.RECEIVED
            assert allowed, f"ingress {message_id.hex()} can't go from {known.state.value} to {status.state.value}"
        assert status.state is not IngressState.DONE, "only the history itself forgets payloads"
        self.statuses[message_id] = status
        self._changed[message_id] = None
        if status.is_terminal:
            due = max(TimeNs(status.time + self.ttl_ns), status.expiry)
            heapq.heappush(self._due, (due, message_id))
            size = status.payload_bytes()
            if size:
                heapq.heappush(self._payloads, (due, message_id))
                self.payload_bytes = NumBytes(self.payload_bytes + size)
                self._forget_payloads()

    def received(
        self,
        message_id: bytes,
        receiver: CanisterId,
        sender: Principal,
        now: TimeNs,
        expiry: TimeNs = NEVER,
        effective_id: Principal | None = None,
    ) -> None:
        """The message was inducted."""
        status = IngressStatus(
            state=IngressState.RECEIVED,
            receiver=receiver,
            sender=sender,
            time=now,
            expiry=expiry,
            effective_id=effective_id,
        )
        self.set(message_id, status)

    def processing(self, message_id: bytes, now: TimeNs) -> None:
        """Its execution started; it may go on for long."""
        known = self.statuses[message_id]
        self.set(message_id, replace(known, state=IngressState.PROCESSING, time=now))

    def replied(self, message_id: bytes, reply: bytes, now: TimeNs) -> None:
        """The canister replied."""
        known = self.statuses[message_id]
        self.set(message_id, replace(known, state=IngressState.REPLIED, time=now, reply=reply))

    def rejected(self, message_id: bytes, why: Reject, now: TimeNs) -> None:
        """A message that was inducted failed or was rejected."""
        known = self.statuses[message_id]
        self.set(message_id, replace(known, state=IngressState.REJECTED, time=now, reject=why))

    def prune(self, now: TimeNs) -> None:
        """Forget terminal statuses whose time is over; costs their number."""
        while self._due and self._due[0][0] < now:
            _, message_id = heapq.heappop(self._due)
            status = self.statuses.pop(message_id)
            self.payload_bytes = NumBytes(self.payload_bytes - status.payload_bytes())
            self._changed[message_id] = None
        while self._payloads and self._payloads[0][0] < now:
            heapq.heappop(self._payloads)

    def next_due(self) -> TimeNs | None:
        """When the next terminal status is forgotten, or None."""
        return self._due[0][0] if self._due else None

    def take_changes(self) -> list[tuple[bytes, IngressStatus | None]]:
        """What changed since the last call, ascending by message id; None for a forgotten message."""
        changed = sorted(self._changed)
        self._changed.clear()
        return [(message_id, self.statuses.get(message_id)) for message_id in changed]

    def _forget_payloads(self) -> None:
        """Drop the payloads of the oldest terminal statuses until the rest is within the limit."""
        while self.payload_bytes > self.bytes_limit and self._payloads:
            _, message_id = heapq.heappop(self._payloads)
            old = self.statuses[message_id]
            self.payload_bytes = NumBytes(self.payload_bytes - old.payload_bytes())
            self.statuses[message_id] = replace(old, state=IngressState.DONE, reply=b"", reject=None)
            self._changed[message_id] = None

    def check_invariants(self) -> None:
        """Payload bytes are the sum over all statuses; every terminal status is due exactly once."""
        assert self.payload_bytes == sum(status.payload_bytes() for status in self.statuses.values())
        terminal = sorted(message_id for message_id, status in self.statuses.items() if status.is_terminal)
        assert sorted(message_id for _, message_id in self._due) == terminal
