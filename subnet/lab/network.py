"""Networks as Python objects: what `icsim.network(...)` gives.

Plumbing, over the control socket. Time is virtual: it passes only when rounds are made, by calls and by `tick`, `advance` and
`run_until_idle`. The same script with the same seed gives the same state hashes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.errors import BadInput, NetworkError
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal, SubnetId
from subnet.control_protocol import Advanced, NodeStatus, RequestStatus, SubnetStatus
from subnet.lab import renaming
from subnet.lab.calls import DEFAULT_ROUNDS, Caller, CallRejected, Target, Who, reply_of
from subnet.lab.canister import Canister, LogEntry, PendingCall
from subnet.lab.interface import Interface
from subnet.lab.invariants import CyclesAudit, Invariant, audit_cycles, check_all
from subnet.lab.outcalls import Outcalls
from subnet.lab.run_dir import RunFile, release
from subnet.launch import RunningNetwork
from subnet.management import candid_types

DEFAULT_CYCLES = 100_000_000_000_000
MAX_IDLE_ROUNDS = 10_000


@dataclass(frozen=True, slots=True)
class Subnet:
    """One subnet of a running network."""

    network: Network
    name: str
    id: SubnetId
    type: str
    nodes: int

    def status(self) -> SubnetStatus:
        """Height, state hash, nodes and counters after its last round."""
        return next(one for one in self.network.caller.client.status().subnets if one.subnet_id == self.id)

    @property
    def height(self) -> int:
        """Its last round."""
        return self.status().height

    @property
    def state_hash(self) -> str:
        """What all of its nodes agree on after that round."""
        return self.status().state_hash.hex()


class Canisters(Mapping[str, Canister]):
    """Canisters by name."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._found: dict[str, Canister] = {}

    def __getitem__(self, name: str) -> Canister:
        if name not in self._found:
            if name not in self:
                listed = ", ".join(list(self)[:20]) or "none"
                raise KeyError(f"there is no canister {name!r}; canisters: {listed}")
            self._found[name] = self._network.canister(name)
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return any(name == one for one in self)

    def __iter__(self) -> Iterator[str]:
        return (one.name for one in self._network.caller.description.canisters)

    def __len__(self) -> int:
        return len(self._network.caller.description.canisters)


