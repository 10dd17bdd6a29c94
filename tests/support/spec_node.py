"""A lone node for tests of the specification on real canisters: what became of a message, balances, settings, queries."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types import bls
from ic_types.candid import decoder, encoder
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal
from ic_types.query_statistics import QueryStatsPayload
from scheduler.canister import Canister
from scheduler.effects import Effects
from subnet.lab.universal import Program
from subnet.management.methods import METHODS
from subnet.protocol import AcceptanceRequest, Batch, Certify, QueryRequest, RoundResult
from tests.support.lone_node import GENESIS_NS, SECOND, LoneNode, example, network_record

T = TypeVar("T")
USER = Principal(b"\x01a user\x02")
STRANGER = Principal(b"\x01a stranger\x02")
NOBODY = Principal.canister((1 << 20) - 7)
"""A canister of the subnet's range that nobody created."""
NO_IDLE_COST = CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0)
"""Existing is free: balances change by messages only, and nothing ever freezes."""
FEES, LIMITS = CyclesCostSchedule(), SubnetLimits()
CALL_PRICE = FEES.execution(LIMITS.instructions_per_message)
"""Withdrawn before an update runs, and kept for every callback."""


class Outcome(NamedTuple):
    """What became of a message or a query."""

    reply: bytes | None
    code: int = 0
    error: str = ""
    """IC0nnn."""
    message: str = ""

    @property
    def rejected(self) -> tuple[int, str]:
        """Reject code and error code of a rejected message."""
        assert self.reply is None, f"replied {self.reply!r}"
        return self.code, self.error

    @property
    def replied(self) -> bytes:
        """The reply of a replied message."""
        assert self.reply is not None, f"{self.error}: {self.message}"
        return self.reply

    @property
    def number(self) -> int:
        """The reply, little-endian."""
        return int.from_bytes(self.replied, "little")


