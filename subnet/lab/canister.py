"""Canisters as Python objects: calls, queries, code, cycles, logs.

Plumbing, over a network's connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cbor2

from ic_types.candid.encoder import encode
from ic_types.errors import BadInput, NetworkError
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.calls import DEFAULT_ROUNDS, Target, Who, reply_of
from subnet.lab.interface import Interface
from subnet.lab.modules import Module, load_module
from subnet.management import candid_types

if TYPE_CHECKING:
    from subnet.lab.network import Network


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A line of a canister's log."""

    index: int
    time_ns: int
    text: str


class PendingCall:
    """A call that was sent and may not be answered yet."""

    def __init__(self, network: Network, target: Target, method: str, message_id: bytes) -> None:
        self.message_id = message_id
        self._network = network
        self._target = target
        self._method = method

    def status(self) -> str:
        """received, processing, replied, rejected or expired; makes no round."""
        return self._network.request(self.message_id).status

    def result(self) -> Any:
        """The answer, without making a round.

        Raises: CallRejected; NetworkError when there is no answer yet.
        """
        return self._target.interface.answer_value(self._method, self.raw_result())

    def raw_result(self) -> bytes:
        """The bytes of the answer, without making a round."""
        return reply_of(self._network.request(self.message_id), self._method, 0)

    def wait(self, max_rounds: int = DEFAULT_ROUNDS) -> Any:
        """Make rounds until it is answered; gives the answer.

        Raises: CallRejected; NetworkError when it isn't answered within so many rounds.
        """
        self._network.advance_until_answered((self.message_id,), max_rounds)
        raw = reply_of(self._network.request(self.message_id), self._method, max_rounds)
        return self._target.interface.answer_value(self._method, raw)


