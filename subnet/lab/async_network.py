"""The asynchronous form of networks: the same objects with coroutines, for `async with icsim.network(...)`.

Plumbing. One thread owns the connection. Calls that are gathered are all sent, in order, before the first round is made, so
that they arrive together; what is sent while rounds are being made arrives with whichever round comes next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ic_types.principal import CanisterId, Principal
from subnet.control_protocol import Advanced
from subnet.lab.calls import DEFAULT_ROUNDS, Who
from subnet.lab.canister import Canister, LogEntry, PendingCall
from subnet.lab.invariants import CyclesAudit, Invariant
from subnet.lab.network import DEFAULT_CYCLES, MAX_IDLE_ROUNDS, Network, Subnet

T = TypeVar("T")
_FIRST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.01


class AsyncNetwork:
    """A running network; see `subnet.lab.network.Network`, whose coroutines these are."""

    def __init__(self, network: Network, thread: ThreadPoolExecutor) -> None:
        self.sync = network
        """The plain form; not to be used while a coroutine of this one is under way."""
        self._thread = thread
        self.canisters = AsyncCanisters(self)
        """The topology's canisters by name."""

    @classmethod
    async def started(cls, start: Callable[[], Network]) -> AsyncNetwork:
        """Start a network in a thread of its own."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="icsim")
        try:
            return cls(await asyncio.get_running_loop().run_in_executor(thread, start), thread)
        except BaseException:
            thread.shutdown(wait=False)
            raise

    async def close(self) -> None:
        """End the network and all of its processes."""
        try:
            await self.run(self.sync.close)
        finally:
            self._thread.shutdown(wait=False)

    async def run(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Run a function of the plain network in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **named))

    async def advance_to(self, **goals: Any) -> Advanced:
        """Make rounds until the first of `ControlClient.advance`'s goals is reached; other coroutines go on meanwhile."""
        client = self.sync.caller.client
        cookie = await self.run(client.start_advance, **goals)
        pause = _FIRST_PAUSE
        while (found := await self.run(client.poll_advance, cookie)) is None:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        return self.sync.note(found)

    @property
    def subnets(self) -> dict[str, Subnet]:
        """Subnets by name, the root first."""
        return self.sync.subnets

    @property
    def identities(self) -> dict[str, Principal]:
        """Principals of the topology's identities by name."""
        return self.sync.identities

    @property
    def height(self) -> int:
        """The last round."""
        return self.sync.height

    @property
    def time(self) -> int:
        """Network time: nanoseconds since 1970 of the last round."""
        return self.sync.time

    async def tick(self, rounds: int = 1) -> int:
        """Make rounds; gives the height."""
        return (await self.advance_to(rounds=rounds)).height

    async def advance(self, seconds: float) -> int:
        """Make rounds until so much network time has passed; gives the height."""
        return await self.run(self.sync.advance, seconds)

    async def run_until_idle(self, max_rounds: int = MAX_IDLE_ROUNDS) -> int:
        """Make rounds until no work is left; gives the height."""
        return await self.run(self.sync.run_until_idle, max_rounds)

    async def wait_all(self, calls: Iterable[PendingCall], max_rounds: int = DEFAULT_ROUNDS) -> list[Any]:
        """Make rounds until all of these calls are answered; gives their answers."""
        listed = list(calls)
        await self.advance_to(until_answered=tuple(one.message_id for one in listed), rounds=max_rounds)
        return [await self.run(one.result) for one in listed]

    async def canister(self, which: str | CanisterId) -> AsyncCanister:
        """A canister by name or id."""
        return AsyncCanister(self, await self.run(self.sync.canister, which))

    async def create_canister(
        self, subnet: str | None = None, *, cycles: int = DEFAULT_CYCLES, as_: Who = None, **settings: Any
    ) -> AsyncCanister:
        """Create an empty canister."""
        return AsyncCanister(self, await self.run(self.sync.create_canister, subnet, cycles=cycles, as_=as_, **settings))

    async def rename_canister(self, canister: str | CanisterId, new_id: str | CanisterId, *, as_: Who = None) -> AsyncCanister:
        """Give a canister the id of a canister of another subnet."""
        return AsyncCanister(self, await self.run(self.sync.rename_canister, canister, new_id, as_=as_))

    async def raw_call(self, canister_id: str | CanisterId, method: str, arg: bytes = b"", **how: Any) -> bytes:
        """Call any canister with bytes and wait for the answer's bytes."""
        return await self.run(self.sync.raw_call, canister_id, method, arg, **how)

    async def state_hashes(self) -> dict[str, str]:
        """The state hash of every subnet after its last round."""
        return await self.run(self.sync.state_hashes)

    async def logs(self, canister: str | CanisterId) -> list[LogEntry]:
        """The log of a canister."""
        return await self.run(self.sync.logs, canister)

    async def cycles_audit(self) -> CyclesAudit:
        """All cycles, by flows and by places."""
        return await self.run(self.sync.cycles_audit)

    async def invariants(self) -> list[Invariant]:
        """Every invariant that a run checks at its end."""
        return await self.run(self.sync.invariants)

    async def summary(self) -> dict[str, Any]:
        """The run in figures."""
        return await self.run(self.sync.summary)

    async def processes(self) -> dict[str, int]:
        """Process ids by title."""
        return await self.run(self.sync.processes)

    async def kill_node(self, node: str) -> None:
        """End a node such as `app-1/2` with SIGKILL."""
        await self.run(self.sync.kill_node, node)


