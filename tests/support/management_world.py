"""A subnet with a management canister over script-running canisters; see `fake_executor` for scripts."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.chain_keys.registry import ChainKeys
from ic_types.messages import Ingress, Request, Response
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId, Principal, SubnetId
from ic_types.reject import Payload, Reject, Reply
from ic_types.units import CallbackId, Cycles, TimeNs
from message_routing.queues import CanisterQueues
from message_routing.routing_table import RoutingTable, allocation_range
from sandbox.execution_state import ExecutionState
from sandbox.module_info import CustomSection, ModuleInfo
from sandbox.protocol import EntryPoint, ExecutionInput, Finished, Pages, Trapped
from scheduler.canister import Canister
from scheduler.effects import Compiled, CompileError, CompileModule, Effect, EffectResult, Effects, RunMessage
from subnet.management import dispatch
from subnet.management.block_makers import BlockMakers
from subnet.management.consensus_calls import ConsensusCalls
from subnet.management.installs import InstallRuns
from subnet.management.methods import METHODS
from tests.support.fake_executor import USER, FakeExecutor, FakeWorld, Script, in_message
from tests.support.routing_world import subnet_id
from xnet.stream import Stream

OTHER = Principal(b"\x01other\x02")
PAGE = 4096


def module(
    scripts: Mapping[str, Script] | None = None,
    *,
    sections: tuple[tuple[str, bool], ...] = (),
    invalid: str = "",
    operators: int = 0,
    heap_pages: int = 1,
) -> bytes:
    """A module whose entry points (`start`, `init`, `pre_upgrade`, `post_upgrade`) run these scripts."""
    return pickle.dumps((dict(scripts or {}), sections, invalid, operators, heap_pages))


class ModuleExecutor(FakeExecutor):
    """Also compiles such modules; pages have content, since installs work on real memories."""

    running: ExecutionState | None = None
    compiled: int = 0
    modules: dict[str, Mapping[str, Script]]

    def __call__(self, effect: Effect) -> EffectResult:
        """Carry out one effect."""
        if isinstance(effect, CompileModule):
            return self.compile(effect.wasm)
        if isinstance(effect, RunMessage):
            self.running = effect.execution
        return super().__call__(effect)

    def compile(self, wasm: bytes) -> EffectResult:
        """Unpickle the module."""
        self.compiled += 1
        scripts, sections, invalid, operators, heap_pages = pickle.loads(wasm)
        if invalid:
            return CompileError(invalid, 6000 * len(wasm))
        name = hashlib.sha256(wasm).hexdigest()
        self.modules = {**getattr(self, "modules", {}), name: scripts}
        info = ModuleInfo(
            module_hash=hashlib.sha256(wasm).digest(),
            module_bytes=len(wasm),
            wasm64=False,
            updates=("update",),
            queries=("query",),
            entry_points=tuple(f"canister_{entry}" for entry in scripts),
            custom_sections=tuple(CustomSection(section, public, b"") for section, public in sections),
            compile_instructions=6000 * operators,
            heap_pages_initial=heap_pages,
            heap_pages_max=65536,
        )
        return Compiled(info, name)

    def _script(self, canister_id: CanisterId, message: ExecutionInput) -> Script:
        assert self.running is not None
        if message.entry in (EntryPoint.START, EntryPoint.INIT, EntryPoint.PRE_UPGRADE, EntryPoint.POST_UPGRADE):
            return self.modules[self.running.artefact][message.entry.value]
        return super()._script(canister_id, message)

    def _interpret(self, effect: RunMessage) -> Finished | Trapped:
        answer = super()._interpret(effect)
        filled = replace(answer, heap=_filled(answer.heap, len(self.executed)))
        return replace(filled, stable=_filled(answer.stable, len(self.executed))) if isinstance(filled, Finished) else filled


def _filled(pages: Pages, mark: int) -> Pages:
    return Pages(pages.indices, bytes([mark % 255 + 1]) * PAGE * len(pages.indices))


@dataclass
class ManagedSubnet(FakeWorld):
    """Satisfies `subnet.management.context.SubnetContext`."""

    own_subnet: SubnetId = field(default_factory=lambda: subnet_id(0))
    root_subnet: SubnetId = field(default_factory=lambda: subnet_id(1))
    management_queues: CanisterQueues = field(default_factory=lambda: CanisterQueues(by_effective_id=True))
    installs: InstallRuns = field(default_factory=InstallRuns)
    stopping: dict[CanisterId, None] = field(default_factory=dict)
    compiled: dict[bytes, None] = field(default_factory=dict)
    minted: int = 0
    chain_keys: ChainKeys = field(default_factory=ChainKeys)
    node_count: int = 4
    consensus_calls: ConsensusCalls = field(default_factory=ConsensusCalls)
    subnet_admins: tuple[Principal, ...] = ()
    replica_version: str = "a version"
    registry_version: int = 1
    streams: dict[SubnetId, Stream] = field(default_factory=dict)
    block_makers: BlockMakers = field(default_factory=BlockMakers)
    routing: RoutingTable = field(init=False)
    next_index: int = 0

    def __post_init__(self) -> None:
        self.executor = ModuleExecutor(self.fees, self.limits)
        self.routing = RoutingTable(self.own_subnet, [(*allocation_range(n), subnet_id(n)) for n in range(3)])

    def allocate_canister_id(self) -> CanisterId | None:
        """The next free one."""
        while True:
            self.next_index += 1
            if Principal.canister(self.next_index) not in self.canisters:
                return Principal.canister(self.next_index)

    def add_canister(self, canister: Any = None, **fields: Any) -> Any:
        """A canister made by the management canister; without one, a script-running canister for the test."""
        if not isinstance(canister, Canister):
            made = super().add_canister(**fields)
            self.next_index = max(self.next_index, made.canister_id.canister_index() or 0)
            return made
        self.canisters[canister.canister_id] = canister
        self.scheduler.add(canister, self.canisters)
        return canister

    def remove_canister(self, canister_id: CanisterId) -> None:
        """It is gone."""
        self.scheduler.remove(self.canisters[canister_id], self.canisters)
        del self.canisters[canister_id]

    def random_bytes(self, count: int) -> bytes:
        """Nothing random about them."""
        return bytes(range(count))

    def mint(self, amount: Cycles) -> None:
        """Count."""
        self.minted += amount

    def continue_install(self, budget: int) -> Effects[int | None]:
        """The real rule."""
        return dispatch.continue_install(self, budget)

    def execute_subnet_message(self, budget: int) -> Effects[int | None]:
        """The real rule."""
        return dispatch.execute_next(self, budget)

    def take(self, rule: Effects[Any]) -> Any:
        """Drive a rule to its end."""
        result: EffectResult = None
        while True:
            try:
                effect = rule.send(result)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value
            result = self.executor(effect)

    # --- calls

    def by_user(self, method: str, args: Any = None, *, sender: Principal = USER, raw_arg: bytes | None = None) -> bytes:
        """Queue a user's management call; returns the message id."""
        self._sent += 1
        arg = encode_args(method, args) if raw_arg is None else raw_arg
        message = Ingress(
            message_id=self._sent.to_bytes(32, "big"),
            sender=sender,
            receiver=MANAGEMENT_CANISTER,
            method=method,
            arg=arg,
            expiry=TimeNs(self.time + 10**12),
            raw_bytes=len(arg),
            effective_canister_id=args.get("canister_id") if isinstance(args, dict) else None,
        )
        self.management_queues.push_ingress(message)
        return message.message_id

    def by_canister(
        self, sender: CanisterId, method: str, args: Any = None, *, cycles: int = 0, name: Principal = MANAGEMENT_CANISTER
    ) -> Request:
        """Queue a canister's management call."""
        self._sent += 1
        message = Request(
            sender=sender,
            receiver=name,
            callback_id=CallbackId(self._sent),
            payment=Cycles(cycles),
            method=method,
            arg=encode_args(method, args),
        )
        assert self.management_queues.push_input_request(message, local=True) is not None
        return message

    def run_calls(self) -> int:
        """Run queued management calls as long as one may run; returns the instructions used."""
        used = 0
        while (step := self.take(dispatch.execute_next(self, 10**12))) is not None:
            used += step
        return used

    def user_call(self, method: str, args: Any = None, *, sender: Principal = USER, raw_arg: bytes | None = None) -> Any:
        """Run a user's call to its end: the decoded result, or the Reject."""
        message_id = self.by_user(method, args, sender=sender, raw_arg=raw_arg)
        self.run_calls()
        return result_of(method, self.outcome(message_id))

    def canister_call(self, sender: CanisterId, method: str, args: Any = None, *, cycles: int = 0) -> tuple[Any, int]:
        """Run a canister's call to its end: the decoded result or the Reject, and the refund."""
        asked = self.by_canister(sender, method, args, cycles=cycles)
        self.run_calls()
        return self.answer_to(asked)

    def answer_to(self, asked: Request) -> tuple[Any, int]:
        """What a canister was answered: the decoded result or the Reject, and the refund."""
        answer = self.management_queues.pop_output(asked.sender)
        assert isinstance(answer, Response)
        assert (answer.callback_id, answer.respondent) == (asked.callback_id, asked.receiver)
        return result_of(asked.method, answer.payload), answer.refund

    def create(self, amount: int = 10**15, **settings: Any) -> Canister:
        """A canister made by the user."""
        result = self.user_call("provisional_create_canister_with_cycles", {"amount": amount, "settings": settings or None})
        return self.canisters[result["canister_id"]]

    def install(self, canister: Canister, wasm: bytes, mode: Any = "install", arg: bytes = b"", **fields: Any) -> Any:
        """Run an install_code to its end, over as many rounds as it takes."""
        args = {"mode": mode, "canister_id": canister.canister_id, "wasm_module": wasm, "arg": arg}
        message_id = self.by_user("install_code", args, **fields)
        self.run_calls()
        while self.outcome(message_id) is None:
            self.next_round()
            assert self.take(dispatch.continue_install(self, 0)) is not None, "the install is stuck"
        return result_of("install_code", self.outcome(message_id))

    def next_round(self) -> None:
        """Time goes on, nothing else happens."""
        self.round_number += 1
        self.time = TimeNs(self.time + self.interval_ns)

    def everything(self) -> int:
        """All cycles held, burned or lost, less those minted: constant."""
        held = self.all_cycles() - self.minted
        held += sum(in_message(message) for message in self.management_queues.peek_inputs(10**6))
        held += sum(in_message(m) for p in self.management_queues.peers.values() for m, _ in p.outputs.values())
        held += sum(stop.refund for c in self.canisters.values() for stop in c.stop_calls)
        installs = [c.long_install for c in self.canisters.values() if c.long_install is not None]
        held += self.consensus_calls.cycles()
        return held + sum(long.prepaid + in_message(long.message) for long in installs)


def encode_args(method: str, args: Any) -> bytes:
    """A Candid argument at the method's own type."""
    known = METHODS.get(method)
    if known is None or known.argument is None:
        return encode((), ())
    return encode((known.argument,), (args,))


def result_of(method: str, outcome: object) -> Any:
    """The decoded result (None for methods without one), or the Reject."""
    if isinstance(outcome, Reject):
        return outcome
    raw = outcome.data if isinstance(outcome, Reply) else outcome
    assert isinstance(raw, bytes), f"{method} is not answered"
    values = decode(raw, METHODS[method].results)
    return values[0] if values else None


__all__ = ["OTHER", "USER", "ManagedSubnet", "ModuleExecutor", "Payload", "module"]
