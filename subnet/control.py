"""The client's side of a running network: typed calls over its control socket, and where networks are found.

Plumbing. The protocol is `subnet.control_protocol`. A network in the background is listed in `.icsim/networks/` so that later
commands find it; a list entry counts only while its process lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import zmq

from ic_types import wire
from ic_types.canister_rename import CanisterRename
from ic_types.errors import BadInput, DivergenceError, NetworkError
from ic_types.outcall_rule import OutcallRule
from ic_types.principal import CanisterId, Principal, SubnetId
from subnet import control_protocol as cp
from subnet import outcall_protocol as op
from subnet.process_tools import is_alive, owner_of, start_time
from subnet.protocol import Inspected, QueryReply
from subnet.zygote_protocol import Children

_TICK_MS = 200
_RECONNECT_MS = 5
T = TypeVar("T")


class ControlClient:
    """A synchronous connection to one running network; every call may raise NetworkError.

    Raises: NetworkError when there is no network in this socket folder.
    """

    def __init__(self, socket_dir: str | Path) -> None:
        self.folder = Path(socket_dir)
        owner = owner_of(self.folder)
        if owner is None:
            raise NetworkError(f"no network runs in {self.folder}; start one with `icsim up TOPOLOGY`")
        self._owner: tuple[int, int] = owner
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self._socket.connect(f"ipc://{self.folder / cp.CONTROL_SOCKET}")
        self._cookie = 0
        self._parked: dict[int, bytes] = {}

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the network runs on."""
        self._socket.close()
        self._context.term()

    def describe(self) -> cp.Description:
        """Names and ids of subnets, canisters and identities."""
        return self._call(cp.Describe(), cp.Description)

    def status(self, timeout_s: float | None = None) -> cp.NetworkStatus:
        """How far the network is."""
        return self._call(cp.GetStatus(), cp.NetworkStatus, timeout_s)

    def submit(self, *envelopes: bytes, effective_canister_id: CanisterId | None = None) -> tuple[cp.SubmitResult, ...]:
        """Put signed envelopes into the ingress pool."""
        request = cp.Submit(envelopes=envelopes, effective_canister_id=effective_canister_id)
        return self._call(request, cp.Submitted).results

    def start_submit(self, *envelopes: bytes) -> int:
        """As submit, but returns at once with a cookie for `finish_submit`, so that more can be sent meanwhile."""
        return self._send(cp.Submit(envelopes=envelopes))

    def finish_submit(self, cookie: int) -> tuple[cp.SubmitResult, ...]:
        """The answer to `start_submit`."""
        reply = self._receive(cookie, cp.Submitted, None)
        assert reply is not None
        return reply.results

    def requests(self, *message_ids: bytes) -> tuple[cp.RequestStatus, ...]:
        """What became of these messages."""
        return self._call(cp.GetRequests(message_ids=message_ids), cp.RequestStatuses).requests

    def query(
        self,
        sender: Principal,
        receiver: CanisterId,
        method: str,
        arg: bytes,
        *,
        node_index: int = 0,
        effective_id: Principal | None = None,
    ) -> QueryReply:
        """Run a query on the last certified height of the receiver's subnet, or of that of this canister or with this id."""
        request = cp.Query(
            sender=sender, receiver=receiver, method=method, arg=arg, node_index=node_index, effective_id=effective_id
        )
        return self._call(request, QueryReply)

    def advance(
        self,
        *,
        rounds: int | None = None,
        to_height: int | None = None,
        until_idle: bool = False,
        until_answered: tuple[bytes, ...] = (),
        until_installed: bool = False,
        timeout_s: float | None = None,
    ) -> cp.Advanced:
        """Make rounds until the first of these goals is reached; returns then.

        Raises: NetworkError when the network stops before; DivergenceError when it stopped since nodes differ.
        """
        request = cp.Advance(
            rounds=rounds,
            to_height=to_height,
            until_idle=until_idle,
            until_answered=until_answered,
            until_installed=until_installed,
        )
        return self._call(request, cp.Advanced, timeout_s)

    def start_advance(self, **goals: Any) -> int:
        """As advance, but returns at once with a cookie for `poll_advance`; other calls may be made meanwhile."""
        return self._send(cp.Advance(**goals))

    def poll_advance(self, cookie: int) -> cp.Advanced | None:
        """The answer to `start_advance` if it is there, else None."""
        return self._receive(cookie, cp.Advanced, 0.0, keep_waiting=False)

    def inspect(self, subnet: SubnetId, what: str, path: tuple[bytes, ...] = (), *, node_index: int = 0) -> bytes:
        """Ask a node about its state; CBOR, see subnet.node.inspection."""
        request = cp.InspectNode(subnet=subnet, what=what, path=path, node_index=node_index)
        return self._call(request, Inspected).body

    def summary(self) -> dict[str, Any]:
        """The run in figures, as summary.json has them."""
        found: dict[str, Any] = json.loads(self._call(cp.GetSummary(), cp.SummaryReply).body)
        return found

    def processes(self) -> Children:
        """All processes of the network."""
        return self._call(cp.GetProcesses(), Children)

    def set_outcall_rules(self, *rules: OutcallRule, clear: bool = False) -> None:
        """Add rules for HTTPS outcalls, before all others; `clear` drops those that were added earlier."""
        self._call(op.SetOutcallRules(rules=rules, clear=clear), cp.Done)

    def outcalls(self) -> tuple[op.OpenOutcall, ...]:
        """HTTPS outcalls that wait for a response."""
        return self._call(op.GetOutcalls(), op.OpenOutcalls).outcalls

    def answer_outcall(self, subnet: SubnetId, call_id: int, *rules: OutcallRule) -> None:
        """Give the nodes responses to one open outcall."""
        self._call(op.AnswerOutcall(subnet=subnet, call_id=call_id, rules=rules), cp.Done)

    def kill_node(self, subnet: SubnetId, node_index: int) -> None:
        """End a node as a crash would."""
        self._call(cp.KillNode(subnet=subnet, node_index=node_index), cp.Done)

    def rename_canister(self, rename: CanisterRename) -> None:
        """Have it in the next round of all subnets."""
        self._call(cp.RenameCanister(rename), cp.Done)

    def stop(self, reason: str = "asked to") -> None:
        """Stop the network cleanly; returns when its processes have ended."""
        with contextlib.suppress(NetworkError):
            self._call(cp.StopNetwork(reason), cp.Done, 30.0)
        deadline = time.monotonic() + 30
        while self._alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    # --- the wire

    def _call(self, request: object, kind: type[T], timeout_s: float | None = None) -> T:
        reply = self._receive(self._send(request), kind, timeout_s)
        assert reply is not None
        return reply

    def _send(self, request: object) -> int:
        self._cookie += 1
        self._socket.send_multipart([self._cookie.to_bytes(8, "big"), wire.encode(request)])
        return self._cookie

    def _receive(self, cookie: int, kind: type[T], timeout_s: float | None, *, keep_waiting: bool = True) -> T | None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            if cookie in self._parked:
                return _checked(self._parked.pop(cookie), kind)
            left = _TICK_MS if deadline is None else min(_TICK_MS, max(0, int((deadline - time.monotonic()) * 1000)))
            if self._socket.poll(left):
                got, raw = self._socket.recv_multipart()
                self._parked[int.from_bytes(got, "big")] = raw
            elif not self._alive():
                raise NetworkError("the network has ended while it was asked")
            elif deadline is not None and time.monotonic() >= deadline:
                if keep_waiting:
                    raise NetworkError(f"the network gave no answer within {timeout_s} s")
                return None

    def _alive(self) -> bool:
        self._owner = owner_of(self.folder) or self._owner
        return is_alive(*self._owner)