class Network:
    """A running network; made by `icsim.network(...)`, ended by `close()` or the end of its `with` block."""

    def __init__(self, running: RunningNetwork, about: RunFile, out: Path | None) -> None:
        self._running = running
        self._out = out
        self._sent = 0
        self.caller = Caller(running.client, about, self._nonce)
        """Names, signing and sending; for what has no method here."""
        self.height = running.client.status().height
        """The last round."""
        self.canisters = Canisters(self)
        """The topology's canisters by name."""
        registry = self.caller.description.registry
        self.subnets: dict[str, Subnet] = {
            one.name: Subnet(self, one.name, one.subnet_id, one.subnet_type, len(one.nodes)) for one in registry.subnets
        }
        """Subnets by name, the root first."""
        self.outcalls = Outcalls(self)
        """Who answers HTTPS outcalls of canisters."""
        self.identities: dict[str, Principal] = {
            name: self.caller.identity(name).principal for name in self.caller.description.identities
        }
        """Principals of the topology's identities by name."""

    def _nonce(self) -> bytes:
        """Counted, so that a script that runs twice sends the same messages."""
        self._sent += 1
        return f"lab {self._sent}".encode()

    def close(self) -> None:
        """End the network and all of its processes."""
        self._running.stop("closed")
        if self._out is not None:
            release(self._out)

    # --- time

    @property
    def time(self) -> int:
        """Network time: nanoseconds since 1970 of the last round."""
        if self.caller.description.live:
            return self.caller.client.status().time_ns
        return self.caller.now_ns

    @property
    def url(self) -> str:
        """Where agents and browsers reach it; empty without `http=True`."""
        return self.caller.description.url

    def tick(self, rounds: int = 1) -> int:
        """Make rounds; gives the height."""
        if rounds < 1:
            raise BadInput(f"tick({rounds}): at least one round")
        return self._advance(rounds=rounds).height

    def advance(self, seconds: float) -> int:
        """Make rounds until so much network time has passed, so that every timer due by then has fired; gives the height."""
        if seconds <= 0:
            raise BadInput(f"advance({seconds}): time goes forward only")
        if self.caller.description.live:
            raise BadInput("advance: a live network's time is that of the wall clock; leave `live=True` out to move it")
        interval = self.caller.description.block_interval_ns
        return self.tick(-(-round(seconds * 1e9) // interval))

    def run_until_idle(self, max_rounds: int = MAX_IDLE_ROUNDS) -> int:
        """Make rounds until no work is left; gives the height. Timers that are due later don't count as work.

        Raises: NetworkError when there is still work after so many rounds.
        """
        found = self._advance(until_idle=True, rounds=max_rounds)
        if not found.idle:
            raise NetworkError(f"there is still work after {max_rounds} rounds")
        return found.height

    def advance_until_answered(self, message_ids: Sequence[bytes], max_rounds: int = DEFAULT_ROUNDS) -> None:
        """Make rounds until all of these messages are answered, or so many have passed."""
        self._advance(until_answered=tuple(message_ids), rounds=max_rounds)

    def wait_all(self, calls: Iterable[PendingCall], max_rounds: int = DEFAULT_ROUNDS) -> list[Any]:
        """Make rounds until all of these calls are answered; gives their answers.

        Raises: CallRejected for the first that was rejected; NetworkError when one isn't answered.
        """
        listed = list(calls)
        self.advance_until_answered([one.message_id for one in listed], max_rounds)
        return [one.result() for one in listed]

    def _advance(self, **goals: Any) -> Advanced:
        try:
            return self.note(self.caller.client.advance(**goals))
        except NetworkError as error:
            raise self.explained(error) from None

    def note(self, found: Advanced) -> Advanced:
        """Take note of how far the network is."""
        self.height = found.height
        return self.caller.advanced(found)

    def explained(self, error: NetworkError) -> NetworkError:
        """A failure, with what the processes said if the network is gone."""
        gone = self._running.process.poll() is not None or "has ended" in str(error)
        return self._running.call_failed(error) if gone else error

    # --- calls

    def canister(self, which: str | CanisterId) -> Canister:
        """A canister by name, id or id as text.

        Raises: BadInput when it is neither.
        """
        return Canister(self, self.caller.target(which))

    def request(self, message_id: bytes) -> RequestStatus:
        """What became of a message."""
        return self.caller.client.requests(message_id)[0]

    def raw_call(
        self,
        canister_id: str | CanisterId,
        method: str,
        arg: bytes = b"",
        *,
        as_: Who = None,
        effective: CanisterId | None = None,
        max_rounds: int = DEFAULT_ROUNDS,
    ) -> bytes:
        """Call any canister with bytes and wait for the answer's bytes; `effective` sends a management call to a subnet.

        Raises: CallRejected; NetworkError without an answer in `max_rounds`.
        """
        identity, target = self.caller.identity(as_), self.caller.canister_id(canister_id)
        message_id = self.caller.submit(identity, target, method, arg, effective)
        self.advance_until_answered((message_id,), max_rounds)
        return reply_of(self.request(message_id), method, max_rounds)

    def create_canister(
        self,
        subnet: str | None = None,
        *,
        cycles: int = DEFAULT_CYCLES,
        as_: Who = None,
        **settings: Any,
    ) -> Canister:
        """Create an empty canister, controlled by `as_`; by default on the first application subnet, or else on the root.

        Settings are those of the management canister, such as `freezing_threshold=0`.
        """
        chosen = next((one for one in self.subnets.values() if one.type != "system"), next(iter(self.subnets.values())))
        record = self.caller.subnet(subnet or chosen.name)
        argument = {"amount": cycles, "settings": settings or None}
        raw = self.raw_call(
            MANAGEMENT_CANISTER,
            "provisional_create_canister_with_cycles",
            encode([candid_types.PROVISIONAL_CREATE], [argument]),
            as_=as_,
            effective=record.range_start,
        )
        canister_id: CanisterId = decode(raw, [candid_types.CANISTER_ID])[0]["canister_id"]
        return Canister(self, Target(canister_id.to_text(), canister_id, Interface(None, canister_id.to_text())))

    def rename_canister(self, canister: str | CanisterId, new_id: str | CanisterId, *, as_: Who = None) -> Canister:
        """Give a canister the id of a canister of another subnet, which goes; made in the next round.

        This is what the migration orchestrator does, so it must be among the controllers of both: `icsim.ORCHESTRATOR`.
        Raises: CallRejected when it may not be done.
        """
        made = renaming.rename(self.caller, self.caller.canister_id(canister), self.caller.canister_id(new_id), as_)
        self.caller.client.rename_canister(made)
        self.caller.moved[made.new_canister_id] = made.host
        self.tick()
        return Canister(self, self.caller.target(made.new_canister_id))

    # --- looking in

    def state_hashes(self) -> dict[str, str]:
        """The state hash of every subnet after its last round, hexadecimal."""
        return {one.name: one.state_hash.hex() for one in self.caller.client.status().subnets}

    def logs(self, canister: str | CanisterId) -> list[LogEntry]:
        """The log of a canister."""
        return self.canister(canister).logs()

    def cycles_audit(self) -> CyclesAudit:
        """All cycles, by flows and by places; `holds` says whether none appeared or vanished."""
        return audit_cycles(self.caller.client, self.caller.description)

    def invariants(self) -> list[Invariant]:
        """Every invariant that a run checks at its end; calls may still be open."""
        summary = self.summary()
        return check_all(self.caller.client, self.caller.description, summary, self.caller.about.invariants, may_be_open=True)

    def summary(self) -> dict[str, Any]:
        """The run in figures, as summary.json has them."""
        return self.caller.client.summary()

    def processes(self) -> dict[str, int]:
        """Process ids by title, such as `node app-1/2`."""
        listed = self.caller.client.processes().processes
        return {one.kind if one.name in ("", one.kind) else f"{one.kind} {one.name}": one.pid for one in listed}

    # --- faults

    def kill_node(self, node: str, timeout_s: float = 60.0) -> None:
        """End a node such as `app-1/2` with SIGKILL; it is started again and catches up while the others go on.

        Raises: BadInput when there is no such node; NetworkError when too few nodes of its subnet are left to go on.
        """
        name, _, number = node.rpartition("/")
        record = self.caller.subnet(name or node)
        if not number.isdecimal() or not 1 <= int(number) <= len(record.nodes):
            raise BadInput(
                f"{node!r} is no node; subnet {record.name} has {record.name}/1 to {record.name}/{len(record.nodes)}"
            )
        before = self._node(record.subnet_id, int(number)).restarts
        self.caller.client.kill_node(record.subnet_id, int(number))
        deadline = time.monotonic() + timeout_s
        while self._node(record.subnet_id, int(number)).restarts == before:
            if time.monotonic() > deadline:
                raise NetworkError(f"node {node} was killed, but not started again within {timeout_s} s")
            time.sleep(0.01)

    def _node(self, subnet: SubnetId, index: int) -> NodeStatus:
        found = self.caller.client.status()
        if found.problem:
            raise NetworkError(found.problem)
        status = next(one for one in found.subnets if one.subnet_id == subnet)
        return next(node for node in status.nodes if node.index == index)


__all__ = ["CallRejected", "Canister", "Network", "PendingCall", "Subnet"]
