"""The rules of the talk with a sandbox: answers depend on neither batch size, kills, nor what was run ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_sandbox import CANISTER, ENVIRONMENT, ModelSandbox, context, message, new_state

from ic_types.errors import SandboxFailure
from sandbox.conversation import Conversation, Talk
from sandbox.execution_state import ExecutionState
from sandbox.protocol import (
    Answer,
    EntryPoint,
    ExecutionInput,
    Finished,
    Paused,
    Stop,
    Trapped,
)
from sandbox.requests import Executed, Open

PAGES = st.integers(0, 15)
OPS = st.one_of(
    st.tuples(st.just("add"), PAGES, st.integers(0, 3)),
    st.tuples(st.just("stable"), st.integers(0, 40), st.integers(0, 3)),
    st.tuples(st.just("global"), st.integers(0, 2)),
    st.tuples(st.just("grow"), st.integers(0, 1)),
    st.just(("balance",)),
    st.just(("pause",)),
    st.just(("trap",)),
)
ENTRIES = st.sampled_from([EntryPoint.UPDATE] * 5 + [EntryPoint.QUERY])


@dataclass(frozen=True)
class Plan:
    """A message and what the node does with its answers."""

    ops: tuple[tuple[object, ...], ...]
    entry: EntryPoint
    balance: int
    commit: bool
    surprise: bool
    """It wasn't among the upcoming messages that were told before."""
    give_up: bool
    """Paused work is aborted after its first slice."""

    def message(self) -> ExecutionInput:
        """As the node asks for it."""
        return message(*self.ops, entry=self.entry)


PLANS = st.lists(
    st.builds(
        Plan,
        ops=st.lists(OPS, min_size=1, max_size=4).map(tuple),
        entry=ENTRIES,
        balance=st.integers(1, 5),
        commit=st.sampled_from([True] * 6 + [False]),
        surprise=st.sampled_from([False] * 5 + [True]),
        give_up=st.sampled_from([False] * 3 + [True]),
    ),
    min_size=1,
    max_size=14,
)


@dataclass
class Node:
    """Drives one conversation against model sandboxes, killing them where told."""

    batch_size: int
    kills: list[bool] = field(default_factory=list)
    delays: list[bool] = field(default_factory=list)
    """Whether replies to what was sent ahead stay under way a little longer."""
    fresh: bool = False
    """Every message gets a sandbox of its own."""
    execution: ExecutionState = field(default_factory=new_state)
    sandbox: ModelSandbox | None = None
    opened: int = 0
    requests: int = 0

    def __post_init__(self) -> None:
        self.talk = Conversation(CANISTER, self.execution, ENVIRONMENT, self.batch_size)
        self.sent: deque[Any] = deque()
        """Requests sent ahead that the sandbox hasn't read."""

    def lose(self, *, failed: bool) -> None:
        """The sandbox is gone, with all that was sent to it."""
        self.sandbox = None
        self.sent.clear()
        self.talk.forget_sandbox(failed=failed)

    def send_ahead(self, upcoming: Sequence[ExecutionInput]) -> None:
        """What the sandbox may do while the node is busy."""
        self.sent += self.talk.run_ahead(upcoming)

    def _land(self) -> None:
        """Let the sandbox answer the next request that was sent ahead."""
        assert self.sandbox is not None
        self.requests += 1
        if self._kill():
            raise SandboxFailure("killed")
        self.talk.land(self.sandbox.handle(self.sent.popleft()))

    def _kill(self) -> bool:
        return self.kills.pop() if self.kills else False

    def drive(self, talk: Talk, upcoming: Sequence[ExecutionInput] = ()) -> Answer:
        """Carry requests and replies until the answer is there."""
        replies = None
        while True:
            try:
                requests = next(talk) if replies is None else talk.send(replies)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            replies = []
            if not requests:
                self._land()
                continue
            self.send_ahead(upcoming)
            for request in requests:
                self.requests += 1
                if self._kill():
                    raise SandboxFailure("killed")
                if isinstance(request, Open):
                    assert not self.sent or self.sandbox is None
                    self.sandbox, self.opened = ModelSandbox(), self.opened + 1
                    replies.append(self.sandbox.open(request, self.execution.heap.fd, self.execution.stable.fd))
                else:
                    assert self.sandbox is not None
                    replies.append(self.sandbox.handle(request))

    def ask(self, plan: Plan, upcoming: list[ExecutionInput]) -> Answer:
        """One message, with new sandboxes as long as they are killed."""
        while True:
            try:
                answer = self.drive(self.talk.run(plan.message(), context(plan.balance), upcoming), upcoming)
            except SandboxFailure:
                self.lose(failed=True)
            else:
                self._meanwhile(upcoming)
                return answer

    def _meanwhile(self, upcoming: Sequence[ExecutionInput]) -> None:
        """The sandbox goes on while the node is busy with an answer."""
        try:
            self.send_ahead(upcoming)
            while self.sent and not (self.delays.pop() if self.delays else False):
                self._land()
        except SandboxFailure:
            self.lose(failed=False)

    def resume(self) -> Answer:
        """One slice, likewise."""
        while True:
            try:
                return self.drive(self.talk.resume())
            except SandboxFailure:
                self.lose(failed=True)


