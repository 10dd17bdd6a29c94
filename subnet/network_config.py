"""What a coordinator is started with.

Rule module. Made by the CLI or the Python API from a checked topology; travels to the coordinator through the zygote.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """A network to run: what it consists of, where its files go, how it is started."""

    name: str
    """Under which `icsim status` lists it."""
    plan: bytes
    """Encoded subnet.coordinator.network_plan.NetworkPlan; empty to take the one of a recorded run."""
    workload: bytes = b""
    """The phases, see subnet.coordinator.workload; empty for none."""
    socket_dir: str
    cache_dir: str
    out_dir: str | None = None
    """Run directory: journal, events, logs, heights.jsonl; None: the journal goes with the socket folder."""
    jobs: int | None = None
    """At most so many sandboxes compute at once in all; never changes a result."""
    fresh_interpreters: bool = False
    """Start every node by exec with a hash seed of its own."""
    mode: str = "new"
    """new, resume (continue the run in out_dir) or replay (run it again, into no journal, and compare)."""
    replay_dir: str | None = None
    """Run directory that is replayed."""
    faults: tuple[str, ...] = ()
    """`flip:node,canister,page,byte@height`, `forge:subnet,canister,cycles@height`."""
    nodes_endpoint: str | None = None
    """Where nodes connect; by default an ipc socket in the socket folder."""
    round_timeout_s: int = 600
    """A node that gives no answer for so long is killed and started again; a safety net, far above any honest round."""
    trace: bool = False
    check_invariants: bool = False
    """Check all invariants after every round; the first breach ends the run."""
    batch_size: int = 100
    reuse_instances: bool = True
    max_sandboxes: int = 500
    rehash_rounds: int = 100
    accept_any_expiry: bool = False
    url: str = ""
    """Where the gateway serves HTTP; empty without one."""
    live: bool = False
    """Rounds follow the wall clock, from a genesis that is now; otherwise virtual time passes as clients ask for rounds."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """What the gateway is started with; its listening socket comes from the zygote."""

    socket_dir: str
    url: str
    log_path: str | None = None
    sync_wait_s: float = 10.0
    """How long an answer to a synchronous call waits for the certified outcome."""
    receive_timeout_s: float = 60.0
    """A body must have come by then."""
    request_timeout_s: float = 300.0
