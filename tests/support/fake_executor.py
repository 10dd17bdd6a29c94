"""Canisters without Wasm: messages are scripts, run in microseconds by a FakeExecutor, in a small World of their own.

A script is a list of operations, sent as the argument of a message:

    [work(50), call(peer, [reply(b"x")], cycles=7, on_reply=[reply(b"done")]), log(b"hello")]

costs 50 instructions, calls `peer` with the inner script as argument, and so on. `reply()`, `trap()` etc. build operations.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from configs.fees import SECONDS_PER_DAY, CyclesCostSchedule
from configs.limits import SubnetLimits, request_memory
from ic_types.messages import Ingress, Request, Response
from ic_types.principal import CanisterId, Principal
from ic_types.reject import ErrorCode, Payload
from ic_types.units import Cycles, Height, TimeNs
from message_routing.queues import CanisterQueues
from sandbox.execution_state import ExecutionState
from sandbox.module_info import ModuleInfo
from sandbox.protocol import (
    Answer,
    Closure,
    EntryPoint,
    ExecutionContext,
    ExecutionInput,
    Finished,
    OutgoingCall,
    Pages,
    Paused,
    RejectMessage,
    ReplyData,
    Trapped,
)
from scheduler.canister import Canister, Settings, UserResponse
from scheduler.cycles_account import CyclesTally
from scheduler.effects import AbortMessage, Effect, EffectResult, Effects, ResumeMessage, RunMessage
from scheduler.round import Round, RoundSummary, drive, execute_round
from scheduler.scheduler_state import SchedulerState

Op = tuple[Any, ...]
Script = Sequence[Op]

USER = Principal(b"\x01user\x02")
FREE = CyclesCostSchedule(
    update_execution_base=0,
    ten_instructions_wasm32=0,
    ten_instructions_wasm64=0,
    xnet_call=0,
    xnet_byte=0,
    ingress_message=0,
    ingress_byte=0,
    gib_storage_per_second=0,
    canister_base_per_second=0,
    compute_percent_per_second=0,
)
"""Fees of a system subnet."""


# --- operations


def work(instructions: int) -> Op:
    """Spend instructions."""
    return ("work", instructions)


def reply(data: bytes = b"") -> Op:
    """`msg_reply`."""
    return ("reply", data)


def reject_with(text: str = "no") -> Op:
    """`msg_reject`."""
    return ("reject", text)


def trap(text: str = "oops") -> Op:
    """`ic0.trap`."""
    return ("trap", text)


def call(
    callee: bytes,
    script: Script = (("reply", b""),),
    *,
    cycles: int = 0,
    on_reply: Script = (),
    on_reject: Script = (),
    on_cleanup: Script | None = None,
    method: str = "update",
    timeout_s: int | None = None,
) -> Op:
    """`call_perform`; quietly does nothing if there is no room or are no cycles."""
    return ("call", bytes(callee), script, cycles, on_reply, on_reject, on_cleanup, method, timeout_s)


def raw_call(callee: bytes, method: str, arg: bytes, **fields: Any) -> Op:
    """`call_perform` with bytes as argument, as the management canister wants them."""
    return call(callee, arg, method=method, **fields)  # type: ignore[arg-type]


def accept(cycles: int) -> Op:
    """`msg_cycles_accept`: as many as are available."""
    return ("accept", cycles)


def burn(cycles: int) -> Op:
    """`cycles_burn`: as many as the balance allows."""
    return ("burn", cycles)


def dirty(pages: int, stable: int = 0) -> Op:
    """Change heap pages, and stable pages."""
    return ("dirty", pages, stable)


def grow(pages: int) -> Op:
    """Grow the heap by Wasm pages."""
    return ("grow", pages)


def certify(data: bytes) -> Op:
    """`certified_data_set`."""
    return ("certify", data)


def set_timer(time_ns: int) -> Op:
    """`global_timer_set`."""
    return ("timer", time_ns)


def log(line: bytes) -> Op:
    """`debug_print`."""
    return ("log", line)


def pickled(script: Script) -> bytes:
    """A script as a message's argument."""
    return pickle.dumps(script)


# --- executor


class FakeMemory:
    """Counts pages, keeps none: every page reported is a changed one."""

    def __init__(self, wasm_pages: int = 1) -> None:
        self.wasm_pages = wasm_pages

    def fork(self) -> FakeMemory:
        """A copy."""
        return FakeMemory(self.wasm_pages)

    def commit(self, indices: Sequence[int], content: bytes) -> int:
        """All of them changed."""
        return len(indices)

    def count_changed(self, indices: Sequence[int], content: bytes) -> int:
        """All of them changed."""
        return len(indices)