class Canister:
    """One canister of a running network."""

    def __init__(self, network: Network, target: Target) -> None:
        self._network = network
        self._target = target

    @property
    def name(self) -> str:
        """Its name in the topology, otherwise its id."""
        return self._target.name

    @property
    def id(self) -> CanisterId:
        """Its id."""
        return self._target.canister_id

    @property
    def subnet(self) -> str:
        """Name of its subnet."""
        return self._network.caller.subnet_of(self.id).name

    @property
    def methods(self) -> dict[str, str]:
        """Methods and their signatures, as far as its service is known."""
        return self._target.interface.methods()

    def __repr__(self) -> str:
        return f"<Canister {self.name} {self.id}>"

    # --- calls

    def call(
        self,
        method: str,
        *args: Any,
        candid: str | None = None,
        as_: Who = None,
        max_rounds: int = DEFAULT_ROUNDS,
    ) -> Any:
        """Call an update method and make rounds until it is answered.

        Arguments are Python values (see `ic_types.candid.values`), or Candid text with `candid="(1, true)"`. Answers come as
        Python values: None for none, a tuple for several.

        Raises: CallRejected; CandidError when an argument doesn't fit; NetworkError without an answer in `max_rounds`.
        """
        return self.submit(method, *args, candid=candid, as_=as_).wait(max_rounds)

    def submit(self, method: str, *args: Any, candid: str | None = None, as_: Who = None) -> PendingCall:
        """Send a call without making a round; it arrives with the next one."""
        return self.submit_raw(method, self._encode(method, args, candid, as_), as_=as_)

    def query(self, method: str, *args: Any, candid: str | None = None, as_: Who = None, node: int = 0) -> Any:
        """Call a method as a query on the last certified state; makes no round. `node` picks the node that answers.

        Raises: CallRejected; CandidError when an argument doesn't fit.
        """
        raw = self.query_raw(method, self._encode(method, args, candid, as_), as_=as_, node=node)
        return self._target.interface.answer_value(method, raw)

    def call_raw(self, method: str, arg: bytes = b"", *, as_: Who = None, max_rounds: int = DEFAULT_ROUNDS) -> bytes:
        """As `call`, with the bytes of argument and answer as they are."""
        return self._network.raw_call(self.id, method, arg, as_=as_, max_rounds=max_rounds)

    def submit_raw(self, method: str, arg: bytes = b"", *, as_: Who = None) -> PendingCall:
        """As `submit`, with the argument's bytes."""
        caller = self._network.caller
        message_id = caller.submit(caller.identity(as_), self.id, method, arg)
        return PendingCall(self._network, self._target, method, message_id)

    def query_raw(self, method: str, arg: bytes = b"", *, as_: Who = None, node: int = 0) -> bytes:
        """As `query`, with the bytes of argument and answer as they are."""
        caller = self._network.caller
        return caller.query(caller.identity(as_), self.id, method, arg, node)

    def _encode(self, method: str, args: tuple[Any, ...], candid: str | None, as_: Who) -> bytes:
        if candid is None:
            return self._target.interface.encode_values(method, args)
        if args:
            raise BadInput(f"{self.name}.{method}: give either Python values or candid=, not both")
        return self._network.caller.encode_text(self._target, method, candid, as_ if isinstance(as_, str) else "")

    # --- code and settings

    def install(
        self,
        wasm: Path | str | bytes,
        *args: Any,
        candid: str | None = None,
        raw: bytes | None = None,
        did: Path | str | None = None,
        as_: Who = None,
    ) -> None:
        """Install code: a path, the name of an example, or bytes; init arguments as in `call`, or their bytes with `raw`.

        Raises: CallRejected when the network refuses it; BadInput when there is no such module.
        """
        self._install({"install": None}, load_module(wasm, did), args, candid, raw, as_)

    def reinstall(self, wasm: Path | str | bytes, *args: Any, as_: Who = None, **how: Any) -> None:
        """Install code in place of the present one; all memory is lost."""
        self._install({"reinstall": None}, load_module(wasm, how.get("did")), args, how.get("candid"), how.get("raw"), as_)

    def upgrade(self, wasm: Path | str | bytes, *args: Any, as_: Who = None, **how: Any) -> None:
        """Install code in place of the present one; stable memory is kept.

        `keep_heap=True` keeps the heap as well, which modules of Motoko's enhanced orthogonal persistence ask for;
        `keep_heap=False` replaces it expressly.
        """
        persistence = {None: None, True: {"keep": None}, False: {"replace": None}}[how.get("keep_heap")]
        options = {"skip_pre_upgrade": None, "wasm_memory_persistence": persistence}
        self._install({"upgrade": options}, load_module(wasm, how.get("did")), args, how.get("candid"), how.get("raw"), as_)

    def _install(
        self,
        mode: dict[str, Any],
        module: Module,
        args: tuple[Any, ...],
        candid: str | None,
        raw: bytes | None,
        as_: Who,
    ) -> None:
        interface = Interface(module.did, self.name)
        if raw is None:
            raw = interface.encode_init(args, candid, self._network.caller.names)
        argument = {"mode": mode, "canister_id": self.id, "wasm_module": module.wasm, "arg": raw}
        self._manage("install_code", encode([candid_types.INSTALL_CODE], [argument]), as_)
        self._target = Target(self.name, self.id, interface)
        self._network.caller.remember_target(self._target)

    def start(self, *, as_: Who = None) -> None:
        """Let it take calls again."""
        self._manage_id("start_canister", as_)

    def stop(self, *, as_: Who = None) -> None:
        """Stop it; returns when its open calls are answered."""
        self._manage_id("stop_canister", as_)

    def delete(self, *, as_: Who = None) -> None:
        """Delete it; it must be stopped."""
        self._manage_id("delete_canister", as_)

    def add_cycles(self, amount: int) -> None:
        """Give it cycles out of nothing."""
        raw = encode([candid_types.PROVISIONAL_TOP_UP], [{"canister_id": self.id, "amount": amount}])
        self._manage("provisional_top_up_canister", raw, None)

    def update_settings(self, *, as_: Who = None, **settings: Any) -> None:
        """Change settings, such as `freezing_threshold=0`."""
        raw = encode([candid_types.UPDATE_SETTINGS], [{"canister_id": self.id, "settings": settings}])
        self._manage("update_settings", raw, as_)

    def _manage_id(self, method: str, as_: Who) -> None:
        self._manage(method, encode([candid_types.CANISTER_ID], [{"canister_id": self.id}]), as_)

    def _manage(self, method: str, arg: bytes, as_: Who) -> bytes:
        return self._network.raw_call(MANAGEMENT_CANISTER, method, arg, as_=as_, effective=self.id)

    # --- looking in

    def info(self) -> dict[str, Any]:
        """What a node tells of it: status, messages, instructions, cycles, pages, controllers, module hash ...; makes no round.

        Raises: NetworkError when it doesn't exist.
        """
        for row in self._network.caller.canister_rows(self._network.caller.subnet_of(self.id)):
            if row["id"] == self.id:
                return row
        raise NetworkError(f"canister {self.name} doesn't exist (any more)")

    @property
    def cycles(self) -> int:
        """Its balance."""
        return int(self.info()["cycles"])

    def logs(self) -> list[LogEntry]:
        """Its log: what it printed, and its traps."""
        client, caller = self._network.caller.client, self._network.caller
        rows = cbor2.loads(client.inspect(caller.subnet_of(self.id).subnet_id, "logs", (self.id,)))
        return [LogEntry(index, time_ns, content.decode("utf-8", "backslashreplace")) for index, time_ns, content in rows]