def play(plans: list[Plan], node: Node) -> list[Answer]:
    """All answers, in order."""
    answers = []
    for k, plan in enumerate(plans):
        upcoming = [later.message() for later in plans[k + 1 :]]
        for j, later in enumerate(plans[k + 1 :]):
            if later.surprise:
                upcoming[j] = message(("add", 3, 9))
        if node.fresh or node._kill():
            node.lose(failed=False)
        answer = node.ask(plan, upcoming)
        answers.append(answer)
        while isinstance(answer, Paused):
            if plan.give_up:
                node.talk.give_up()
                break
            answer = node.resume()
            answers.append(answer)
        if isinstance(answer, Finished) and plan.commit and plan.entry is not EntryPoint.QUERY:
            node.execution.commit(answer)
    return answers


def content(execution: ExecutionState) -> tuple[bytes, bytes, tuple[int, ...]]:
    """What is committed."""
    return execution.heap.root_hash(), execution.stable.root_hash(), execution.globals


@given(
    plans=PLANS,
    batch_size=st.sampled_from([1, 2, 7, 100]),
    portion=st.sampled_from([1, 2, 25]),
    kills=st.lists(st.booleans(), max_size=12),
    delays=st.lists(st.booleans(), max_size=20),
)
@settings(deadline=None, max_examples=300)
def test_answers_depend_on_neither_batch_size_nor_kills(
    plans: list[Plan], batch_size: int, portion: int, kills: list[bool], delays: list[bool]
) -> None:
    """Batches with kills give the answers and the memory of one message at a time, each in a sandbox of its own."""
    calm, wild = Node(1, fresh=True), Node(batch_size, kills, delays)
    wild.talk.portions.size = min(portion, batch_size)
    assert play(plans, wild) == play(plans, calm)
    assert content(wild.execution) == content(calm.execution)


def simple(*ops: tuple[object, ...], **changes: object) -> Plan:
    """A plan where all goes as foreseen."""
    plan = Plan(ops, EntryPoint.UPDATE, 1, commit=True, surprise=False, give_up=False)
    return replace(plan, **changes)


def test_foreseen_messages_take_one_request() -> None:
    """Ten messages that were told before are one Open and one Execute."""
    node = Node(100)
    play([simple(("add", 1, 1))] * 10, node)
    assert (node.requests, node.talk.hits, node.talk.misses) == (2, 9, 0)
    assert int.from_bytes(node.execution.heap.read_page(1)[:8], "little") == 10


def test_sandbox_goes_on_while_the_node_commits() -> None:
    """A long queue goes in portions, two of them under way at once, and the sandbox never waits for the node."""
    node = Node(8)
    node.talk.portions.size = 2
    plans = [simple(("add", 1, 1))] * 40
    for k, plan in enumerate(plans):
        answer = node.ask(plan, [later.message() for later in plans[k + 1 :]])
        assert isinstance(answer, Finished)
        assert len(node.talk.ahead) + 2 * len(node.talk.flights) >= min(3, 38 - k)
        node.execution.commit(answer)
    assert (node.requests, node.talk.hits, node.talk.misses) == (21, 39, 0)


def test_what_was_sent_behind_a_trap_is_skipped() -> None:
    """A message that fails while others were sent behind it: they run after the reset, on what is committed."""
    node = Node(8, delays=[True] * 20)
    node.talk.portions.size = 2
    plans = [simple(("add", 1, 1))] * 4 + [simple(("add", 1, 5), ("trap",))] + [simple(("add", 1, 1))] * 5
    answers = play(plans, node)
    assert [type(answer) for answer in answers] == [Finished] * 4 + [Trapped] + [Finished] * 5
    assert answers[-1].response.data == (9).to_bytes(8, "little")  # type: ignore[union-attr]
    assert node.opened == 1