def _checked(raw: bytes, kind: type[T]) -> T:
    reply = wire.decode(raw, kind, cp.Refused)
    if isinstance(reply, cp.Refused):
        raise {2: BadInput, 3: DivergenceError}.get(reply.exit_code, NetworkError)(reply.message)
    assert isinstance(reply, kind)
    return reply


# --- where running networks are found


@dataclass(frozen=True, slots=True)
class Advertised:
    """A running network as listed in `.icsim/networks/`."""

    name: str
    pid: int
    started: int
    socket_dir: str
    topology: str
    out_dir: str | None


def default_home() -> Path:
    """`.icsim` in the checkout: caches and the list of running networks."""
    return Path(__file__).resolve().parents[1] / ".icsim"


def advertise(home: Path, name: str, socket_dir: Path, topology: str, out_dir: str | None) -> Path:
    """List the network that owns this socket folder; a number is added to a name in use."""
    folder = home / "networks"
    folder.mkdir(parents=True, exist_ok=True)
    owner = owner_of(socket_dir)
    pid, started = owner or (os.getpid(), start_time(os.getpid()) or 0)
    taken = {one.name for one in running_networks(home)}
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name) or "network"
    free = next(n for n in (plain, *(f"{plain}-{k}" for k in range(2, 10_000))) if n not in taken)
    entry = {
        "name": free,
        "pid": pid,
        "started": started,
        "socket_dir": str(socket_dir),
        "topology": topology,
        "out_dir": out_dir,
    }
    path, draft = folder / f"{free}.json", folder / f".{free}.{os.getpid()}"
    draft.write_text(json.dumps(entry, indent=1) + "\n")
    draft.replace(path)
    return path


def running_networks(home: Path) -> list[Advertised]:
    """All listed networks that still run, by name; entries of others are removed."""
    found = []
    for path in sorted((home / "networks").glob("*.json")):
        try:
            one = Advertised(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
        if is_alive(one.pid, one.started):
            found.append(one)
        else:
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda one: one.name)


def find_network(home: Path, choice: str | None = None) -> Advertised:
    """The network with this name, socket folder or run directory; by default the only one that runs.

    Raises: NetworkError when there is none, or several and no choice.
    """
    networks = running_networks(home)
    if choice is None:
        if len(networks) == 1:
            return networks[0]
        names = ", ".join(one.name for one in networks)
        raise NetworkError(
            f"{len(networks)} networks run ({names}); choose one with --dir"
            if networks
            else "no network runs; start one with `icsim up TOPOLOGY`"
        )
    path = str(Path(choice).resolve())
    for one in networks:
        if choice == one.name or path == one.socket_dir or (one.out_dir and path == str(Path(one.out_dir).resolve())):
            return one
    names = ", ".join(one.name for one in networks) or "none"
    raise NetworkError(f"no running network is called {choice!r} or has this directory; running: {names}")
