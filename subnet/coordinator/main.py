"""The coordinator process.

Plumbing. One thread, one loop: nodes' messages first, then the zygote's, then a few of the clients'.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
import zmq

from configs import log_setup
from ic_types import trace, wire
from ic_types.errors import IcsimError, NetworkError, WireError
from subnet import control_protocol as cp
from subnet.coordinator.assembly import assemble
from subnet.coordinator.control_desk import REQUESTS, ControlDesk
from subnet.coordinator.coordinator import Coordinator
from subnet.coordinator.summary import summarise
from subnet.coordinator.transport import Transport
from subnet.coordinator.web import LiveWeb
from subnet.network_config import CoordinatorConfig
from subnet.zygote_protocol import ChildEnded, Children, Started

SUMMARY_FILE = "summary.json"
OUTCALLS_FILE = "outcalls.jsonl"
_TICK_MS = 500
_CLIENT_REQUESTS_PER_LOOP = 8
_STOP_SECONDS = 5.0
log = structlog.get_logger()


def run_encoded(raw: bytes) -> int:
    """Entry for the zygote: the configuration as it was encoded by the launcher."""
    config: CoordinatorConfig = wire.decode(raw, CoordinatorConfig)
    return run_coordinator(config)


def run_coordinator(config: CoordinatorConfig) -> int:
    """Serve until told to stop; returns the exit code."""
    log_setup.configure("icsim coordinator", f"{config.out_dir}/logs/coordinator.jsonl" if config.out_dir else None)
    transport = Transport.open(Path(config.socket_dir), config.nodes_endpoint)
    try:
        coordinator = assemble(config, transport)
    except IcsimError as error:
        return _refuse_everything(transport, error)
    if config.trace:
        trace.set_sink(lambda event: coordinator.events.trace(coordinator.network.height + 1, event))
    process = CoordinatorProcess(coordinator, ControlDesk(coordinator), transport)
    try:
        return process.run()
    finally:
        coordinator.journal.close()
        coordinator.events.close()
        transport.close()


def _refuse_everything(transport: Transport, error: IcsimError) -> int:
    """The network can't be: tell the first client why, then end."""
    refused = cp.Refused(message=str(error), exit_code=error.exit_code)
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        if transport.clients.poll(_TICK_MS):
            found = transport.next_from_clients()
            if found is not None:
                transport.reply(found[0], refused)
                break
    transport.close()
    return error.exit_code


@dataclass(slots=True)
class CoordinatorProcess:
    """The loop."""

    coordinator: Coordinator
    desk: ControlDesk
    transport: Transport
    stop_by: float | None = None

    def run(self) -> int:
        """Serve until told to stop."""
        transport, stages = self.transport, self.coordinator.stages
        poller = zmq.Poller()
        for source in (transport.nodes, transport.clients):
            poller.register(source, zmq.POLLIN)
        web = self.coordinator.outcalls.web = LiveWeb(self._recorded_outcalls())
        for file in (transport.zygote.fileno(), web.fileno()):
            poller.register(file, zmq.POLLIN)
        self.coordinator.start()
        next_tick = time.monotonic()
        while not self._is_over():
            with stages("wait"):
                ready = dict(poller.poll(self._patience_ms()))
            try:
                if transport.nodes in ready:
                    self._serve_nodes()
                if transport.zygote.fileno() in ready:
                    self._serve_zygote()
                if web.fileno() in ready:
                    web.deliver()
                if transport.clients in ready:
                    self._serve_clients()
            except NetworkError as error:
                self.coordinator.fail(str(error), error.exit_code)
            if self.coordinator.wait_ns() == 0:
                self.coordinator.advance()
            if time.monotonic() >= next_tick:
                self.coordinator.on_tick()
                next_tick = time.monotonic() + _TICK_MS / 1000
        web.close()
        if self.desk.stop_asked is not None:
            transport.reply(self.desk.stop_asked, cp.Done())
        return 0

    def _patience_ms(self) -> int:
        """How long to wait for messages: until the next tick, or the next round of a live network."""
        wait = self.coordinator.wait_ns()
        most = _TICK_MS if self.stop_by is None else 20
        return most if wait is None else min(most, -(-wait // 1_000_000))

    def _recorded_outcalls(self) -> Path | None:
        out_dir = self.coordinator.config.out_dir
        return Path(out_dir) / OUTCALLS_FILE if out_dir else None

    def _is_over(self) -> bool:
        if not self.coordinator.stopping:
            return False
        if self.stop_by is None:
            self.stop_by = time.monotonic() + _STOP_SECONDS
        running = any(node.pid for subnet in self.coordinator.network.subnets for node in subnet.nodes)
        return not running or time.monotonic() > self.stop_by

    def _serve_nodes(self) -> None:
        while True:
            try:
                with self.coordinator.stages("decode answers"):
                    found = self.transport.next_from_nodes()
            except WireError as error:
                log.error("coordinator.malformed_message", reason=str(error))
                continue
            if found is None:
                return
            self.coordinator.on_node_message(*found)

    def _serve_zygote(self) -> None:
        match self.transport.zygote.receive():
            case Started(pid=pid, name=name):
                self.coordinator.keeper.started(name, pid)
            case ChildEnded(pid=pid, kind=kind, name=name, status=status):
                self.coordinator.on_ended(pid, kind, name, status)
            case Children() as children:
                self.desk.children(children)

    def _serve_clients(self) -> None:
        for _ in range(_CLIENT_REQUESTS_PER_LOOP):
            found = self.transport.next_from_clients()
            if found is None:
                return
            address, raw = found
            try:
                request = wire.decode(raw, *REQUESTS)
            except WireError as error:
                self.transport.reply(address, cp.Refused(message=str(error), exit_code=2))
                continue
            if isinstance(request, cp.StopNetwork):
                self._write_summary()
            self.desk.serve(address, request)

    def _write_summary(self) -> None:
        """Best effort at the end: what is known without asking the nodes; clients that want more ask before."""
        folder = self.coordinator.config.out_dir
        if folder is None or (Path(folder) / SUMMARY_FILE).exists():
            return
        summary = summarise(self.coordinator, {})
        (Path(folder) / SUMMARY_FILE).write_text(json.dumps(summary, indent=1) + "\n")
