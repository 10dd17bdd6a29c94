"""Where a round's batches come from: made of what there is, and recorded; or taken from the journal again.

Plumbing: writes the journal. The order matters: a batch is on disk before it is handed to anyone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ic_types import wire
from ic_types.canister_rename import CanisterRename
from subnet.coordinator.batch_maker import MadeBatch, empty_batch, make_batch
from subnet.coordinator.consensus_desk import ConsensusDesk
from subnet.coordinator.driving import Driving
from subnet.coordinator.ingress_pool import IngressPool
from subnet.coordinator.journal import Journal, RecordedBatch
from subnet.coordinator.network_state import Network, Subnet
from subnet.coordinator.requests import RequestBook
from subnet.coordinator.round_clock import RoundClock
from subnet.coordinator.stage_times import StageTimes
from subnet.protocol import Batch
from subnet.random_tape import genesis_randomness


@dataclass(slots=True, eq=False)
class BatchSource:
    """Batches of all subnets, height by height."""

    network: Network
    journal: Journal
    pool: IngressPool
    book: RequestBook
    driving: Driving
    desk: ConsensusDesk
    stages: StageTimes
    replay_to: int
    """Batches up to this height come from the journal."""
    clock: RoundClock
    renames: list[CanisterRename] = field(default_factory=list)
    """For the next batches of all subnets."""

    def make(self, height: int) -> tuple[int, list[tuple[bytes, bytes]]]:
        """Time of this height's batches; for each subnet the encoded batch and its randomness.

        Raises: NetworkError when the journal can't be written.
        """
        recorded = height <= self.replay_to
        time_ns = self.time_of(height) if recorded else self.clock.next_batch_time(self.network.now)
        self._expire(height, time_ns)
        if recorded:
            raws = [self.encoded(subnet.place, height) for subnet in self.network.subnets]
            batches: list[Batch] = [wire.decode(raw, Batch) for raw in raws]
            self._follow_journal(height, batches)
        else:
            with self.stages("make batches"):
                made = [self._made(subnet, height, time_ns) for subnet in self.network.subnets]
                self.renames.clear()
                batches = [one.batch for one in made]
                raws = [wire.encode(batch) for batch in batches]
            self._record(height, time_ns, made, raws)
        for one in batches[0].renames:
            self.pool.move(one.new_canister_id, self.network.by_id[one.host])
        return time_ns, [(raw, batch.randomness) for raw, batch in zip(raws, batches, strict=True)]

    def _made(self, subnet: Subnet, height: int, time_ns: int) -> MadeBatch:
        answers = self.desk.take(subnet.place, height, time_ns)
        return make_batch(subnet, height, time_ns, self.pool, tuple(subnet.slices), answers, tuple(self.renames))

    def time_of(self, height: int) -> int:
        """Batch time of a recorded height."""
        recorded = self.journal.time(height)
        return self.network.virtual_time_at(height) if recorded is None else recorded

    def _expire(self, height: int, time_ns: int) -> None:
        for subnet in self.network.subnets:
            for message in self.pool.expire(subnet.place, time_ns):
                self.book.expire(message.ingress.message_id, height)
                self.driving.expired(message.ingress.message_id, height)

    def _record(self, height: int, time_ns: int, made: list[MadeBatch], raws: list[bytes]) -> None:
        rows = []
        for subnet, one, raw in zip(self.network.subnets, made, raws, strict=True):
            rows.append(
                RecordedBatch(None)
                if one.is_empty
                else RecordedBatch(raw, [(message.arrival_height, message.envelope) for message in one.taken])
            )
            for message in one.taken:
                self.book.processing(message.ingress.message_id, subnet.place, message.arrival_height)
        with self.stages("journal"):
            self.journal.record_round(height, rows, None if time_ns == self.network.virtual_time_at(height) else time_ns)

    def _follow_journal(self, height: int, batches: list[Batch]) -> None:
        for subnet, batch in zip(self.network.subnets, batches, strict=True):
            self.desk.follow(subnet.place, batch)
            ids = [one.message_id for one in batch.ingress]
            self.pool.drop(subnet.place, ids, [one.expiry for one in batch.ingress])
            arrivals = [at for at, _ in self.journal.envelopes(subnet.place, height)] or [height - 1] * len(ids)
            for message_id, arrival in zip(ids, arrivals, strict=True):
                self.book.processing(message_id, subnet.place, arrival)

    def encoded(self, place: int, height: int) -> bytes:
        """The batch of an earlier round, as its nodes got it."""
        raw = self.journal.batch(place, height)
        if raw is not None:
            return raw
        subnet = self.network.subnets[place]
        if height == 1:
            tape = genesis_randomness(self.network.plan.seed_bytes(), subnet.record.subnet_id)
        else:
            before = self.journal.agreed(place, height - 1)
            assert before is not None, f"height {height - 1} of subnet {subnet.plan.name} was agreed on, so it is recorded"
            tape = before.randomness
        return wire.encode(empty_batch(subnet, height, self.time_of(height), tape))
