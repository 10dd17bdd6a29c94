"""Subnets of one node whose canisters run scripts: whole rounds, from induction to streams, without any process.

State, round and rules are the real ones; only sandboxes are replaced by a `fake_executor.FakeExecutor`, and slices go from one
to another without certificates.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types import bls
from ic_types.candid import encoder
from ic_types.messages import Ingress, Request, Response
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from ic_types.reject import Reject
from ic_types.units import Cycles, StreamIndex, TimeNs
from message_routing.ingress_history import IngressState
from message_routing.queues import CanisterQueues
from scheduler.canister import Canister, Settings
from scheduler.round import RoundSummary, drive
from subnet.management.installs import InstallRuns
from subnet.management.methods import METHODS
from subnet.node import round as node_round
from subnet.node.round import RoundCounts, run_batch
from subnet.protocol import Batch, NetworkRecord, NodeConfig, SubnetRecord
from subnet.state.genesis import genesis_state
from subnet.state.invariants import check_invariants
from subnet.state.world import RoundWorld
from tests.support.fake_executor import FREE, USER, FakeExecutor, Script, fake_execution
from xnet.header import StreamHeader
from xnet.stream import Stream

GENESIS_NS = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
NOT_ON_DISK = "nothing here has a process or a file"
SHORT_SLICES = SubnetLimits(
    instructions_per_slice=100,
    instructions_per_install_slice=100,
    instructions_per_round=150,
    instructions_per_message=10_000,
    instruction_overhead_per_execution=0,
    instruction_overhead_per_canister=0,
    instruction_overhead_per_canister_finalization=0,
)
"""A slice has 100 instructions, a round one slice per core."""


@dataclass(frozen=True)
class PlainSlice:
    """A slice of a stream that nobody certified."""

    header: StreamHeader
    begin: StreamIndex
    messages: tuple[object, ...]


def registry(names: Iterable[str], system: Iterable[str]) -> NetworkRecord:
    """Subnets of one node each, with these names."""
    records = []
    for position, name in enumerate(names):
        key, _ = bls.deal(f"key of {name}".encode(), 1, 1)
        records.append(
            SubnetRecord(
                subnet_id=Principal.self_authenticating(bls.to_der(key)),
                name=name,
                subnet_type="system" if name in system else "application",
                public_key=key,
                nodes=(Principal.self_authenticating(f"{name}/1".encode()),),
                range_start=Principal.canister(position << 20),
                range_end=Principal.canister(((position + 1) << 20) - 1),
            )
        )
    return NetworkRecord(subnets=tuple(records), root=records[0].subnet_id)


class ScriptSubnet:
    """One subnet."""

    def __init__(self, network: NetworkRecord, own: SubnetRecord, limits: SubnetLimits, fees: CyclesCostSchedule) -> None:
        config = NodeConfig(
            subnet=own.subnet_id, subnet_name=own.name, node_index=1, node_id=own.nodes[0], network=network, limits=limits,
            fees=fees, genesis_time_ns=GENESIS_NS, key_share=b"", threshold=1, coordinator_endpoint=NOT_ON_DISK,
            socket_dir=NOT_ON_DISK, compiler_endpoint=NOT_ON_DISK, cache_dir=NOT_ON_DISK,
        )  # fmt: skip
        self.own = own
        self.state = genesis_state(config)
        self.executor = FakeExecutor(fees, limits)
        self.installs, self.stopping = InstallRuns(), dict[CanisterId, None]()
        self.counts = RoundCounts()
        self._sent = 0

    # --- canisters and messages

    def add(
        self, balance: int = 10**15, *, wasm64: bool = False, entry_points: Iterable[str] = (), **settings: Any
    ) -> Canister:
        """A canister of USER with code; its cycles count as minted."""
        index = self.state.next_canister_index
        self.state.next_canister_index += 1
        canister = Canister(
            canister_id=Principal.canister(index),
            settings=Settings(controllers=(USER,), **{"freezing_threshold_s": 0, **settings}),
            balance=Cycles(balance),
            created=self.state.time,
            queues=CanisterQueues(self.state.limits.queue_capacity),
            last_charged=self.state.time,
        )
        canister.execution = fake_execution(wasm64=wasm64, entry_points=entry_points)
        self.state.minted += balance
        self.state.canisters.add(canister)
        self.state.scheduler.add(canister, self.state.canisters)
        return canister

    def message(self, receiver: CanisterId, script: Script | bytes, method: str = "update", **fields: Any) -> Ingress:
        """An ingress message of USER; `fields` replace its own."""
        self._sent += 1
        arg = script if isinstance(script, bytes) else pickle.dumps(script)
        made = Ingress(
            message_id=self._sent.to_bytes(32, "big"), sender=USER, receiver=receiver, method=method, arg=arg,
            expiry=TimeNs(self.state.time + 300 * SECOND), raw_bytes=len(arg) + 200,
        )  # fmt: skip
        return replace(made, **fields)

    def manage(self, method: str, value: Any = None, **fields: Any) -> Ingress:
        """A management call of USER."""
        kind = METHODS[method].argument
        arg = encoder.encode([], []) if kind is None else encoder.encode([kind], [value])
        about = value.get("canister_id") if isinstance(value, dict) else None
        return self.message(MANAGEMENT_CANISTER, arg, method, **{"effective_canister_id": about, **fields})

    # --- rounds

    def round(self, *ingress: Ingress, seconds: float = 1, checkpoint: bool = False, slices: Any = ()) -> RoundCounts:
        """Execute the next batch, so many seconds after the last one."""
        state = self.state
        world = RoundWorld(state=state, batch_size=1, is_checkpoint=checkpoint, installs=self.installs, stopping=self.stopping)
        batch = Batch(
            height=state.height + 1,
            time_ns=state.time + int(seconds * SECOND),
            randomness=state.height.to_bytes(32, "big"),
            ingress=ingress,
            is_checkpoint=checkpoint,
        )
        with patch.object(node_round, "verified_slices", lambda *_: list(slices)):
            self.counts = run_batch(world, batch, self._execute, lambda _: None)
        state.canisters.take_touched()
        state.history.take_changes()
        return self.counts

    def _execute(self, rounds: Any) -> RoundSummary:
        return drive(rounds, self.executor)

    def rounds(self, count: int, seconds: float = 1) -> None:
        """Empty batches."""
        for _ in range(count):
            self.round(seconds=seconds)

    def status(self, message: Ingress) -> str:
        """Status of a message; `unknown` if it isn't in the history."""
        known = self.state.history.get(message.message_id)
        return "unknown" if known is None else known.state.value

    def outcome(self, message: Ingress) -> bytes | Reject | None:
        """Reply bytes or reject; None while it is open, or unknown."""
        known = self.state.history.get(message.message_id)
        if known is None or not known.is_terminal:
            return None
        return known.reply if known.state is IngressState.REPLIED else known.reject

    def ask(self, receiver: CanisterId, script: Script | bytes, method: str = "update", **fields: Any) -> bytes | Reject:
        """Submit a message and run rounds until it is answered."""
        message = self.message(receiver, script, method, **fields)
        self.round(message)
        for _ in range(20):
            if (found := self.outcome(message)) is not None:
                return found
            self.round()
        raise AssertionError("no answer")

    # --- what is there

    def canister(self, canister_id: CanisterId) -> Canister:
        """The record."""
        return self.state.canisters[canister_id]

    def stream_to(self, other: ScriptSubnet) -> Stream:
        """What goes to another subnet, or to itself."""
        return self.state.streams.get(other.own.subnet_id) or Stream()

    def slice_for(self, other: ScriptSubnet) -> tuple[Principal, PlainSlice]:
        """All that the other hasn't got yet."""
        stream = self.stream_to(other)
        expected = other.stream_to(self).signals_end
        messages = tuple(stream.messages)[expected - stream.begin :]
        return self.own.subnet_id, PlainSlice(stream.header(), expected, messages)


