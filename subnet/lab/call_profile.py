"""One call of a module in a real sandbox, counted function by function.

Plumbing. The module is installed first (start function and `canister_init`), unless the call is an entry point of the install
itself. The sandbox is the one that networks use, confined like all; calls that the canister makes go nowhere.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from configs.topology import DEFAULT_CHAIN_KEYS, chain_key_texts
from ic_types.errors import BadInput, SandboxFailure
from ic_types.principal import ANONYMOUS, Principal
from sandbox import profiling
from sandbox.artefacts import native_code, sealed
from sandbox.controller import SandboxController
from sandbox.execution_state import ExecutionState
from sandbox.launcher import ForkLauncher
from sandbox.main import run_sandbox
from sandbox.module_info import ModuleInfo
from sandbox.profiling import CallTree, Node
from sandbox.protocol import (
    EntryPoint,
    Environment,
    ExecutionContext,
    ExecutionInput,
    Finished,
    Trapped,
)
from sandbox.wasm import decoding, describe
from sandbox.wasm.module import decode
from sandbox.wasm.prepare import prepare

CANISTER, SUBNET = Principal.canister(0), Principal.canister(1 << 20)
GENESIS_NS = 1_700_000_000_000_000_000
DIRTY_PAGES = "[changed pages of the heap]"
UNTOLD = "[outside of functions]"
_BALANCE = 10**15
_WATCHDOG_S = 3600.0
_SYSTEM = {
    f"canister_{entry.value}": entry
    for entry in EntryPoint
    if entry.value not in ("update", "query", "composite_query", "reply", "reject", "cleanup")
}
_INSTALLING = (EntryPoint.START, EntryPoint.INIT, EntryPoint.POST_UPGRADE)


@dataclass(frozen=True, slots=True)
class Step:
    """A path of calls with what its last function took by itself."""

    stack: tuple[str, ...]
    own: int
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallProfile:
    """What a call took. The steps' own instructions add up to the total."""

    entry: EntryPoint
    method: str
    answer: Finished | Trapped
    total: int
    """Instructions, changed heap pages included: what the canister is charged."""
    steps: tuple[Step, ...]


def entry_of(info: ModuleInfo, method: str) -> EntryPoint:
    """What a method name, or the name of an entry point such as `canister_init`, stands for.

    Raises: BadInput naming what the module has.
    """
    for names, entry in (
        (info.updates, EntryPoint.UPDATE),
        (info.queries, EntryPoint.QUERY),
        (info.composite_queries, EntryPoint.COMPOSITE_QUERY),
    ):
        if method in names:
            return entry
    if method in info.entry_points:
        return _SYSTEM[method]
    there = [*info.updates, *info.queries, *info.composite_queries, *info.entry_points]
    raise BadInput(f"the module has no method {method!r}; it has: {', '.join(there) or 'none'}")


def profile_call(
    wasm: bytes,
    method: str,
    arg: bytes,
    init_arg: bytes,
    caller: Principal = ANONYMOUS,
    limits: SubnetLimits | None = None,
) -> CallProfile:
    """Install the module in a sandbox and run one call. Needs a process that has used neither ZeroMQ nor wasmtime.

    Raises: InvalidWasm, BadInput for a method that isn't there or an install that fails.
    """
    limits = limits or SubnetLimits()
    tree = CallTree()
    launcher = ForkLauncher(functools.partial(_profiled_sandbox, tree))
    folder = tempfile.mkdtemp(prefix="icsim-profile-")
    context: zmq.Context[Any] = zmq.Context()
    try:
        prepared = prepare(wasm, limits, profile=True)
        info, code = prepared.info, native_code(prepared)
        entry = entry_of(info, method)
        controller = SandboxController(
            context=context,
            endpoint=f"ipc://{folder}/node",
            launcher=launcher,
            artefact_loader=lambda _name: sealed(code, "profiled module"),
            environment_for=lambda canister: _environment(canister, limits),
            compiler_endpoint=None,
            watchdog_s=_WATCHDOG_S,
            name="profile",
        )
        try:
            state = _installed(controller, info, entry, init_arg, limits)
            answer = _run(controller, state, _message(entry, method, arg, caller, limits))
        finally:
            controller.close()
    finally:
        launcher.close()
        context.destroy(linger=0)
        shutil.rmtree(folder, ignore_errors=True)
    pages = _page_charge(state, answer, entry, limits)
    names = describe.function_names(decode(decoding.decode(wasm)))
    steps = _steps(list(tree.nodes()), tree.current, names, answer.instructions, pages)
    return CallProfile(entry=entry, method=method, answer=answer, total=answer.instructions + pages, steps=steps)


def _profiled_sandbox(tree: CallTree, endpoint: str, identity: bytes, unix_socket: Any, title: str) -> None:
    profiling.install(tree)
    run_sandbox(endpoint, identity, unix_socket, title)