def test_uncommitted_answer_discards_what_ran_on_it() -> None:
    """When the node doesn't commit an answer, the next message sees the state before it."""
    node = Node(100)
    answers = play([simple(("add", 1, 5), commit=False), simple(("add", 1, 1))], node)
    assert isinstance(answers[1], Finished)
    assert answers[1].response.data == (1).to_bytes(8, "little")  # type: ignore[union-attr]
    assert node.talk.misses == 1


def test_waiting_message_is_not_continued_on_discarded_pages() -> None:
    """A message that waits for its context on top of something uncommitted is run again."""
    node = Node(100)
    answers = play([simple(("add", 1, 5), commit=False), simple(("add", 1, 1), ("balance",), balance=4)], node)
    assert isinstance(answers[1], Finished)
    assert answers[1].response.data == (1).to_bytes(8, "little") + (4).to_bytes(8, "little")  # type: ignore[union-attr]


def test_context_is_that_of_the_message() -> None:
    """Each message sees its own balance, also when it was run ahead."""
    node = Node(100)
    answers = play([simple(("balance",), balance=k) for k in range(1, 6)], node)
    assert [int.from_bytes(a.response.data, "little") for a in answers] == [1, 2, 3, 4, 5]  # type: ignore[union-attr]
    assert node.opened == 1


def test_trap_leaves_no_trace() -> None:
    """Pages, size and globals of a trapped message are gone when the next one runs."""
    node = Node(100)
    trap = simple(("add", 1, 5), ("grow", 3), ("global", 3), ("stable", 20, 1), ("trap",))
    answers = play([simple(("add", 1, 1)), trap, simple(("add", 1, 1), ("global", 0), ("grow", 0), ("stable", 20, 0))], node)
    assert isinstance(answers[1], Trapped)
    data = answers[2].response.data  # type: ignore[union-attr]
    assert [int.from_bytes(data[k : k + 8], "little") for k in range(0, 32, 8)] == [2, 7, 1, 0]
    assert node.opened == 1


def test_paused_work_is_caught_up_in_a_new_sandbox() -> None:
    """A sandbox that is lost between two slices is replaced by one that runs the finished slices again."""
    node = Node(1)
    plan = simple(("add", 1, 1), ("pause",), ("add", 1, 1), ("pause",), ("add", 1, 1))
    assert isinstance(node.ask(plan, []), Paused)
    node.talk.forget_sandbox()
    assert isinstance(node.resume(), Paused)
    node.talk.forget_sandbox()
    answer = node.resume()
    assert isinstance(answer, Finished)
    assert answer.instructions == 50
    assert node.opened == 3


def test_catching_up_with_other_instruction_counts_is_refused() -> None:
    """A sandbox that doesn't pause where the first one did is no good."""
    node = Node(1)
    plan = simple(("add", 1, 1), ("pause",), ("add", 1, 1))
    node.ask(plan, [])
    assert node.talk.paused is not None
    node.talk.paused.slices[0] += 1
    node.talk.forget_sandbox()
    with pytest.raises(SandboxFailure, match="the first time it paused after 21"):
        node.drive(node.talk.resume())


def test_state_changed_by_another_is_mapped_anew() -> None:
    """When somebody else has committed, the sandbox starts again from what is committed now."""
    node = Node(100)
    first = node.ask(simple(("add", 1, 1)), [message(("add", 1, 1))])
    assert isinstance(first, Finished)
    node.execution.commit(first)
    node.execution.commit(replace(first, heap=replace(first.heap, content=b"\x64" + bytes(4095))))
    answer = node.ask(simple(("add", 1, 1)), [])
    assert answer.response.data == (101).to_bytes(8, "little")  # type: ignore[union-attr]
    assert node.opened == 2


