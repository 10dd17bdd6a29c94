"""A node without canisters: it chains hashes over its batches, sends stream messages and answers every ingress message.

For tests of the coordinator and of the processes around nodes. Methods of ingress messages that it obeys: `send` puts a message
into the stream to the next subnet; `diverge`, `die` and `wrong_share` concern the node whose index is the argument's first byte
(`die` only once per height: it leaves a mark in the socket folder).
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from dataclasses import dataclass, field
from pathlib import Path

import cbor2
import zmq

from ic_types import bls, wire
from ic_types.messages import Ingress
from ic_types.principal import SubnetId
from sandbox.launch_protocol import LAUNCH_SOCKET, MAX_PACKET_BYTES, Spawned, SpawnSandbox
from subnet.process_tools import set_title
from subnet.protocol import (
    Acceptance,
    AcceptanceRequest,
    Batch,
    CertifiedSlice,
    Certify,
    Delegate,
    Delegated,
    IngressOutcome,
    Inspect,
    Inspected,
    NodeConfig,
    NodeReady,
    QueryReply,
    QueryRequest,
    ReadState,
    Refusal,
    RoundResult,
    Slices,
    StateRead,
    Stop,
    StreamHead,
    SubnetDelegation,
)
from subnet.random_tape import tape_message

REJECTED = b"reject this"
"""Argument of messages that are rejected; all others get their argument back."""
UNWELCOME = b"refuse this"
"""Argument of messages that aren't accepted into the pool."""
UNCERTIFIED = "Certified state is not available yet."
REQUESTS = (Batch, Certify, QueryRequest, AcceptanceRequest, Inspect, Stop, Delegate, ReadState)


@dataclass(slots=True)
class FakeStream:
    """Positions alone; the messages are their indices."""

    begin: int = 0
    end: int = 0
    signals_end: int = 0


@dataclass(slots=True)
class FakeReplica:
    """State and answers of one node."""

    config: NodeConfig
    height: int = 0
    chain: bytes = bytes(32)
    pages: dict[bytes, bytes] = field(default_factory=dict)
    streams: dict[SubnetId, FakeStream] = field(default_factory=dict)
    certified_height: int = 0
    wrong_share: bool = False
    sandboxes: list[socket.socket] = field(default_factory=list)
    leave: bool = False
    """Set when it is to die."""
    batches: list[Batch] = field(default_factory=list)

    def answer(self, request: Batch | Certify | QueryRequest | AcceptanceRequest | Inspect | Delegate | ReadState) -> object:
        """What a node answers; None for nothing."""
        match request:
            case Batch():
                return self._execute(request)
            case Certify():
                self.certified_height = max(self.certified_height, request.height)
                if not request.slices:
                    return None
                return Slices(height=request.height, slices=tuple(self._slice(request, k) for k in range(len(request.slices))))
            case QueryRequest() if not self.certified_height:
                text = f"{UNCERTIFIED} Please try again..."
                return QueryReply(
                    cookie=request.cookie, status="rejected", reject_code=2, reject_message=text, error_code="IC0208"
                )
            case QueryRequest():
                reply = request.arg + bytes([self.config.node_index])
                return QueryReply(cookie=request.cookie, status="replied", reply=reply, height=self.certified_height)
            case AcceptanceRequest():
                no = Refusal(reject_code=4, reject_message="not welcome", error_code="IC0406")
                refusals = tuple(no if call.arg == UNWELCOME else None for call in request.calls)
                index = self.config.node_index
                return Acceptance(cookie=request.cookie, refusals=refusals, node_index=index, height=self.certified_height)
            case Delegate():
                others = [one.subnet_id for one in self.config.network.subnets[1:]]
                made = tuple(SubnetDelegation(subnet=one, plain=b"p", flat=b"f", shards=((b"", b"s"),)) for one in others)
                return Delegated(cookie=request.cookie, time_ns=self.batches[-1].time_ns, subnets=made)
            case ReadState() if not self.certified_height:
                return StateRead(cookie=request.cookie, http_status=503, problem=UNCERTIFIED)
            case ReadState():
                return StateRead(
                    cookie=request.cookie, subnet=self.config.subnet, certificate=b"certificate at %d" % self.certified_height
                )
            case Inspect():
                return Inspected(cookie=request.cookie, body=cbor2.dumps(self._inspect(request)))

    def _inspect(self, request: Inspect) -> object:
        if request.what == "canisters":
            return [{"id": bytes(self.config.network.subnets[0].range_start), "messages": self.height, "cycles": 1 << 70}]
        levels: dict[bytes, object] = {b"pages": dict(self.pages), b"metadata": {b"height": self.height}}
        here: object = levels
        for label in request.path:
            assert isinstance(here, dict)
            here = here[label]
        if isinstance(here, dict):
            return {label: hashlib.sha256(repr(value).encode()).digest() for label, value in here.items()}
        return here

    def _execute(self, batch: Batch) -> RoundResult:
        assert batch.height == self.height + 1, f"batch {batch.height} at height {self.height}"
        self.height = batch.height
        self.batches.append(batch)
        for one in batch.slices:
            self._induct(one)
        for message in batch.ingress:
            self._obey(message.method, message.arg)
        self.chain = hashlib.sha256(self.chain + wire.encode(batch)).digest()
        state = hashlib.sha256(self.chain + repr(sorted(self.pages.items())).encode()).digest()
        root = hashlib.sha256(b"root" + self.chain).digest()
        secret = self.config.key_share
        share = bls.sign(secret, bls.with_domain(bls.STATE_ROOT, root + (b"x" if self.wrong_share else b"")))
        return RoundResult(
            height=batch.height,
            state_hash=state,
            root_hash=root,
            certification_share=share,
            tape_share=bls.sign(secret, tape_message(batch.height + 1, batch.randomness)),
            heads=tuple(
                StreamHead(peer=peer, begin=s.begin, end=s.end, signals_end=s.signals_end)
                for peer, s in sorted(self.streams.items())
            ),
            outcomes=tuple(_outcome(message) for message in batch.ingress),
            has_work=False,
            next_due_ns=0,
            stats={"messages": len(batch.ingress)},
            stage_ns={"execute": 1},
        )

    def _obey(self, method: str, arg: bytes) -> None:
        mine = bool(arg) and arg[0] == self.config.node_index
        if method == "send":
            ids = [record.subnet_id for record in self.config.network.subnets]
            peer = ids[(ids.index(self.config.subnet) + 1) % len(ids)]
            self.streams.setdefault(peer, FakeStream()).end += 1
        elif method in ("diverge", "wrong_share", "die") and not mine:
            return
        elif method == "diverge":
            self.pages[b"page 7"] = b"damaged"
        elif method == "wrong_share":
            self.wrong_share = True
        elif method == "sandbox":
            self.sandboxes.append(spawn_sandbox(self.config, arg.decode()))
        elif method == "die":
            mark = Path(self.config.socket_dir) / f"died-{self.config.node_index}-{self.height}"
            self.leave = not mark.exists()
            mark.touch()
        else:
            self.pages[method.encode()] = arg

    def _induct(self, one: CertifiedSlice) -> None:
        begin, end, signals_end = cbor2.loads(one.witness)
        stream = self.streams.setdefault(one.source, FakeStream())
        assert begin == stream.signals_end, f"slice from {begin}, expected {stream.signals_end}"
        stream.signals_end = end
        stream.begin = max(stream.begin, signals_end)

    def _slice(self, request: Certify, place: int) -> CertifiedSlice | None:
        wanted = request.slices[place]
        stream = self.streams.get(wanted.peer)
        if stream is None:
            return None
        witness = cbor2.dumps([wanted.message_begin, stream.end, stream.signals_end])
        return CertifiedSlice(source=self.config.subnet, witness=witness, certificate_signature=request.signature)


