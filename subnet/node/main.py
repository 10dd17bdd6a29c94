"""The replica node process.

Plumbing. Owns the sockets: a DEALER to the coordinator, the controller's towards sandboxes and compiler. Work comes in as
requests of `subnet.protocol`; queries and the check of users' calls are served between the waits of a round, all else strictly
in order.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import TypeAlias

import setproctitle
import structlog
import zmq

from configs import log_setup
from ic_types import trace, wire
from ic_types.errors import IcsimError
from ic_types.trace import TraceEvent
from sandbox import artefacts, kernel
from sandbox.controller import SandboxController
from sandbox.launcher import ZygoteLauncher
from subnet.node import certificates, inspection
from subnet.node.driver import Driver
from subnet.node.faults import Crash
from subnet.node.replica import Replica
from subnet.protocol import (
    AcceptanceRequest,
    Batch,
    Certify,
    Delegate,
    Inspect,
    NodeConfig,
    NodeFailure,
    NodeReady,
    QueryRequest,
    ReadState,
    StateRead,
    Stop,
)

PR_SET_PDEATHSIG = 1
REQUESTS = (Batch, Certify, QueryRequest, AcceptanceRequest, ReadState, Delegate, Inspect, Stop)
IDLE_POLL_MS = 1000
GIVE_UP_POLLS = 10
"""A certification that hasn't come by then never will."""
Question: TypeAlias = QueryRequest | AcceptanceRequest
"""Answered on the last certified height, beside rounds."""
KEPT_BYTES = 8 << 20
"""Freed memory that malloc keeps: answers of sandboxes come in large buffers."""

log = structlog.get_logger("node")


class NodeProcess:
    """Sockets, replica and the loop between them."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 500)
        self.socket.connect(config.coordinator_endpoint)
        name = f"{config.subnet_name}/{config.node_index}"
        endpoint = f"ipc://{config.socket_dir}/node-{os.getpid()}"
        self.controller = SandboxController(
            context=self.context,
            endpoint=endpoint,
            launcher=ZygoteLauncher(config.socket_dir),
            artefact_loader=lambda artefact: artefacts.load(config.cache_dir, artefact)[1],
            environment_for=lambda canister_id: self.replica.environment_for(canister_id),
            compiler_endpoint=config.compiler_endpoint,
            max_sandboxes=config.max_sandboxes,
            batch_size=config.batch_size,
            max_in_flight=config.max_in_flight,
            name=name,
            reuse_instances=config.reuse_instances,
        )
        self.driver = Driver(self.controller, config.limits)
        self.driver.on_wait = self.look_for_requests
        self.replica = Replica(config, self.driver)
        self.later: deque[object] = deque()
        self.uncertified: list[Question | ReadState | Delegate] = []
        """Requests that wait until the newest state is certified."""
        self.running = True
        self.idle_polls = 0
        self.trace: list[TraceEvent] = []
        self.watching: list[trace.Sink] = [fault.see for fault in self.replica.faults if isinstance(fault, Crash)]
        if config.trace:
            self.watching.append(self.trace.append)
        if self.watching:
            trace.set_sink(self.tell)

    def run(self) -> None:
        """Serve until the coordinator says stop or is gone."""
        config = self.config
        ready = NodeReady(subnet=config.subnet, node_index=config.node_index, pid=os.getpid(), height=self.replica.state.height)
        self.send(ready)
        while self.running:
            while self.later and self.running:
                self.handle(self.later.popleft())
            if not self.running:
                break
            if self.driver.busy:
                self.driver.step(5)
                self.receive(0)
            elif self.receive(IDLE_POLL_MS):
                self.idle_polls = 0
            else:
                self.idle_polls += 1
                if self.idle_polls == GIVE_UP_POLLS:
                    self.serve_uncertified()  # the coordinator has stopped making rounds
        self.controller.close()
        self.context.destroy(linger=500)

    def tell(self, event: TraceEvent) -> None:
        """Something happened that a trace tells of."""
        for see in self.watching:
            see(event)

    def look_for_requests(self) -> None:
        """Between the waits of a round."""
        self.receive(0)

    def receive(self, timeout_ms: int) -> bool:
        """Take in what has arrived: queries start at once, everything else waits for its turn. False if nothing has."""
        if not self.socket.poll(timeout_ms):
            return False
        while True:
            try:
                raw = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return True
            request = wire.decode(raw, *REQUESTS)
            if isinstance(request, QueryRequest) and not self.replica.may_certify_data:
                self.uncertified.append(request)  # it may ask for the certificate of its data
            elif isinstance(request, QueryRequest | AcceptanceRequest) and any(isinstance(one, Certify) for one in self.later):
                self.uncertified.append(request)  # who asks knows of the height that is certified next
            elif isinstance(request, QueryRequest | AcceptanceRequest):
                self.ask(request)
            else:
                self.later.append(request)

    def handle(self, request: object) -> None:
        """Carry out one request."""
        match request:
            case Batch():
                result = self.replica.process(request, self.take_trace)
                self.send(result)
            case Certify():
                slices = self.replica.certify(request)
                if request.slices:
                    self.send(slices)
                self.serve_uncertified()
            case ReadState() | Delegate():
                if self.replica.is_certified:
                    self.certify_part(request)
                else:
                    self.uncertified.append(request)
            case Inspect():
                self.send(inspection.inspect(self.replica, self.controller, request))
            case Stop():
                self.running = False
            case _:
                raise AssertionError(f"unexpected request {request}")

    def ask(self, request: Question) -> None:
        """Start a query, or the check of users' calls; the answer is sent when it ends."""
        replica = self.replica
        rule = replica.query(request) if isinstance(request, QueryRequest) else replica.accept(request)
        self.driver.start_query(rule, self.send)

    def serve_uncertified(self) -> None:
        """Carry out what has waited for a certification."""
        waiting, self.uncertified = self.uncertified, []
        for request in waiting:
            if isinstance(request, QueryRequest | AcceptanceRequest):
                self.ask(request)
            else:
                self.certify_part(request)

    def certify_part(self, request: ReadState | Delegate) -> None:
        """Answer with a certificate, or that there is none."""
        replica = self.replica
        if isinstance(request, Delegate):
            self.send(certificates.delegate(replica.state, replica.certified.signature, request))
        elif not replica.is_certified:
            self.send(StateRead(cookie=request.cookie, http_status=503, problem="Certified state is not available yet."))
        else:
            self.send(certificates.read_state(replica.state, replica.certified.signature, request))

    def take_trace(self) -> tuple[tuple[str, bytes, str], ...]:
        """Trace events since the last call."""
        events = tuple((event.step, event.subject, event.detail) for event in self.trace)
        self.trace.clear()
        return events

    def send(self, message: object) -> None:
        """Send a reply to the coordinator."""
        self.socket.send(wire.encode(message))


def run_node(config: NodeConfig) -> None:
    """Entry of a forked or exec'ed node process; returns when the node has stopped."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    title = f"icsim node {config.subnet_name}/{config.node_index}"
    setproctitle.setproctitle(title)
    log_setup.configure(title, Path(config.log_path) if config.log_path else None)
    kernel.keep_freed_memory(KEPT_BYTES)
    process = NodeProcess(config)
    try:
        process.run()
    except IcsimError as error:
        # As a crashed replica would: it stops and says why; a local failure never becomes a state change.
        log.critical("node.failed", reason=str(error), height=process.replica.state.height)
        process.send(NodeFailure(height=process.replica.state.height, reason=str(error)))
        process.controller.close()
        process.context.destroy(linger=500)
        sys.exit(1)
