"""Drives rules that yield effects: sends what they ask to sandboxes and compiler, and the answers back to them.

Plumbing. All cores of a round are driven at once, each up to its next effect; queries go on beside. Which answer arrives first
never shows in a result: a core only sees its own answers, and cores are merged in their order.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from configs.limits import SubnetLimits
from ic_types.errors import SandboxFailure
from sandbox.controller import SandboxController
from sandbox.execution_state import ExecutionState
from sandbox.module_info import CompileDone, CompileRefused
from scheduler.effects import (
    AbortMessage,
    Compiled,
    CompileError,
    CompileModule,
    Effect,
    EffectResult,
    Effects,
    ReleaseFork,
    ResumeMessage,
    RunMessage,
)
from scheduler.round import Parallel, Round, RoundSummary

WAIT_MS = 50
"""How long a round waits for sandboxes before it looks for queries."""


@dataclass(slots=True, eq=False)
class _Task:
    """A rule under way."""

    rule: Effects[Any]
    done: Callable[[Any], None]
    is_query: bool


class Driver:
    """Runs rules on the sandboxes of a node."""

    def __init__(self, controller: SandboxController, limits: SubnetLimits) -> None:
        self._controller = controller
        self._limits = limits
        self._keys = itertools.count(1)
        self._waiting: dict[int, _Task] = {}
        self.on_wait: Callable[[], None] = lambda: None
        """Called between waits, so that queries that arrive during a round are started."""

    @property
    def busy(self) -> bool:
        """Rules wait for an answer."""
        return bool(self._waiting)

    def run_round(self, rounds: Round) -> RoundSummary:
        """Drive a round to its end.

        Raises: SandboxFailure when a message can't be executed on this machine; the node stops then.
        """
        result: Any = None
        while True:
            try:
                step = rounds.send(result)
            except StopIteration as stop:
                return cast("RoundSummary", stop.value)
            if type(step) is Parallel:
                result = self._run_all(step.cores)
            else:
                result = self._run_all((_single(cast("Effect", step)),))[0]

    def start_query(self, rule: Effects[Any], done: Callable[[Any], None]) -> None:
        """Run a rule on query sandboxes beside whatever else goes on; `done` gets its result."""
        self._advance(_Task(rule, done, True), None)

    def drop_sandboxes(self, execution: ExecutionState) -> None:
        """End the sandbox of an execution state; the next message gets another one from committed memory."""
        self._controller.drop(execution)

    def step(self, timeout_ms: int) -> None:
        """Wait for answers and go on with the rules that wait for them."""
        for key, answer in self._controller.completions(timeout_ms):
            task = self._waiting.pop(cast("int", key), None)
            if task is not None:
                self._advance(task, answer)

    def _run_all(self, rules: tuple[Effects[Any], ...]) -> list[Any]:
        results: list[Any] = [None] * len(rules)
        left = len(rules)

        def finish(position: int) -> Callable[[Any], None]:
            def done(value: Any) -> None:
                nonlocal left
                results[position] = value
                left -= 1

            return done

        for position, rule in enumerate(rules):
            self._advance(_Task(rule, finish(position), False), None)
        while left:
            self.step(WAIT_MS)
            if left:
                self.on_wait()
        return results

    def _advance(self, task: _Task, answer: Any) -> None:
        """Send an answer to a rule, and carry out effects until one has to be waited for."""
        match answer:
            case CompileDone():
                answer = Compiled(answer.info, answer.artefact)
            case CompileRefused():
                answer = CompileError(answer.reason, answer.charged_instructions)
            case _:
                pass
        while True:
            try:
                if isinstance(answer, SandboxFailure):
                    effect = task.rule.throw(answer)
                else:
                    effect = task.rule.send(answer)
            except StopIteration as stop:
                task.done(stop.value)
                return
            if type(effect) is AbortMessage:
                self._controller.abort(effect.execution)
                answer = None
                continue
            if type(effect) is ReleaseFork:
                self._controller.release(effect.execution)
                answer = None
                continue
            key = next(self._keys)
            self._waiting[key] = task
            self._start(key, task, effect)
            return

    def _start(self, key: int, task: _Task, effect: Effect) -> None:
        controller = self._controller
        if type(effect) is RunMessage:
            if task.is_query:
                execution, message = effect.execution, effect.message
                controller.query(key, effect.canister_id, execution, message, effect.context, own_fork=effect.own_fork)
            else:
                upcoming = effect.upcoming
                controller.run(key, effect.canister_id, effect.execution, effect.message, effect.context, upcoming)
        elif type(effect) is ResumeMessage:
            controller.resume(key, effect.execution)
        else:
            assert type(effect) is CompileModule, f"unknown effect {effect}"
            controller.compile(key, effect.wasm, self._limits)


def _single(effect: Effect) -> Effects[EffectResult]:
    """A rule of one effect."""
    result = yield effect
    return result