def _outcome(message: Ingress) -> IngressOutcome:
    if message.arg == REJECTED:
        return IngressOutcome(message_id=message.message_id, status="rejected", reject_code=5, reject_message="as asked")
    return IngressOutcome(message_id=message.message_id, status="replied", reply=message.arg)


def spawn_sandbox(config: NodeConfig, name: str) -> socket.socket:
    """Ask the zygote for a sandbox; our end of the socket pair that it holds."""
    ours, theirs = socket.socketpair()
    title = f"icsim sandbox {config.subnet_name}/{config.node_index} {name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(f"{config.socket_dir}/{LAUNCH_SOCKET}")
        request = SpawnSandbox(title=title, endpoint="ipc://nowhere", identity=b"x")
        socket.send_fds(line, [wire.encode(request)], [theirs.fileno()])
        spawned = wire.decode(line.recv(MAX_PACKET_BYTES), Spawned)
    theirs.close()
    assert spawned.pid > 0
    return ours


def run_sandbox(_endpoint: str, _identity: bytes, channel: socket.socket, title: str) -> None:
    """Entry of a sandbox that does nothing until its node is gone."""
    set_title(title)
    channel.recv(1)


def run_node(config: NodeConfig) -> int:
    """Entry of a fake node process."""
    replica = FakeReplica(config)
    context = zmq.Context()
    channel = context.socket(zmq.DEALER)
    channel.setsockopt(zmq.LINGER, 500)
    channel.connect(config.coordinator_endpoint)
    ready = NodeReady(subnet=config.subnet, node_index=config.node_index, pid=os.getpid(), height=0)
    channel.send(wire.encode(ready))
    while True:
        request = wire.decode(channel.recv(), *REQUESTS)
        if isinstance(request, Stop):
            channel.close()
            context.term()
            return 0
        answer = replica.answer(request)
        if replica.leave:
            os._exit(7)
        if answer is not None:
            channel.send(wire.encode(answer))


def run_compiler(_endpoint: str, _cache_dir: str) -> None:
    """Entry of a compiler that nobody asks."""
    while True:
        signal.pause()
