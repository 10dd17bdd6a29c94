"""A line to one sandbox: the conversation, the process it is held with, and the messages that wait for it.

Rule module.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ic_types.principal import CanisterId
from sandbox.conversation import Conversation, Talk
from sandbox.execution_state import ExecutionState
from sandbox.pairing import Reply
from sandbox.protocol import Answer, EntryPoint, Environment, ExecutionContext, ExecutionInput, Paused
from sandbox.sandbox_pool import SandboxProcess

_INSTALL: Final = frozenset((EntryPoint.START, EntryPoint.INIT, EntryPoint.PRE_UPGRADE, EntryPoint.POST_UPGRADE))


@dataclass(slots=True, eq=False)
class Task:
    """One message under way."""

    key: Hashable
    message: ExecutionInput | None
    """None: the next slice of the paused message."""
    context: ExecutionContext | None = None
    upcoming: Sequence[ExecutionInput] = ()
    snapshot: ExecutionState | None = None
    """What a query runs on."""
    failures: int = 0
    deaths: int = 0
    """In a row."""
    talk: Talk | None = None
    awaited: int = 0
    """Replies that the conversation still waits for; at 0 it waits for what was sent ahead."""
    replies: list[Reply] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Line:
    """A conversation, its process and its tasks."""

    conversation: Conversation
    query: bool
    process: SandboxProcess | None = None
    tasks: deque[Task] = field(default_factory=deque)
    """The first is under way or waits for its turn; only query lines have more."""
    expected: deque[int] = field(default_factory=deque)
    """Cookies of the replies that are due."""
    deadline: float = 0.0
    """When the watchdog takes the sandbox for hanging (monotonic seconds)."""

    @property
    def idle(self) -> bool:
        """Its process can be ended without losing work."""
        return self.process is not None and not self.tasks and self.conversation.paused is None

    def fault_point(self, task: Task, answer: Answer) -> str:
        """Name of the point at which a test may kill the sandbox, now that this answer arrived."""
        if self.query:
            return "query"
        if isinstance(answer, Paused):
            return "paused"
        return "install" if task.message is not None and task.message.entry in _INSTALL else "answered"

    def describe(self, task: Task) -> str:
        """The message and its canister, for people."""
        conversation, message = self.conversation, task.message
        if message is None:
            assert conversation.paused is not None, "a slice of something"
            message = conversation.paused.message
        name = f" {message.method!r}" if message.method else ""
        return f"{message.entry.value}{name} of canister {conversation.canister_id}"

    def about(self) -> dict[str, object]:
        """For logs."""
        return {"canister": str(self.conversation.canister_id), "pid": None if self.process is None else self.process.pid}


@dataclass(slots=True)
class LineMaker:
    """What the conversations of a node have in common."""

    environment_for: Callable[[CanisterId], Environment]
    batch_size: int
    reuse_instances: bool
    _cookies: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def make(self, canister_id: CanisterId, execution: ExecutionState, *, query: bool, tracking: bool) -> Line:
        """A line without a process."""
        conversation = Conversation(
            canister_id,
            execution,
            self.environment_for(canister_id),
            self.batch_size,
            tracking=tracking,
            reuse_instances=self.reuse_instances,
            cookies=self._cookies,
        )
        return Line(conversation, query)
