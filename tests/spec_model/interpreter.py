"""One message of a canister in the model: what a script does, or why it traps. Spec: "System imports", the execution state."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.spec_model import prices
from tests.spec_model.script import (
    Accept,
    Act,
    Burn,
    CallCanister,
    Manage,
    OnHeartbeat,
    OnPreUpgrade,
    OnTimer,
    Places,
    Reject,
    Remember,
    Reply,
    ReplyMemory,
    Script,
    SetTimer,
    Trap,
    argument_of,
)
from tests.spec_model.state import Answer, Memory

CALLED_TRAP, CONTRACT = "IC0503", "IC0504"
CALLBACKS = ("reply", "reject")


class Trapped(Exception):
    """The message traps; nothing of it stays."""

    def __init__(self, error: str, text: str) -> None:
        super().__init__(text)
        self.answer = Answer(code=5, error=error, text=text)


@dataclass(frozen=True)
class Performed:
    """A call that was performed."""

    act: CallCanister | Manage
    argument: bytes
    on_reply: tuple[int, int]
    on_cleanup: int | None
    cost: int
    """Beside the attached cycles."""


@dataclass
class Run:
    """A message under way, and afterwards its effects. `kind`: update, query, reply, reject, cleanup, task, or init."""

    kind: str
    memory: Memory
    balance: int
    """What may be spent."""
    available: int
    """Cycles of the call that can be accepted."""
    may_respond: bool
    now: int
    places: Places
    message_limit: int
    answer: Answer | None = None
    accepted: int = 0
    burned: int = 0
    timer: int | None = None
    calls: list[Performed] = field(default_factory=list)

    def run(self, script: Script) -> Run:
        """Do all of a script.

        Raises: Trapped.
        """
        for act in script:
            self._do(act)
        return self

    def _only_in(self, *kinds: str) -> None:
        if self.kind not in kinds:
            raise Trapped(CONTRACT, "cannot be executed in")

    def _do(self, act: Act) -> None:
        match act:
            case Accept(cycles):
                self._only_in("update", "query", *CALLBACKS)
                amount = 0 if self.answer is not None or not self.may_respond else min(cycles, self.available)
                self.available -= amount
                self.accepted += amount
                self.balance += amount
            case Burn(cycles):
                self._only_in("init", "update", "query", *CALLBACKS, "cleanup", "task")
                amount = min(cycles, self.balance)
                self.balance -= amount
                self.burned += amount
            case Remember(data):
                self.memory.remembered = data
            case Reply(data):
                self._respond(Answer(reply=data))
            case ReplyMemory():
                self._respond(Answer(reply=self.memory.remembered))
            case Reject(text):
                self._respond(Answer(code=4, error="IC0406", text=text))
            case Trap(text):
                raise Trapped(CALLED_TRAP, f"Canister called `ic0.trap` with message: '{text}'")
            case SetTimer(delay):
                self._only_in("init", "update", *CALLBACKS, "cleanup", "task")
                self.timer = self.now + delay if delay else 0
            case OnTimer(script):
                self.memory.timer = script
            case OnHeartbeat(script):
                self.memory.heartbeat = script
            case OnPreUpgrade(script):
                self.memory.pre_upgrade = script
            case CallCanister() | Manage():
                self._call(act)

    def _respond(self, answer: Answer) -> None:
        self._only_in("update", "query", *CALLBACKS)
        if self.answer is not None or not self.may_respond:
            raise Trapped(CONTRACT, "the call is already replied")
        self.answer = answer

    def _call(self, act: CallCanister | Manage) -> None:
        """The universal canister keeps the callbacks' programs, attaches cycles, and traps if the call can't be performed."""
        reply, reject = self.memory.keep(act.on_reply), self.memory.keep(act.on_reject)
        self._only_in("update", *CALLBACKS, "task")
        if self.balance < act.cycles:
            raise Trapped(CONTRACT, "is out of cycles")
        self.balance -= act.cycles
        cleanup = None
        if isinstance(act, CallCanister) and act.on_cleanup is not None:
            cleanup = self.memory.keep(act.on_cleanup)
        argument = argument_of(act, self.places)
        cost = prices.call(len(act.method) + len(argument), self.message_limit)
        if self.balance < cost:
            raise Trapped(CALLED_TRAP, "call_perform failed")
        self.balance -= cost
        self.calls.append(Performed(act, argument, (reply, reject), cleanup, cost))
