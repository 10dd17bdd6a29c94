"""A coordinator with fake nodes, all in one process: events are delivered one by one, in any order a test likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ic_types import wire
from ic_types.envelope import build_call
from ic_types.principal import Principal
from ic_types.units import TimeNs
from subnet import control_protocol as cp
from subnet.coordinator.assembly import assemble
from subnet.coordinator.control_desk import ControlDesk
from subnet.coordinator.coordinator import Coordinator
from subnet.coordinator.network_plan import NetworkPlan
from subnet.coordinator.ports import ReplyAddress
from subnet.identities import identity_named
from subnet.network_config import CoordinatorConfig
from subnet.protocol import NodeConfig, NodeReady, RoundResult, Stop
from tests.support.fake_node import REQUESTS, FakeReplica

CLIENT = ReplyAddress(b"client", b"cookie")


@dataclass(slots=True, eq=False)
class FakeProcess:
    """A node process of the test."""

    pid: int
    replica: FakeReplica
    inbox: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> bytes:
        """Of its socket."""
        return b"node-%d" % self.pid


@dataclass(slots=True, eq=False)
class FakePorts:
    """Ports of a network in one process."""

    processes: dict[int, FakeProcess] = field(default_factory=dict)
    replies: list[tuple[ReplyAddress, object]] = field(default_factory=list)
    ended: list[tuple[int, str, int]] = field(default_factory=list)
    pending: list[Callable[[Coordinator], None]] = field(default_factory=list)
    time: float = 0.0
    wall: int = 0
    most_busy: int = 0
    """Most nodes that had a batch to execute at once."""
    hold: set[str] = field(default_factory=set)
    """Names of nodes whose new processes never get ready."""

    def send_node(self, address: bytes, raw: bytes) -> None:
        """Into the node's inbox."""
        process = self.processes.get(int(address.split(b"-")[1]))
        if process is not None:
            process.inbox.append(raw)
        busy = [one for one in self.processes.values() if any(b"Batch" in waiting[:10] for waiting in one.inbox)]
        self.most_busy = max(self.most_busy, len(busy))

    def reply(self, address: ReplyAddress, message: object) -> None:
        """Kept for the test."""
        self.replies.append((address, wire.decode(wire.encode(message))))

    def spawn_node(self, config: NodeConfig, hash_seed: int | None) -> None:
        """A new process, which introduces itself later."""
        del hash_seed
        pid = 1000 + len(self.processes) + len(self.ended)
        process = self.processes[pid] = FakeProcess(pid, FakeReplica(config))
        name = f"{config.subnet_name}/{config.node_index}"
        self.pending.append(lambda coordinator: coordinator.keeper.started(name, pid))
        if name not in self.hold:
            ready = NodeReady(subnet=config.subnet, node_index=config.node_index, pid=pid, height=0)
            self.pending.append(lambda coordinator: coordinator.on_node_message(process.address, ready))

    def kill(self, pid: int) -> None:
        """Its end is told later."""
        process = self.processes.pop(pid)
        name = f"{process.replica.config.subnet_name}/{process.replica.config.node_index}"
        self.ended.append((pid, name, -9))
        self.pending.append(lambda coordinator: coordinator.on_ended(pid, "node", name, -9))

    def list_children(self) -> None:
        """Nobody to ask."""

    def clock(self) -> float:
        """Moves when the test says so."""
        return self.time

    def wall_ns(self) -> int:
        """As the clock, unless the test sets it."""
        return self.wall or int(self.time * 1e9)


class FakeNetwork:
    """A coordinator, its nodes, and the test as its client."""

    def __init__(
        self, plan: NetworkPlan, folder: Path, *, choose: Callable[[int], int] | None = None, wall: int = 0, **settings: object
    ) -> None:
        self.ports = FakePorts(wall=wall)
        self.choose = choose or (lambda _count: 0)
        self.plan = plan
        (folder / "sockets").mkdir(parents=True, exist_ok=True)
        values = {"out_dir": str(folder / "run"), "socket_dir": str(folder / "sockets"), "cache_dir": str(folder), **settings}
        config = CoordinatorConfig(name="test", plan=wire.encode(plan), **values)  # type: ignore[arg-type]
        if config.out_dir:
            Path(config.out_dir).mkdir(exist_ok=True)
        self.coordinator = assemble(config, self.ports)
        self.desk = ControlDesk(self.coordinator)
        self.results: list[RoundResult] = []
        self.coordinator.start()

    def settle(self) -> None:
        """Deliver events until there are none; `choose` picks the next out of so many."""
        while self.step():
            pass

    def step(self) -> bool:
        """Deliver one event; False when there is none."""
        events: list[Callable[[], None]] = [self._pending] if self.ports.pending else []
        events += [self._deliver(process) for process in self.ports.processes.values() if process.inbox]
        if events:
            events[self.choose(len(events))]()
        return bool(events)

    def _pending(self) -> None:
        self.ports.pending.pop(0)(self.coordinator)

    def _deliver(self, process: FakeProcess) -> Callable[[], None]:
        def deliver() -> None:
            request = wire.decode(process.inbox.pop(0), *REQUESTS)
            if isinstance(request, Stop):
                return
            answer = process.replica.answer(request)
            if process.replica.leave:
                self.ports.kill(process.pid)
                return
            if answer is None:
                return
            if isinstance(answer, RoundResult):
                self.results.append(answer)
            self.coordinator.on_node_message(process.address, wire.decode(wire.encode(answer)))

        return deliver

    def ask(self, request: object) -> object:
        """Send a client's request and deliver everything; the answer."""
        before = len(self.ports.replies)
        self.desk.serve(CLIENT, request)  # type: ignore[arg-type]
        self.settle()
        new = self.ports.replies[before:]
        return new[-1][1] if new else None

    def rounds(self, count: int) -> object:
        """Make so many rounds."""
        return self.ask(cp.Advance(rounds=count))

    def envelope(self, method: str, arg: bytes = b"", *, subnet: int = 0, nonce: bytes = b"") -> bytes:
        """A call of alice's to the first canister id of a subnet."""
        first = self.coordinator.network.subnets[subnet].record.range_start
        return build_call(
            identity_named(self.plan.identity_seed, "alice"),
            canister_id=Principal(first),
            method=method,
            arg=arg,
            expiry=TimeNs(self.coordinator.network.now + 60_000_000_000),
            nonce=nonce,
        )

    def submit(self, method: str, arg: bytes = b"", *, subnet: int = 0, nonce: bytes = b"") -> bytes:
        """Submit such a call; the message id."""
        reply = self.ask(cp.Submit(envelopes=(self.envelope(method, arg, subnet=subnet, nonce=nonce),)))
        assert isinstance(reply, cp.Submitted)
        assert not reply.results[0].problem, reply.results[0].problem
        return reply.results[0].message_id

    def hashes(self) -> list[tuple[bytes, ...]]:
        """State hashes of all subnets, height by height."""
        self.coordinator.journal.commit()
        found = []
        for height in range(1, self.coordinator.network.height + 1):
            agreed = [self.coordinator.journal.agreed(place, height) for place in range(len(self.plan.subnets))]
            found.append(tuple(one.state_hash for one in agreed if one is not None))
        return found

    def close(self) -> None:
        """As a coordinator that ends."""
        self.coordinator.journal.close()
        self.coordinator.events.close()