class ScriptNetwork:
    """Several subnets; the test says when they exchange slices."""

    def __init__(
        self, *names: str, limits: SubnetLimits | None = None, fees: CyclesCostSchedule = FREE, system: Iterable[str] = ()
    ) -> None:
        self.record = registry(names, system)
        found = limits or SubnetLimits()
        self.subnets = {record.name: ScriptSubnet(self.record, record, found, fees) for record in self.record.subnets}

    def __getitem__(self, name: str) -> ScriptSubnet:
        return self.subnets[name]

    def round(self, *, seconds: float = 1, **ingress: Iterable[Ingress]) -> None:
        """One round of every subnet with everything that others have for it, and these messages."""
        subnets = list(self.subnets.values())
        slices = {one.own.name: [other.slice_for(one) for other in subnets if other is not one] for one in subnets}
        for name, subnet in self.subnets.items():
            subnet.round(*ingress.get(name, ()), seconds=seconds, slices=slices[name])

    def rounds(self, count: int) -> None:
        """Rounds without new messages."""
        for _ in range(count):
            self.round()

    def check(self) -> None:
        """All invariants hold, and no cycle is missing."""
        breaches = check_invariants([subnet.state for subnet in self.subnets.values()])
        assert not breaches, "\n".join(one.text() for one in breaches)


def script_subnet(**options: Any) -> ScriptSubnet:
    """A subnet alone in its network."""
    return ScriptNetwork("app", **options)["app"]


__all__ = ["Request", "Response", "ScriptNetwork", "ScriptSubnet", "script_subnet"]