class SpecNode(LoneNode):
    """A node of its own subnet; USER controls all canisters that it creates."""

    def __init__(self, folder: Path, **options: Any) -> None:
        network, shares = network_record()
        super().__init__(folder, network, "app", shares["app"][0], **options)
        self.outcomes: dict[bytes, Outcome] = {}
        self.now = GENESIS_NS
        self.offered: QueryStatsPayload | None = None
        """Statistics of queries for the next batch."""

    # --- rounds

    def round(self, *ingress: Ingress, checkpoint: bool = False, seconds: float = 1, **unused: Any) -> RoundResult:
        """Execute the next batch, so many seconds after the last one."""
        assert not unused, unused
        height = self.replica.state.height + 1
        self.now += int(seconds * SECOND)
        tape = hashlib.sha256(f"tape {height}".encode()).digest()
        batch = Batch(
            height=height,
            time_ns=self.now,
            randomness=tape,
            ingress=ingress,
            answers=self.desk.take(0, height, self.now),
            is_checkpoint=checkpoint,
            query_stats=self.offered,
        )
        result = self.replica.process(batch, lambda: ())
        self.desk.asked(0, result)
        self.offered = result.query_stats
        signature = bls.combine(1, [(1, result.certification_share)])
        self.replica.certify(Certify(height=height, signature=signature))
        for end in result.outcomes:
            reply = end.reply if end.status == "replied" else None
            self.outcomes[end.message_id] = Outcome(reply, end.reject_code, end.error_code, end.reject_message)
        return result

    def rounds(self, count: int) -> None:
        """Empty batches."""
        for _ in range(count):
            self.round()

    def status(self, message: Ingress) -> str:
        """Status of a message; `unknown` if it isn't in the history."""
        known = self.replica.state.history.get(message.message_id)
        return "unknown" if known is None else known.state.value

    # --- calls by users

    def message(self, receiver: CanisterId, program: Program | bytes, method: str = "update", **fields: Any) -> Ingress:
        """An ingress message of USER; `fields` replace its own."""
        made = self.ingress(receiver, method, bytes(program), fields.pop("sender", USER))
        return replace(made, **fields)

    def outcome(self, message: Ingress, rounds: int = 20) -> Outcome:
        """Run rounds until a message that was submitted is answered."""
        for _ in range(rounds):
            if message.message_id in self.outcomes:
                break
            self.round()
        return self.outcomes[message.message_id]

    def submit(self, receiver: CanisterId, program: Program | bytes, method: str = "update", **fields: Any) -> Ingress:
        """Put a message into the next batch."""
        message = self.message(receiver, program, method, **fields)
        self.round(message)
        return message

    def ask(self, receiver: CanisterId, program: Program | bytes, method: str = "update", **fields: Any) -> Outcome:
        """Submit a message and wait for its outcome."""
        return self.outcome(self.submit(receiver, program, method, **fields))

    def query(self, receiver: CanisterId, program: Program | bytes, method: str = "query", sender: Principal = USER) -> Outcome:
        """A non-replicated query on the last certified height."""
        request = QueryRequest(cookie=0, sender=sender, receiver=receiver, method=method, arg=bytes(program))
        answer = self.answer_of(self.replica.query(request))
        reply = answer.reply if answer.status == "replied" else None
        return Outcome(reply, answer.reject_code, answer.error_code, answer.reject_message)

    def inspect(
        self, receiver: CanisterId, method: str, arg: Program | bytes = b"", sender: Principal = USER
    ) -> Outcome | None:
        """Ask whether a user's message may enter the pool: None if it may."""
        request = AcceptanceRequest(cookie=0, calls=(self.message(receiver, arg, method, sender=sender),))
        refusal = self.answer_of(self.replica.accept(request)).refusals[0]
        return None if refusal is None else Outcome(None, refusal.reject_code, refusal.error_code, refusal.reject_message)

    def answer_of(self, rule: Effects[T]) -> T:
        """Run a rule on query sandboxes."""
        done: list[T] = []
        self.driver.start_query(rule, done.append)
        while not done:
            self.driver.step(50)
        return done[0]

    # --- the management canister

    def managed(self, method: str, value: Any = None, sender: Principal = USER) -> Outcome:
        """A user's call of the management canister."""
        return self.ask(MANAGEMENT_CANISTER, management_arg(method, value), method, sender=sender)

    def done(self, method: str, value: Any = None, sender: Principal = USER) -> Any:
        """Its decoded result; the call must succeed."""
        reply = self.managed(method, value, sender).replied
        values = decoder.decode(reply, METHODS[method].results)
        return values[0] if values else None

    def create(self, cycles: int = 10**15, **settings: Any) -> CanisterId:
        """An empty canister of USER."""
        value = {"amount": cycles, "settings": settings or None}
        found: CanisterId = self.done("provisional_create_canister_with_cycles", value)["canister_id"]
        return found

    def universal(self, program: Program | bytes = b"", *, cycles: int = 10**15, **settings: Any) -> CanisterId:
        """A universal canister that ran this program as its init."""
        canister_id = self.create(cycles, **settings)
        self.put(canister_id, example("universal"), bytes(program)).replied  # noqa: B018  raises with the reject
        return canister_id

    def put(self, canister_id: CanisterId, wasm: bytes, arg: Program | bytes = b"", mode: Any = "install") -> Outcome:
        """Install code; earlier installs of the canister don't hold it up."""
        self.canister(canister_id).install_debit = type(self.canister(canister_id).install_debit)(0)
        value = {"mode": {mode: None} if isinstance(mode, str) else mode, "canister_id": canister_id}
        return self.managed("install_code", {**value, "wasm_module": wasm, "arg": bytes(arg)})

    # --- the state

    def canister(self, canister_id: CanisterId) -> Canister:
        """The record."""
        return self.replica.state.canisters[canister_id]

    def balance(self, canister_id: CanisterId) -> int:
        """Its cycles."""
        return self.canister(canister_id).balance

    def stop(self, canister_id: CanisterId) -> None:
        """Stop a canister without open calls."""
        self.done("stop_canister", {"canister_id": canister_id})


def management_arg(method: str, value: Any = None) -> bytes:
    """The Candid argument of a management method."""
    kind = METHODS[method].argument
    return encoder.encode([], []) if kind is None else encoder.encode([kind], [value])
