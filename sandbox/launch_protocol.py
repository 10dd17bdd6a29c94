"""How a node asks the zygote for a sandbox process.

Rule module. A Unix SOCK_SEQPACKET connection to the zygote carries one request per packet; each is answered by one packet, in
order. The packet of SpawnSandbox carries one descriptor (SCM_RIGHTS): the sandbox's end of the Unix socketpair that it shares
with the node. The zygote hands it to the child and closes its own copy, so that the node reads end-of-file as soon as the
sandbox ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire

LAUNCH_SOCKET = "zygote"
"""Name of the zygote's socket in the socket folder."""
MAX_PACKET_BYTES = 1 << 16


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnSandbox:
    """Start a sandbox that belongs to the asking node and dies with it; answered by Spawned or SpawnRefused."""

    title: str
    """Process title, `icsim sandbox app-1/2 <canister id>` or `icsim query ...`."""
    endpoint: str
    """ZeroMQ endpoint of the node's ROUTER socket."""
    identity: bytes
    """ZeroMQ identity that the sandbox's DEALER socket takes."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """The process runs."""

    pid: int


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SpawnRefused:
    """The process could not be started, e.g. the machine's process limit is reached."""

    reason: str
