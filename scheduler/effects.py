"""What a round asks of the plumbing: run a message, go on with it, give it up, compile a module.

Rule module. The rules are generators: they yield an Effect and are sent its result, so they read top-down while the node runs
several scheduler cores at once. Results don't depend on the order in which sandboxes answer, since a core only sees its own.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from ic_types.fast_init import fast_init
from ic_types.principal import CanisterId
from sandbox.execution_state import ExecutionState
from sandbox.module_info import ModuleInfo
from sandbox.protocol import Answer, ExecutionContext, ExecutionInput


@fast_init
@dataclass(frozen=True, slots=True, eq=False)
class RunMessage:
    """Run one message on committed state; answered by an Answer."""

    canister_id: CanisterId
    execution: ExecutionState
    message: ExecutionInput
    context: ExecutionContext
    upcoming: tuple[ExecutionInput, ...] = ()
    """What will probably be run next on the same execution state: may be run ahead, never changes a result."""
    own_fork: bool = False
    """Of a query: the state is a fork that this query alone commits to, until it releases it."""


@dataclass(frozen=True, slots=True, eq=False)
class ResumeMessage:
    """Run the next slice of the paused message; answered by an Answer.

    Message and context are those of the first slice, for the case that its sandbox is gone and has to catch up.
    """

    canister_id: CanisterId
    execution: ExecutionState
    slices_done: int


@dataclass(frozen=True, slots=True, eq=False)
class AbortMessage:
    """Give up the paused message of this execution state; answered by None once that is sure to happen."""

    canister_id: CanisterId
    execution: ExecutionState


@dataclass(frozen=True, slots=True, eq=False)
class ReleaseFork:
    """A query needs its own fork no longer; answered by None at once."""

    execution: ExecutionState


@dataclass(frozen=True, slots=True, eq=False)
class CompileModule:
    """Validate, instrument and compile; answered by CompileResult."""

    wasm: bytes


@dataclass(frozen=True, slots=True)
class Compiled:
    """The module is good; `artefact` names it in the cache."""

    info: ModuleInfo
    artefact: str


@dataclass(frozen=True, slots=True)
class CompileError:
    """The module breaks a rule (IC0505)."""

    reason: str
    charged_instructions: int


CompileResult: TypeAlias = Compiled | CompileError
Effect: TypeAlias = RunMessage | ResumeMessage | AbortMessage | ReleaseFork | CompileModule
EffectResult: TypeAlias = Answer | CompileResult | None

T = TypeVar("T")
Effects: TypeAlias = Generator[Effect, EffectResult, T]
"""A rule that yields effects and returns a T."""