def _environment(canister: Principal, limits: SubnetLimits) -> Environment:
    return Environment(
        canister_id=canister,
        subnet_id=SUBNET,
        root_key=bytes(133),
        subnet_type="application",
        limits=limits,
        fees=(fees := CyclesCostSchedule()),
        signing_fees=dict.fromkeys(chain_key_texts(DEFAULT_CHAIN_KEYS), fees.scale(fees.signature)),
    )


def _message(entry: EntryPoint, method: str, arg: bytes, caller: Principal, limits: SubnetLimits) -> ExecutionInput:
    """A message that is never paused."""
    asks = entry in (EntryPoint.QUERY, EntryPoint.COMPOSITE_QUERY)
    limit = limits.instructions_per_query if asks else limits.instructions_per_message
    if entry in (*_INSTALLING, EntryPoint.PRE_UPGRADE):
        limit = limits.instructions_per_install
    return ExecutionInput(
        entry=entry,
        method=method if asks or entry is EntryPoint.UPDATE else "",
        caller=caller,
        arg=arg,
        replicated=not asks,
        time_ns=GENESIS_NS,
        instruction_limit=limit,
        slice_limit=limit,
        may_reply=asks or entry is EntryPoint.UPDATE,
    )


def _installed(
    controller: SandboxController, info: ModuleInfo, entry: EntryPoint, init_arg: bytes, limits: SubnetLimits
) -> ExecutionState:
    """The state after an install, as far as it comes before the entry point."""
    state = ExecutionState.fresh(info, "profiled")
    for step in (EntryPoint.START, EntryPoint.INIT):
        name = f"canister_{step.value}"
        if entry is step or (entry is EntryPoint.POST_UPGRADE and step is EntryPoint.INIT):
            break
        if name in info.entry_points:
            answer = _run(controller, state, _message(step, "", init_arg, ANONYMOUS, limits))
            if not isinstance(answer, Finished):
                what = f"{name} fails with {len(init_arg)} bytes of argument (--init gives another)"
                raise BadInput(f"the module can't be installed: {what}: {answer.message}")
            state.commit(answer)
    return state


def _run(controller: SandboxController, state: ExecutionState, message: ExecutionInput) -> Finished | Trapped:
    context = ExecutionContext(balance=_BALANCE, memory_usage=state.memory_bytes())
    if message.replicated:
        controller.run("call", CANISTER, state, message, context)
    else:
        controller.query("call", CANISTER, state.fork(), message, context)
    completions = controller.completions(-1)
    result = completions[0][1]
    if isinstance(result, SandboxFailure):
        raise result
    assert isinstance(result, (Finished, Trapped)), "never sliced, so never paused"
    return result


def _page_charge(state: ExecutionState, answer: Finished | Trapped, entry: EntryPoint, limits: SubnetLimits) -> int:
    """Instructions for changed heap pages, which the node adds after the call; a query pays none."""
    if entry in (EntryPoint.QUERY, EntryPoint.COMPOSITE_QUERY):
        return 0
    after = state.fork()
    pages = after.heap.commit(answer.heap.indices, answer.heap.content)
    return pages * limits.dirty_page_overhead * (limits.wasm64_dirty_page_multiplier if state.module.wasm64 else 1)


def _steps(nodes: Sequence[Node], current: int, names: Sequence[str], counted: int, pages: int) -> tuple[Step, ...]:
    stacks: list[tuple[str, ...]] = []
    for node in nodes:
        stacks.append((*stacks[node.parent], names[node.frame]) if node.frame >= 0 else ())
    own = [node.own for node in nodes]
    if nodes:
        own[current] += counted - sum(own)  # since the last call or return: the end of a call that trapped
    steps = [Step(stack or (UNTOLD,), own[k], nodes[k].calls) for k, stack in enumerate(stacks) if stack or own[k]]
    if pages:
        steps.append(Step((DIRTY_PAGES,), pages, 0))
    return tuple(steps)


@dataclass(slots=True)
class FunctionCounts:
    """What a function took in all."""

    calls: int = 0
    own: int = 0
    whole: int = 0
    """With callees; a call below itself counts once."""


def by_function(steps: Sequence[Step]) -> list[tuple[str, FunctionCounts]]:
    """Functions by their own instructions, the most expensive first."""
    found: dict[str, FunctionCounts] = {}
    for step in steps:
        last = found.setdefault(step.stack[-1], FunctionCounts())
        last.calls += step.calls
        last.own += step.own
        for name in dict.fromkeys(step.stack):
            found.setdefault(name, FunctionCounts()).whole += step.own
    return sorted(found.items(), key=lambda item: (-item[1].own, item[0]))