class AsyncCanister:
    """One canister; see `subnet.lab.canister.Canister`."""

    def __init__(self, network: AsyncNetwork, canister: Canister) -> None:
        self._network = network
        self.sync = canister

    @property
    def name(self) -> str:
        """Its name in the topology, otherwise its id."""
        return self.sync.name

    @property
    def id(self) -> CanisterId:
        """Its id."""
        return self.sync.id

    async def call(
        self, method: str, *args: Any, candid: str | None = None, as_: Who = None, max_rounds: int = DEFAULT_ROUNDS
    ) -> Any:
        """Call an update method and make rounds until it is answered; gathered calls arrive together, in order."""
        pending = await self.submit(method, *args, candid=candid, as_=as_)
        await self._network.advance_to(until_answered=(pending.message_id,), rounds=max_rounds)
        return await self._network.run(pending.result)

    async def submit(self, method: str, *args: Any, candid: str | None = None, as_: Who = None) -> PendingCall:
        """Send a call without making a round; wait for several with `network.wait_all`."""
        return await self._network.run(self.sync.submit, method, *args, candid=candid, as_=as_)

    async def query(self, method: str, *args: Any, candid: str | None = None, as_: Who = None, node: int = 0) -> Any:
        """Call a method as a query on the last certified state."""
        return await self._network.run(self.sync.query, method, *args, candid=candid, as_=as_, node=node)

    async def call_raw(self, method: str, arg: bytes = b"", *, as_: Who = None, max_rounds: int = DEFAULT_ROUNDS) -> bytes:
        """As `call`, with bytes."""
        pending = await self._network.run(self.sync.submit_raw, method, arg, as_=as_)
        await self._network.advance_to(until_answered=(pending.message_id,), rounds=max_rounds)
        return await self._network.run(pending.raw_result)

    async def query_raw(self, method: str, arg: bytes = b"", *, as_: Who = None, node: int = 0) -> bytes:
        """As `query`, with bytes."""
        return await self._network.run(self.sync.query_raw, method, arg, as_=as_, node=node)

    async def install(self, wasm: Path | str | bytes, *args: Any, **how: Any) -> None:
        """Install code."""
        await self._network.run(self.sync.install, wasm, *args, **how)

    async def upgrade(self, wasm: Path | str | bytes, *args: Any, **how: Any) -> None:
        """Install code in place of the present one; stable memory is kept."""
        await self._network.run(self.sync.upgrade, wasm, *args, **how)

    async def info(self) -> dict[str, Any]:
        """What a node tells of it."""
        return await self._network.run(self.sync.info)

    async def logs(self) -> list[LogEntry]:
        """Its log."""
        return await self._network.run(self.sync.logs)


class AsyncCanisters(Mapping[str, AsyncCanister]):
    """Canisters by name."""

    def __init__(self, network: AsyncNetwork) -> None:
        self._network = network

    def __getitem__(self, name: str) -> AsyncCanister:
        return AsyncCanister(self._network, self._network.sync.canisters[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._network.sync.canisters)

    def __len__(self) -> int:
        return len(self._network.sync.canisters)
