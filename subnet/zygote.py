"""The zygote: a warm parent that forks every other process of a network and ends them together.

Plumbing. It has imported what its children need but uses no ZeroMQ context, no wasmtime and no thread, so forking it is safe at
any time. Whoever dies, nothing is left: children die with the zygote (parent-death signal), sandboxes with their node, all with
the coordinator, and the zygote with its owner. Run as `python -m subnet.zygote SOCKET_DIR`; the launcher is `subnet.launch`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ic_types import wire
from ic_types.errors import WireError
from sandbox.launch_protocol import Spawned, SpawnRefused, SpawnSandbox
from subnet.process_tools import claim_folder, describe_status, flush_output, set_title
from subnet.zygote_children import (
    COORDINATOR_KINDS,
    Child,
    exec_node,
    find_entry,
    live_and_die,
    node_name,
    parse_sandbox_title,
    run_exec_node,
    title_of,
)
from subnet.zygote_protocol import (
    CONFIG_FILE,
    MAX_PACKET_BYTES,
    ZYGOTE_SOCKET,
    ChildEnded,
    ChildProcess,
    Children,
    KillChild,
    ListChildren,
    SpawnNode,
    Started,
    ZygoteConfig,
)

_QUICK_DEATH_SECONDS = 2.0
_MAX_QUICK_DEATHS = 10


@dataclass(slots=True)
class _Peer:
    """A connected child."""

    pid: int
    connection: socket.socket


class Zygote:
    """Forks, reaps and ends the processes of one network."""

    def __init__(self, folder: Path, config: ZygoteConfig) -> None:
        self.folder = folder
        self.config = config
        self.pid = os.getpid()
        self.children: dict[int, Child] = {}
        self.peers: dict[int, _Peer] = {}
        self.coordinator_pid = 0
        self.exit_code: int | None = None
        self.helper_deaths: dict[str, list[float]] = {}
        """When the compiler and the gateway ended, lately."""
        self.http = socket.socket(fileno=config.listener_fd) if config.listener_fd >= 0 else None
        self.selector = selectors.DefaultSelector()
        self.wakeup, wakeup_end = socket.socketpair()
        self.own: list[socket.socket] = [self.wakeup, wakeup_end]
        for end in self.own:
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _no_op)
        signal.signal(signal.SIGTERM, self._on_terminate)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.own.append(self.listener)
        self.listener.bind(str(folder / ZYGOTE_SOCKET))
        self.listener.listen(256)
        self.selector.register(self.wakeup, selectors.EVENT_READ, self._on_wakeup)
        self.selector.register(self.listener, selectors.EVENT_READ, self._on_connect)
        self.owner_fd = -1
        if config.owner_pid:
            self.owner_fd = os.pidfd_open(config.owner_pid)
            self.selector.register(self.owner_fd, selectors.EVENT_READ, self._on_owner_ended)
            if os.getppid() != config.owner_pid:
                self.exit_code = 1

    # --- life

    def run(self) -> int:
        """Start coordinator and compiler and serve until the coordinator ends; returns its exit code."""
        try:
            self._start_compiler()
            self.coordinator_pid = self._fork(
                "coordinator", "", lambda: find_entry(self.config.coordinator_entry)(self.config.coordinator_config)
            )
            self.config = replace(self.config, coordinator_config=b"")  # it may hold large modules
            self._start_gateway()
            while self.exit_code is None:
                for key, _ in self.selector.select():
                    key.data(key.fileobj)
        finally:
            self._end_all()
        return self.exit_code or 0

    def _end_all(self) -> None:
        for pid in self.children:
            _kill(pid)
        for pid in list(self.children):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            del self.children[pid]
        shutil.rmtree(self.folder, ignore_errors=True)

    def _on_terminate(self, *_: object) -> None:
        self.exit_code = 1

    def _on_owner_ended(self, _: object) -> None:
        self.exit_code = 1

    # --- connections

    def _on_wakeup(self, _: object) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.wakeup.recv(4096):
                pass
        self._reap()

    def _on_connect(self, _: object) -> None:
        connection, _address = self.listener.accept()
        pid = int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
        child = self.children.get(pid)
        if child is None or child.kind not in ("coordinator", "node"):
            connection.close()
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_PACKET_BYTES)
        self.peers[connection.fileno()] = _Peer(pid, connection)
        self.selector.register(connection, selectors.EVENT_READ, self._on_packet)

    def _on_packet(self, connection: socket.socket) -> None:
        peer = self.peers[connection.fileno()]
        try:
            packet, fds, _flags, _address = socket.recv_fds(connection, MAX_PACKET_BYTES, 4)
        except OSError:
            packet, fds = b"", []
        try:
            if not packet:
                self._disconnect(peer)
                return
            self._serve(peer, packet, fds)
        except WireError as error:
            print(f"zygote: packet of {self._name(peer.pid)} refused: {error}", file=sys.stderr)
            self._disconnect(peer)
        finally:
            for fd in fds:
                os.close(fd)

    def _disconnect(self, peer: _Peer) -> None:
        self.selector.unregister(peer.connection)
        del self.peers[peer.connection.fileno()]
        peer.connection.close()

    def _name(self, pid: int) -> str:
        child = self.children.get(pid)
        return title_of(child.kind, child.name) if child else f"process {pid}"

    def _serve(self, peer: _Peer, packet: bytes, fds: list[int]) -> None:
        request = wire.decode(packet, SpawnSandbox, SpawnNode, KillChild, ListChildren)
        if isinstance(request, SpawnSandbox):
            self._spawn_sandbox(peer, request, fds)
            return
        if peer.pid != self.coordinator_pid:
            raise WireError(f"{type(request).__name__} is the coordinator's to send")
        match request:
            case SpawnNode():
                pid = self._spawn_node(request)
                self._send(peer, Started(pid=pid, name=node_name(request.config)))
            case KillChild():
                if request.pid in self.children:
                    _kill(request.pid)
            case ListChildren():
                self._send(peer, Children(processes=self._processes()))

    def _processes(self) -> tuple[ChildProcess, ...]:
        found = [ChildProcess(pid=self.pid, kind="zygote", name="zygote", owner_pid=0)]
        for pid, child in sorted(self.children.items()):
            found.append(ChildProcess(pid=pid, kind=child.kind, name=child.name, owner_pid=child.owner_pid))
        return tuple(found)

    def _send(self, peer: _Peer, reply: object) -> None:
        with contextlib.suppress(OSError):  # a dying child is reaped by its signal
            peer.connection.send(wire.encode(reply))

    # --- children

    def _start_compiler(self) -> None:
        entry, endpoint, cache = self.config.compiler_entry, self.config.compiler_endpoint, self.config.cache_dir
        if entry:
            self._fork("compiler", "", lambda: find_entry(entry)(endpoint, cache))

    def _start_gateway(self) -> None:
        entry, config, listener = self.config.gateway_entry, self.config.gateway_config, self.http
        if entry and listener is not None:
            self._fork("gateway", "", lambda: find_entry(entry)(config, listener))

    def _spawn_node(self, request: SpawnNode) -> int:
        config, entry, seed = request.config, self.config.node_entry, request.hash_seed
        if seed is None:
            return self._fork("node", node_name(config), lambda: find_entry(entry)(config))
        return self._fork("node", node_name(config), lambda: exec_node(entry, config, self.folder, seed, self.pid))

    def _spawn_sandbox(self, peer: _Peer, request: SpawnSandbox, fds: list[int]) -> None:
        if len(fds) != 1:
            raise WireError(f"a sandbox is started with one descriptor, not {len(fds)}")
        kind, name = parse_sandbox_title(request.title)
        run = find_entry(self.config.sandbox_entry)
        try:
            pid = self._fork(
                kind,
                name,
                lambda: run(request.endpoint, request.identity, socket.socket(fileno=os.dup(fds[0])), request.title),
                peer.pid,
            )
        except OSError as error:
            self._send(peer, SpawnRefused(reason=f"no process can be forked: {error.strerror}"))
            return
        self._send(peer, Spawned(pid=pid))

    def _fork(self, kind: str, name: str, run: Callable[[], Any], owner_pid: int = 0) -> int:
        flush_output()
        pid = os.fork()
        if pid == 0:
            live_and_die(title_of(kind, name), self.pid, lambda: self._close_all(keep_http=kind == "gateway"), run)
        self.children[pid] = Child(kind, name, owner_pid)
        return pid

    def _close_all(self, *, keep_http: bool = False) -> None:
        """In a child: close what is the zygote's, so that a connection ends with the process it belongs to."""
        self.selector.close()
        if self.http is not None and not keep_http:
            self.http.close()
        for one in self.own:
            one.close()
        for peer in self.peers.values():
            peer.connection.close()
        if self.owner_fd >= 0:
            os.close(self.owner_fd)

    def _reap(self) -> None:
        while self.children:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.pop(pid, None)
            if child is not None:
                self._on_child_ended(pid, child, os.waitstatus_to_exitcode(raw))

    def _on_child_ended(self, pid: int, child: Child, status: int) -> None:
        if child.kind == "coordinator":
            if status:
                print(f"zygote: the coordinator ended ({describe_status(status)})", file=sys.stderr)
            self.exit_code = status if status >= 0 else 1
            return
        if child.kind == "node":
            for other, sandbox in self.children.items():
                if sandbox.owner_pid == pid:
                    _kill(other)
        if child.kind in ("compiler", "gateway") and self.exit_code is None:
            self._restart(child.kind, status)
        if child.kind in COORDINATOR_KINDS:
            notice = ChildEnded(pid=pid, kind=child.kind, name=child.name, status=status)
            for peer in self.peers.values():
                if peer.pid == self.coordinator_pid:
                    self._send(peer, notice)

    def _restart(self, kind: str, status: int) -> None:
        now = time.monotonic()
        deaths = [at for at in self.helper_deaths.get(kind, []) if now - at < _QUICK_DEATH_SECONDS] + [now]
        self.helper_deaths[kind] = deaths
        if len(deaths) > _MAX_QUICK_DEATHS:
            print(f"zygote: the {kind} keeps ending ({describe_status(status)}), so the network ends", file=sys.stderr)
            self.exit_code = 1
            return
        if kind == "compiler":
            self._start_compiler()
        else:
            self._start_gateway()


def _no_op(*_: object) -> None:
    """A handler must exist for the wakeup descriptor to be written."""


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _warm_up(config: ZygoteConfig) -> None:
    # What sandboxes use comes first, so that it lies close together: of each page that they touch they get a copy of their own.
    entries = (config.sandbox_entry, config.coordinator_entry, config.node_entry, config.compiler_entry, config.gateway_entry)
    for entry in entries:
        if entry:
            importlib.import_module(entry.partition(":")[0])
    wire.prepare()
    gc.collect()
    gc.freeze()


def main(arguments: list[str]) -> int:
    """Entry of `python -m subnet.zygote`."""
    if arguments and arguments[0] == "--node":
        return run_exec_node(arguments[1], Path(arguments[2]), int(arguments[3]))
    folder = Path(arguments[0])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    claim_folder(folder)
    config = wire.decode((folder / CONFIG_FILE).read_bytes(), ZygoteConfig)
    (folder / CONFIG_FILE).unlink()
    set_title("icsim zygote")
    try:
        _warm_up(config)
        return Zygote(folder, config).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
