"""What the coordinator asks of the zygote, and what the zygote tells it.

Rule module. One request is one packet of `<socket_dir>/zygote`; `Started` and `Children` answer in order, `ChildEnded` comes
by itself. Nodes use the same socket with the messages of `sandbox.launch_protocol`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from subnet.protocol import NodeConfig

ZYGOTE_SOCKET = "zygote"
"""Name of the zygote's socket in the socket folder."""
CONFIG_FILE = "zygote.cfg"
"""The ZygoteConfig that the launcher leaves in the socket folder."""
OWNER_FILE = "owner"
"""Pid and start time of the process that a socket folder lives and dies with."""
MAX_PACKET_BYTES = 1 << 20


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ZygoteConfig:
    """What the zygote is started with; entries are `module:function`."""

    owner_pid: int
    """Everything ends with this process; 0 for a network in the background."""
    coordinator_config: bytes
    """Passed on to the coordinator's entry as it is."""
    cache_dir: str
    compiler_endpoint: str
    log_dir: str | None = None
    coordinator_entry: str = "subnet.coordinator.main:run_encoded"
    node_entry: str = "subnet.node.main:run_node"
    sandbox_entry: str = "sandbox.main:run_sandbox"
    compiler_entry: str = "sandbox.compiler:run"
    gateway_entry: str = ""
    """Empty for a network without HTTP."""
    gateway_config: bytes = b""
    listener_fd: int = -1
    """The gateway's listening socket, inherited from the launcher."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnNode:
    """Start a replica node; answered by Started."""

    config: NodeConfig
    hash_seed: int | None = None
    """Start it by exec, in a fresh interpreter with this PYTHONHASHSEED."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The process runs."""

    pid: int
    name: str


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class KillChild:
    """End this child of the zygote with SIGKILL; its ChildEnded follows. Unknown pids are ignored."""

    pid: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ListChildren:
    """Ask for all processes of the network; answered by Children."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildProcess:
    """A process that the zygote started and that has not ended."""

    pid: int
    kind: str
    """coordinator, node, sandbox, compiler or gateway."""
    name: str
    """E.g. `app-1/2`, and for a sandbox `app-1/2 <canister id>`."""
    owner_pid: int
    """The node of a sandbox; 0 for others."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    """Answer to ListChildren, by pid; the zygote itself first."""

    processes: tuple[ChildProcess, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnded:
    """A node, the compiler or the gateway ended, and with a node its sandboxes. The zygote starts the last two again itself."""

    pid: int
    kind: str
    name: str
    status: int
    """Exit code, or minus the signal's number."""
