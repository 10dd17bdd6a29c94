"""Starting a network: socket folder, zygote, and the first answer of its coordinator.

Plumbing. Used by the CLI, the Python API and tests. The zygote is started by exec, so callers may have threads and sockets.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

from ic_types import wire
from ic_types.errors import BadInput, DivergenceError, NetworkError
from subnet.control import ControlClient
from subnet.network_config import CoordinatorConfig, GatewayConfig
from subnet.process_tools import describe_status, make_socket_folder, start_time
from subnet.zygote_protocol import CONFIG_FILE, ZygoteConfig

ROOT = Path(__file__).resolve().parents[1]
_STOP_SECONDS = 20.0
_KEPT_OUTPUT = 4000
_FULL_BYTES = 1 << 16
_BACKLOG = 2048
USUAL_PORT = 4943
"""Where tools look for a network on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """What runs in the processes, as `module:function`; tests put in their own."""

    coordinator: str = "subnet.coordinator.main:run_encoded"
    node: str = "subnet.node.main:run_node"
    sandbox: str = "sandbox.main:run_sandbox"
    compiler: str = "sandbox.compiler:run"
    gateway: str = "subnet.gateway.main:run_gateway"


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a network serves HTTP."""

    bind: str = "127.0.0.1"
    port: int | None = None
    """0: one that is free; None: the usual one, or one that is free if it isn't."""

    def open(self) -> socket.socket:
        """The listening socket. Raises: BadInput when the address isn't free or isn't this machine's."""
        if self.port is None:
            with contextlib.suppress(BadInput):
                return replace(self, port=USUAL_PORT).open()
            return replace(self, port=0).open()
        family = socket.AF_INET6 if ":" in self.bind else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((self.bind, self.port))
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            listener.close()
            remedy = "choose another --port (0 for any that is free)" if self.port else "choose another --bind"
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise BadInput(f"HTTP can't be served at {self.bind} port {self.port}: {why}; {remedy}") from error
        return listener

    def url(self, listener: socket.socket) -> str:
        """What clients on this machine use."""
        port = listener.getsockname()[1]
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.bind, f"[{self.bind}]" if ":" in self.bind else self.bind)
        return f"http://{host}:{port}"


class RunningNetwork:
    """A network started by this process; as a context manager it ends with the block."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], output: IO[bytes], *, background: bool) -> None:
        self.folder = folder
        self.process = process
        self.background = background
        self._output = output
        self._client: ControlClient | None = None

    def __enter__(self) -> RunningNetwork:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def client(self) -> ControlClient:
        """A connection to it.

        Raises: NetworkError when it has ended.
        """
        if self._client is None:
            self.check()
            self._client = ControlClient(self.folder)
        return self._client

    def check(self) -> None:
        """Raises: NetworkError when the network has ended by itself."""
        status = self.process.poll()
        if status is not None:
            raise self._failure(status)

    def call_failed(self, error: NetworkError) -> NetworkError:
        """The better explanation of a failed call, if the network is gone."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._failure(self.process.wait(timeout=1.0))
        return error

    def _failure(self, status: int) -> NetworkError:
        said = self.output().strip()
        tail = f":\n{said}" if said else ""
        if said and isinstance(self._output.name, str):
            tail = f": {said.splitlines()[-1]} (more in {self._output.name})"
        elif isinstance(self._output.name, str) and shutil.disk_usage(self._output.name).free < _FULL_BYTES:
            tail = f": the disk is full where {self._output.name} is"
        shutil.rmtree(self.folder, ignore_errors=True)
        return NetworkError(f"the network ended by itself ({describe_status(status)}){tail}")

    def output(self) -> str:
        """The last of what its processes wrote to stderr."""
        self._output.flush()
        end = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, end - _KEPT_OUTPUT))
        return self._output.read().decode(errors="replace")

    def stop(self, reason: str = "asked to") -> int:
        """End it, cleanly if it still answers; returns the exit code. Nothing is left afterwards."""
        if self.process.poll() is None:
            with contextlib.suppress(NetworkError):
                self.client.stop(reason)
        if self._client is not None:
            self._client.close()
            self._client = None
        status = self._reap()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._output.close()
        return status

    def _reap(self) -> int:
        for sign in (None, signal.SIGTERM, signal.SIGKILL):
            if sign is not None:
                self.process.send_signal(sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(timeout=_STOP_SECONDS)
        raise AssertionError("a killed process ends")


def start_network(
    config: CoordinatorConfig, *, background: bool = False, entries: Entries | None = None, http: Listening | None = None
) -> RunningNetwork:
    """Start a network; its socket folder is made here and put into the configuration.

    A network in the background outlives this process; others end with it, whatever happens to it. With `http` it has a
    gateway there.

    Raises: BadInput when folders can't be made, or the address isn't free.
    """
    entries = entries or Entries()
    listener = None if http is None else http.open()
    folder = make_socket_folder()
    try:
        log_dir = _make_log_dir(config)
        url = "" if listener is None or http is None else http.url(listener)
        config = replace(config, socket_dir=str(folder), url=url)
        zygote = ZygoteConfig(
            owner_pid=0 if background else os.getpid(),
            coordinator_config=wire.encode(config),
            cache_dir=config.cache_dir,
            compiler_endpoint=compiler_endpoint(folder),
            log_dir=log_dir,
            coordinator_entry=entries.coordinator,
            node_entry=entries.node,
            sandbox_entry=entries.sandbox,
            compiler_entry=entries.compiler,
            gateway_entry="" if listener is None else entries.gateway,
            gateway_config=wire.encode(_gateway_config(config, log_dir)),
            listener_fd=-1 if listener is None else listener.fileno(),
        )
        (folder / CONFIG_FILE).write_bytes(wire.encode(zygote))
        output: IO[bytes] = open(Path(log_dir) / "stderr.txt", "w+b") if log_dir else tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "subnet.zygote", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=() if listener is None else (listener.fileno(),),
            start_new_session=background,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if listener is not None:
            listener.close()
    network = RunningNetwork(folder, process, output, background=background)
    _await_claim(network)
    return network


def _gateway_config(config: CoordinatorConfig, log_dir: str | None) -> GatewayConfig:
    log_path = None if log_dir is None else str(Path(log_dir) / "gateway.jsonl")
    return GatewayConfig(socket_dir=config.socket_dir, url=config.url, log_path=log_path)


def compiler_endpoint(folder: Path) -> str:
    """Where nodes reach the compiler."""
    return f"ipc://{folder / 'compiler'}"


def _make_log_dir(config: CoordinatorConfig) -> str | None:
    if config.out_dir is None:
        return None
    path = Path(config.out_dir) / "logs"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"run directory {config.out_dir} can't be made: {error.strerror}; choose another with --out") from error
    return str(path)


def _await_claim(network: RunningNetwork) -> None:
    """Until the zygote owns the folder, which it does first of all: from then on nothing depends on this process."""
    config = network.folder / CONFIG_FILE
    while config.exists() and network.process.poll() is None:
        time.sleep(0.002)


__all__ = ["DivergenceError", "Entries", "Listening", "RunningNetwork", "compiler_endpoint", "start_network", "start_time"]