def test_query_sandbox_follows_snapshots() -> None:
    """A query sandbox goes over to a later snapshot without being started again, and sees only what that holds."""
    node = Node(1)
    state = node.execution
    query = Conversation(CANISTER, state.fork(), ENVIRONMENT, 1, tracking=False)
    other = Node(1, execution=query.execution)
    other.talk = query
    for k in range(5):
        answer = node.ask(simple(("add", 1, 1), ("stable", 1, 2)), [])
        assert isinstance(answer, Finished)
        snapshot = state.fork()
        state.commit(answer)
        for execution, expected in ((snapshot, k), (state.fork(), k + 1)):
            query.show(execution)
            other.execution = execution
            seen = other.ask(simple(("add", 1, 0), ("add", 1, 50), ("stable", 1, 0), entry=EntryPoint.QUERY), [])
            assert isinstance(seen, Finished)
            data = seen.response.data  # type: ignore[union-attr]
            assert [int.from_bytes(data[i : i + 8], "little") for i in (0, 8, 16)] == [expected, expected + 50, 2 * expected]
    assert other.opened == 1


def test_too_many_private_pages_are_mapped_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed pages that the sandbox holds privately are given back from time to time."""
    monkeypatch.setattr("sandbox.mapped_pages.MAX_PRIVATE_PAGES", 3)
    node = Node(1)
    answers = play([simple(("add", k % 8, 1)) for k in range(40)], node)
    assert node.sandbox is not None
    assert len(node.sandbox.heap.private) <= 5
    assert all(isinstance(answer, Finished) for answer in answers)
    assert [int.from_bytes(node.execution.heap.read_page(k)[:8], "little") for k in range(8)] == [5] * 8


def test_scattered_memory_is_compacted_when_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory of too many runs is put in order before a sandbox maps it."""
    monkeypatch.setattr("sandbox.mapped_pages.MAX_MAPPED_RUNS", 4)
    node = Node(1)
    play([simple(("add", page, 1)) for page in (9, 7, 5, 3, 8, 6, 4)], node)
    node.talk.forget_sandbox()
    play([simple(("add", 9, 1))], node)
    assert len(node.execution.heap.runs()) == 1
    assert [int.from_bytes(node.execution.heap.read_page(k)[:8], "little") for k in range(3, 10)] == [1] * 6 + [2]


@pytest.mark.parametrize(
    ("answers", "stop"),
    [
        ((), Stop.END),
        ((Paused(slice_instructions=10, instructions=10),), Stop.END),
        ((Paused(slice_instructions=10, instructions=10),), Stop.SETTLE),
        ((Trapped(instructions=1, slice_instructions=1, error_code=503, message=""),), Stop.END),
        ((Finished(instructions=1, slice_instructions=1),) * 3, Stop.END),
        ((Finished(instructions=1, slice_instructions=1),), Stop.PAUSED),
        ((), Stop.SKIPPED),
        ((Finished(instructions=1, slice_instructions=1),), Stop.TRAPPED),
        ((Finished(instructions=1, slice_instructions=1),) * 2, Stop.SETTLE),
    ],
)
def test_answers_that_contradict_the_stop_are_refused(answers: tuple[Answer, ...], stop: Stop) -> None:
    """Only the last answer may be a trap or a pause, and there are never more answers than messages."""
    node = Node(100)
    talk = node.talk.run(message(("add", 1, 1)), context(), [message(("add", 1, 1))])
    requests = next(talk)
    opened = ModelSandbox().open(requests[0], node.execution.heap.fd, node.execution.stable.fd)  # type: ignore[arg-type]
    with pytest.raises(SandboxFailure, match="impossible answer"):
        talk.send([opened, Executed(cookie=requests[1].cookie, answers=answers, stop=stop)])


def test_context_that_is_asked_for_twice_is_refused() -> None:
    """A sandbox that has a message's context and asks for it again is no good."""
    node = Node(100)
    talk = node.talk.run(message(("balance",)), context())
    requests = next(talk)
    sandbox = ModelSandbox()
    opened = sandbox.open(requests[0], node.execution.heap.fd, node.execution.stable.fd)  # type: ignore[arg-type]
    settle = talk.send([opened, sandbox.handle(requests[1])])  # type: ignore[arg-type, list-item]
    with pytest.raises(SandboxFailure, match="a context asked for that had been given"):
        talk.send([Executed(cookie=settle[0].cookie, answers=(), stop=Stop.SETTLE)])


def test_context_is_sent_at_once_to_messages_of_a_kind_that_asked_for_it() -> None:
    """The first message that needs its balance asks for it; the next of its kind gets it with the request."""
    node, counts = Node(1), []
    for plan in (simple(("add", 1, 1)), *[simple(("balance",))] * 3):
        before = node.requests
        play([plan], node)
        counts.append(node.requests - before)
    assert counts == [2, 2, 1, 1]