@dataclass
class Run:
    """A message that is being interpreted."""

    message: ExecutionInput
    context: ExecutionContext
    balance: int
    instructions: int = 0
    response: ReplyData | RejectMessage | None = None
    calls: list[OutgoingCall] = field(default_factory=list)
    accepted: int = 0
    burned: int = 0
    pages: int = 0
    stable: int = 0
    grown: int = 0
    guaranteed: int = 0
    certified: bytes | None = None
    timer: int | None = None
    logs: list[bytes] = field(default_factory=list)
    error: tuple[int, str] | None = None


@dataclass
class FakeExecutor:
    """Runs scripts; `executed` lists what ran, in order, as (canister id, entry point, method)."""

    fees: CyclesCostSchedule = FREE
    limits: SubnetLimits = field(default_factory=SubnetLimits)
    tasks: dict[tuple[CanisterId, EntryPoint], Script] = field(default_factory=dict)
    """What heartbeats and timers do."""
    executed: list[tuple[CanisterId, EntryPoint, str]] = field(default_factory=list)
    contexts: list[ExecutionContext] = field(default_factory=list)
    inputs: list[ExecutionInput] = field(default_factory=list)
    aborted: int = 0
    _closures: list[Script] = field(default_factory=list)
    _paused: dict[int, tuple[Answer, int, int]] = field(default_factory=dict)

    def __call__(self, effect: Effect) -> EffectResult:
        """Carry out one effect."""
        if isinstance(effect, RunMessage):
            self.executed.append((effect.canister_id, effect.message.entry, effect.message.method))
            self.contexts.append(effect.context)
            self.inputs.append(effect.message)
            answer = self._interpret(effect)
            return self._slice(effect.execution, answer, answer.instructions, effect.message.slice_limit)
        if isinstance(effect, ResumeMessage):
            whole, left, limit = self._paused.pop(effect.execution.session)
            return self._slice(effect.execution, whole, left, limit)
        assert isinstance(effect, AbortMessage), effect
        del self._paused[effect.execution.session]
        self.aborted += 1
        return None

    def _slice(self, execution: ExecutionState, whole: Answer, left: int, limit: int) -> Answer:
        """The next slice of a message with so many instructions to go."""
        if left <= limit:
            return replace(whole, slice_instructions=left)
        self._paused[execution.session] = (whole, left - limit, limit)
        return Paused(slice_instructions=limit, instructions=whole.instructions - left + limit)

    def _interpret(self, effect: RunMessage) -> Finished | Trapped:
        message, execution = effect.message, effect.execution
        run = Run(message, effect.context, effect.context.balance)
        for op in self._script(effect.canister_id, message):
            getattr(self, "_" + op[0])(run, *op[1:])
            if run.error is None and run.instructions > message.instruction_limit:
                run.instructions = message.instruction_limit
                run.error = (522, f"Canister exceeded the limit of {message.instruction_limit} instructions")
            if run.error is not None:
                break
        pages = Pages(tuple(range(run.pages)))
        common: dict[str, Any] = {
            "instructions": run.instructions,
            "slice_instructions": run.instructions,
            "logs": tuple(run.logs),
        }
        if run.error is not None:
            return Trapped(error_code=run.error[0], message=run.error[1], heap=pages, **common)
        return Finished(
            response=run.response,
            calls=tuple(run.calls),
            cycles_accepted=run.accepted,
            cycles_burned=run.burned,
            certified_data=run.certified,
            global_timer=run.timer,
            heap_pages=execution.heap.wasm_pages + run.grown,
            stable_pages=execution.stable.wasm_pages,
            heap=pages,
            stable=Pages(tuple(range(run.stable))),
            stable_dirty_marks=run.stable,
            **common,
        )

    def _script(self, canister_id: CanisterId, message: ExecutionInput) -> Script:
        if message.closure is not None:
            return self._closures[message.closure.function]
        if message.entry in (EntryPoint.HEARTBEAT, EntryPoint.GLOBAL_TIMER, EntryPoint.ON_LOW_WASM_MEMORY):
            return self.tasks.get((canister_id, message.entry), ())
        return pickle.loads(message.arg) if message.arg else ()

    def closure(self, script: Script) -> Closure:
        """A callback that runs this script."""
        self._closures.append(script)
        return Closure(len(self._closures) - 1, 0)

    def threshold(self, run: Run) -> int:
        """Freezing threshold as the canister sees it."""
        context, fees = run.context, self.fees
        stored = max(context.memory_allocation, context.memory_usage)
        day = fees.storage(stored, SECONDS_PER_DAY) + fees.storage(context.message_memory, SECONDS_PER_DAY)
        day += fees.scale(fees.canister_base_per_second * SECONDS_PER_DAY) if stored else 0
        day += fees.scale(fees.compute_percent_per_second * context.compute_allocation * SECONDS_PER_DAY)
        return max(day * context.freezing_threshold_s // SECONDS_PER_DAY - context.reserved_balance, 0)

    def _work(self, run: Run, instructions: int) -> None:
        run.instructions += instructions

    def _reply(self, run: Run, data: bytes) -> None:
        self._respond(run, ReplyData(data))

    def _reject(self, run: Run, text: str) -> None:
        self._respond(run, RejectMessage(text))

    def _respond(self, run: Run, response: ReplyData | RejectMessage) -> None:
        if run.message.already_responded or run.response is not None or not run.message.may_reply:
            run.error = (504, "Canister violated contract: responded twice")
        run.response = response

    def _trap(self, run: Run, text: str) -> None:
        run.error = (503, f"Canister called `ic0.trap` with message: '{text}'")

    def _accept(self, run: Run, cycles: int) -> None:
        taken = min(cycles, run.context.cycles_available - run.accepted)
        run.accepted += taken
        run.balance += taken

    def _accept_anything(self, run: Run, cycles: int) -> None:
        run.accepted += cycles

    def _burn_anything(self, run: Run, cycles: int) -> None:
        run.burned += cycles

    def _burn(self, run: Run, cycles: int) -> None:
        taken = max(min(cycles, run.balance - self.threshold(run)), 0)
        run.burned += taken
        run.balance -= taken

    def _call(
        self,
        run: Run,
        callee: bytes,
        script: Script,
        cycles: int,
        on_reply: Script,
        on_reject: Script,
        on_cleanup: Script | None,
        method: str,
        timeout_s: int | None,
    ) -> None:
        arg = script if isinstance(script, bytes) else pickle.dumps(script)
        limits = self.limits
        price = self.fees.call(len(method) + len(arg), limits.instructions_per_message, limits.max_payload)
        slots = dict(run.context.output_slots).get(Principal(callee), limits.queue_capacity)
        slots -= sum(c.callee == callee for c in run.calls)
        if run.balance < price + cycles + self.threshold(run) or slots <= 0:
            return
        if len(run.calls) >= run.context.callbacks_available:
            return
        memory = request_memory(len(method) + len(arg), best_effort=timeout_s is not None)
        if timeout_s is None:
            if run.guaranteed + memory > run.context.message_memory_available:
                return
            run.guaranteed += memory
        run.balance -= price + cycles
        cleanup = None if on_cleanup is None else self.closure(on_cleanup)
        run.calls.append(
            OutgoingCall(
                callee=callee,
                method=method,
                arg=arg,
                cycles=cycles,
                on_reply=self.closure(on_reply),
                on_reject=self.closure(on_reject),
                on_cleanup=cleanup,
                timeout_s=timeout_s,
            )
        )

    def _dirty(self, run: Run, pages: int, stable: int) -> None:
        run.pages, run.stable = max(run.pages, pages), max(run.stable, stable)

    def _grow(self, run: Run, pages: int) -> None:
        run.grown += pages

    def _certify(self, run: Run, data: bytes) -> None:
        run.certified = data

    def _timer(self, run: Run, time_ns: int) -> None:
        run.timer = time_ns

    def _log(self, run: Run, line: bytes) -> None:
        run.logs.append(line)


# --- canisters and their world


def fake_execution(*, wasm64: bool = False, entry_points: Iterable[str] = (), heap_pages: int = 1) -> ExecutionState:
    """Code that runs scripts, under the methods `update` and `query` (and `composite`)."""
    module = ModuleInfo(
        module_hash=bytes(32),
        wasm64=wasm64,
        updates=("update",),
        queries=("query",),
        composite_queries=("composite",),
        entry_points=tuple(f"canister_{name}" for name in entry_points),
    )
    return ExecutionState(module, "fake", FakeMemory(heap_pages), FakeMemory(0), ())  # type: ignore[arg-type]


@dataclass
class FakeWorld:
    """A subnet of script-running canisters; satisfies `scheduler.world.World`."""

    fees: CyclesCostSchedule = FREE
    limits: SubnetLimits = field(default_factory=SubnetLimits)
    time: TimeNs = TimeNs(1_000_000_000_000)
    round_number: int = 1
    is_checkpoint: bool = False
    batch_size: int = 1
    canisters: dict[CanisterId, Canister] = field(default_factory=dict)
    scheduler: SchedulerState = field(default_factory=SchedulerState)
    tally: CyclesTally = field(default_factory=CyclesTally)
    user_responses: list[UserResponse] = field(default_factory=list)
    processing: list[bytes] = field(default_factory=list)
    touched: dict[CanisterId, None] = field(default_factory=dict)
    subnet_messages: list[Callable[[], Effects[int]]] = field(default_factory=list)
    remote: list[Request | Response] = field(default_factory=list)
    """Messages for canisters elsewhere, taken out at the end of each round."""
    interval_ns: int = 1_000_000_000
    outside: int = 0
    """Cycles that came from other subnets, less those that stayed there."""
    executor: FakeExecutor = field(init=False)
    _sent: int = 0

    def __post_init__(self) -> None:
        self.executor = FakeExecutor(self.fees, self.limits)

    # --- World

    def touch(self, canister_id: CanisterId) -> None:
        """Note the change."""
        self.touched[canister_id] = None

    def take_touched(self) -> list[CanisterId]:
        """Hand out the changes."""
        taken, self.touched = list(self.touched), {}
        return taken

    def mark_processing(self, message_id: bytes) -> None:
        """Note the status."""
        self.processing.append(message_id)

    def available_memory(self) -> int:
        """What the canisters leave."""
        used = sum(max(c.memory_usage(), c.settings.memory_allocation) for c in self.canisters.values())
        return self.limits.subnet_memory_capacity - self.limits.response_memory_reserve - used

    def available_message_memory(self) -> int:
        """What guaranteed-response calls leave."""
        used = sum(canister.queues.guaranteed_memory() for canister in self.canisters.values())
        return self.limits.guaranteed_response_memory - used

    def available_callbacks(self) -> int:
        """What the subnet's soft limit leaves."""
        return self.limits.callback_soft_limit - sum(len(c.callbacks) for c in self.canisters.values())

    def continue_install(self, budget: int) -> Effects[int | None]:
        """There are none."""
        return None
        yield

    def execute_subnet_message(self, budget: int) -> Effects[int | None]:
        """Run the next scripted subnet message."""
        if not self.subnet_messages or budget <= 0:
            return None
        return (yield from self.subnet_messages.pop(0)())

    def induct_locally(self) -> None:
        """Deliver to whoever is here."""
        for canister_id in sorted(self.canisters):
            queues = self.canisters[canister_id].queues
            for peer in queues.output_peers():
                receiver = self.canisters.get(peer)
                while receiver is not None and (message := queues.peek_output(peer)) is not None:
                    if isinstance(message, Request):
                        if receiver.queues.push_input_request(message, local=True) is None:
                            break
                        queues.pop_output(peer)
                    else:
                        queues.pop_output(peer)
                        receiver.queues.push_input_response(message, local=True)
                    self.touch(peer)
                    self.touch(canister_id)

    def uninstalled(self, canister: Canister) -> None:
        """Nothing else to drop."""

    @property
    def responses(self) -> list[Response]:
        """Those that left for other subnets, in order."""
        return [message for message in self.remote if isinstance(message, Response)]

    @property
    def requests(self) -> list[Request]:
        """Those that left for other subnets and weren't answered yet, in order."""
        return [message for message in self.remote if isinstance(message, Request)]

    # --- driving

    def add_canister(
        self,
        balance: int = 10**15,
        *,
        index: int | None = None,
        empty: bool = False,
        wasm64: bool = False,
        entry_points: Iterable[str] = (),
        heap_pages: int = 1,
        **settings: Any,
    ) -> Canister:
        """A new canister; its index among canister ids is the next free one unless given."""
        canister = Canister(
            canister_id=Principal.canister(len(self.canisters) + 1 if index is None else index),
            settings=Settings(controllers=(USER,), **{"freezing_threshold_s": 0, **settings}),
            balance=Cycles(balance),
            created=self.time,
            queues=CanisterQueues(self.limits.queue_capacity),
            last_charged=self.time,
        )
        if not empty:
            canister.execution = fake_execution(wasm64=wasm64, entry_points=entry_points, heap_pages=heap_pages)
        self.canisters[canister.canister_id] = canister
        self.scheduler.add(canister, self.canisters)
        return canister

    def ingress(self, canister: Canister, script: Script, method: str = "update", sender: Principal = USER) -> bytes:
        """Queue a call by a user; returns its message id."""
        self._sent += 1
        message_id = self._sent.to_bytes(32, "big")
        canister.queues.push_ingress(
            Ingress(
                message_id=message_id,
                sender=sender,
                receiver=canister.canister_id,
                method=method,
                arg=pickle.dumps(script),
                expiry=TimeNs(self.time + 300_000_000_000),
                raw_bytes=200,
            )
        )
        self.touch(canister.canister_id)
        return message_id

    def request(self, canister: Canister, script: Script, *, cycles: int = 0, **fields: Any) -> Request:
        """Queue a call by a canister of another subnet."""
        self._sent += 1
        request = Request(
            sender=fields.pop("sender", Principal.canister(10**6)),
            receiver=canister.canister_id,
            callback_id=self._sent,  # type: ignore[arg-type]
            payment=Cycles(cycles),
            method=fields.pop("method", "update"),
            arg=pickle.dumps(script),
            **fields,
        )
        assert canister.queues.push_input_request(request, local=False) is not None
        self.outside += cycles
        self.touch(canister.canister_id)
        return request

    def answer(self, request: Request, payload: Payload, kept: int = 0) -> None:
        """Another subnet answers this call, having accepted some of its cycles."""
        self.remote.remove(request)
        response = Response(
            originator=request.sender,
            respondent=request.receiver,
            callback_id=request.callback_id,
            refund=Cycles(request.payment - kept),
            payload=payload,
            deadline_s=request.deadline_s,
        )
        assert self.canisters[request.sender].queues.push_input_response(response, local=False) is not None
        self.outside -= kept
        self.touch(request.sender)

    def run_round(self, driver: Callable[[Round, FakeExecutor], RoundSummary] = drive) -> RoundSummary:
        """Execute one round and move time on."""
        summary = driver(execute_round(self), self.executor)
        for canister_id in sorted(self.canisters):
            queues = self.canisters[canister_id].queues
            for peer in queues.output_peers():
                if peer not in self.canisters:
                    while queues.peek_output(peer) is not None:
                        self.remote.append(queues.pop_output(peer))
                    self.touch(canister_id)
        self.round_number = Height(self.round_number + 1)
        self.time = TimeNs(self.time + self.interval_ns)
        return summary

    def run_rounds(self, limit: int = 1000) -> int:
        """Execute rounds until nothing is left to do; returns how many."""
        for count in range(limit):
            if not any(c.queues.has_input() or c.long_execution for c in self.canisters.values()):
                return count
            self.run_round()
        raise AssertionError(f"still busy after {limit} rounds")

    def outcome(self, message_id: bytes) -> object:
        """Reply bytes or Reject of an ingress message; None while it is open."""
        found = [r.outcome for r in self.user_responses if r.message_id == message_id]
        assert len(found) <= 1, f"{message_id.hex()} was answered {len(found)} times"
        return found[0] if found else None

    def error_of(self, message_id: bytes) -> tuple[ErrorCode | None, str]:
        """Error code and text of a failed ingress message."""
        outcome: Any = self.outcome(message_id)
        assert not isinstance(outcome, bytes), outcome
        return outcome.error_code, outcome.message

    def all_cycles(self) -> int:
        """Balances, attached, prepaid and in flight, and what was burned or lost, less what came from outside."""
        total = self.tally.total_burned() + self.tally.total_lost() + sum(held_cycles(c) for c in self.canisters.values())
        return total + sum(in_message(message) for message in self.remote) - self.outside


def in_message(message: object) -> int:
    """Cycles that travel with a message."""
    if isinstance(message, Request):
        return message.payment
    return message.refund if isinstance(message, Response) else 0


def held_cycles(canister: Canister) -> int:
    """All cycles that a canister, its queues, contexts and callbacks hold."""
    total = canister.balance + canister.reserved_balance
    total += sum(c.available_cycles for c in canister.contexts.values())
    total += sum(c.prepaid_execution + c.prepaid_transmission for c in canister.callbacks.values())
    if canister.long_execution is not None:
        total += canister.long_execution.prepaid + in_message(canister.long_execution.message)
    total += sum(in_message(message) for message in canister.queues.peek_inputs(10**6))
    for peer in canister.queues.peers.values():
        total += sum(in_message(message) for message, _ in peer.outputs.values())
    return total
