"""The controller against fake sandboxes that die, hang, lie and talk nonsense."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fake_launcher import FakeLauncher, FakeSandbox, canister, fake_controller
from model_sandbox import CANISTER, context, message, new_state

from ic_types import wire
from ic_types.errors import SandboxFailure
from sandbox.controller import MAX_DEATHS, SandboxController
from sandbox.execution_state import ExecutionState
from sandbox.protocol import (
    Answer,
    EntryPoint,
    ExecutionInput,
    Finished,
    Pages,
    Paused,
    Stop,
    Trapped,
)
from sandbox.requests import (
    Aborted,
    Execute,
    Executed,
    Open,
    OpenFailed,
    ResetDone,
)

ADD = message(("add", 1, 1))


def answer_to(
    controller: SandboxController, state: ExecutionState, asked: ExecutionInput = ADD, upcoming: tuple[ExecutionInput, ...] = ()
) -> Answer:
    """Run one message to its answer, without committing."""
    controller.run("key", CANISTER, state, asked, context(), upcoming)
    return the_completion(controller)  # type: ignore[no-any-return]


def the_completion(controller: SandboxController) -> Any:
    """The one completion that is due."""
    [(_key, result)] = controller.completions(20_000)
    return result


def number(answer: Any) -> int:
    """What a message replied."""
    assert isinstance(answer, Finished), answer
    return int.from_bytes(answer.response.data[:8], "little")  # type: ignore[union-attr]


def test_canisters_run_side_by_side() -> None:
    """Messages of several canisters are under way at once, each in its own sandbox, and each gets its own answer."""
    with fake_controller() as (controller, launcher):
        states = [new_state() for _ in range(6)]
        for k, state in enumerate(states):
            controller.run(k, canister(k), state, message(("add", 1, k)), context())
        found: dict[Any, Any] = {}
        while len(found) < 6:
            found.update(controller.completions(20_000))
        assert [number(found[k]) for k in range(6)] == list(range(6))
        assert sorted(controller.pids()) == sorted(canister(k) for k in range(6))
        assert launcher.sandboxes[0].title == f"icsim sandbox app-1/0 {CANISTER}"
        assert not controller.busy()


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize("deadly", [0, 5])
def test_batches_and_deaths_change_nothing(batch_size: int, deadly: int) -> None:
    """A hundred messages give the same answers whatever the batch size, and when every fifth request kills."""
    asked = [message(("add", k % 5, k), ("balance",)) if k % 9 == 0 else message(("add", k % 5, k)) for k in range(60)]
    with fake_controller(batch_size=batch_size) as (controller, launcher):
        seen = [0]

        def misbehave(_sandbox: FakeSandbox, request: Any) -> Any:
            seen[0] += 1
            return "die" if deadly and seen[0] % deadly == 0 else None

        launcher.misbehave = misbehave
        state, replies = new_state(), []
        for k, one in enumerate(asked):
            answer = answer_to(controller, state, one, tuple(asked[k + 1 :]))
            replies.append(number(answer))
            assert isinstance(answer, Finished)
            state.commit(answer)
        assert replies == [sum(j for j in range(k + 1) if j % 5 == k % 5) for k in range(60)]
        statistics = controller.statistics()
        assert (statistics.died > 0) == bool(deadly)
        assert batch_size == 1 or statistics.speculative_hits > 30


def honest(reply: Any) -> Finished:
    """The first answer of an Executed."""
    answer = reply.answers[0]
    assert isinstance(answer, Finished)
    return answer


def lie(**changes: Any) -> Callable[[Any], Any]:
    """The honest reply with its first answer changed."""
    return lambda reply: replace(reply, answers=(replace(honest(reply), **changes), *reply.answers[1:]))


FAULTS: dict[str, Any] = {
    "dies": "die",
    "hangs": "hang",
    "sends nonsense": b"nonsense",
    "sends another type": wire.encode(ResetDone(3)),
    "sends what belongs to no request": wire.encode(Executed(cookie=999, answers=(), stop=Stop.END)),
    "aborts unasked": wire.encode(Aborted(cookie=2, heap_touched=(), stable_touched=())),
    "writes outside of its memory": lie(heap=Pages((5000,), bytes(4096))),
    "sends half a page": lie(heap=Pages((1,), bytes(2048))),
    "points beyond the buffer": lie(heap=Pages((1,), b"", 0)),
    "points before the buffer": lie(heap=Pages((1,), b"", -4096)),
    "has too many globals": lie(globals=(1, 2)),
    "burns more than there is": lie(cycles_burned=10**6),
    "stops without an answer": lambda reply: replace(reply, answers=()),
    "claims a trap": lambda reply: replace(reply, stop=Stop.TRAPPED),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_survived(fault: str) -> None:
    """A sandbox that fails once is replaced, and the answer is the right one."""
    with fake_controller(watchdog_s=0.5 if fault == "hangs" else 20.0) as (controller, launcher):
        state = new_state()

        def misbehave(sandbox: FakeSandbox, request: Any) -> Any:
            return FAULTS[fault] if isinstance(request, Execute) and sandbox.number == 0 else None

        launcher.misbehave = misbehave
        assert number(answer_to(controller, state, message(("add", 1, 41)))) == 41
        assert controller.statistics().failures == 1
        assert controller.statistics().spawned == 2


def test_a_sandbox_may_die_often_but_not_forever() -> None:
    """Killing it at any pace changes nothing; a message that always kills it stops the node with an error."""
    with fake_controller() as (controller, launcher):
        state = new_state()
        launcher.misbehave = lambda sandbox, _request: "die" if sandbox.number < MAX_DEATHS - 1 else None
        assert number(answer_to(controller, state, message(("add", 1, 41)))) == 41
        launcher.misbehave = lambda _sandbox, _request: "die"
        with pytest.raises(SandboxFailure, match=rf"failed {MAX_DEATHS} times in a row .* because: its process"):
            answer_to(controller, new_state())


@pytest.mark.parametrize("fault", ["sends nonsense", "writes outside of its memory"])
def test_third_failure_is_reported(fault: str) -> None:
    """Three failures in a row at one message stop the node with an error that names canister, message and cause."""
    with fake_controller() as (controller, launcher):
        launcher.misbehave = lambda _sandbox, request: FAULTS[fault] if isinstance(request, Execute) else None
        with pytest.raises(SandboxFailure, match=rf"update 'go' of canister {CANISTER} failed 3 times.*because: \S+"):
            answer_to(controller, new_state())
        assert controller.statistics().spawned == 3


def test_module_that_cannot_be_opened_is_reported() -> None:
    """The reason that the sandbox gives is in the error."""
    with fake_controller() as (controller, launcher):

        def misbehave(_sandbox: FakeSandbox, request: Any) -> Any:
            return (lambda opened: OpenFailed(opened.cookie, "bad artefact")) if isinstance(request, Open) else None

        launcher.misbehave = misbehave
        with pytest.raises(SandboxFailure, match="can't be opened: bad artefact"):
            answer_to(controller, new_state())


def test_fault_in_what_was_run_ahead_costs_only_the_batch() -> None:
    """When a sandbox dies in a batch, its first message is run again alone, and the others get their turn later."""
    with fake_controller() as (controller, launcher):
        state = new_state()

        def misbehave(_sandbox: FakeSandbox, request: Any) -> Any:
            return "die" if isinstance(request, Execute) and len(request.inputs) > 1 else None

        launcher.misbehave = misbehave
        for k in range(4):
            answer = answer_to(controller, state, ADD, (ADD,) * (3 - k))
            assert number(answer) == k + 1
            assert isinstance(answer, Finished)
            state.commit(answer)
        assert controller.statistics().failures == 3


def test_lie_in_what_was_run_ahead_is_found_when_it_is_asked_for() -> None:
    """The second answer of a batch is checked when its message is run, then run again elsewhere."""
    with fake_controller() as (controller, launcher):
        state = new_state()

        def second_lies(reply: Executed) -> Executed:
            first, second = reply.answers
            assert isinstance(second, Finished)
            return replace(reply, answers=(first, replace(second, cycles_accepted=1)))

        launcher.misbehave = lambda sandbox, request: (
            second_lies if isinstance(request, Execute) and sandbox.number == 0 else None
        )
        first = answer_to(controller, state, ADD, (ADD,))
        assert isinstance(first, Finished)
        state.commit(first)
        assert number(answer_to(controller, state)) == 2
        assert controller.statistics().failures == 1


# --- what is run ahead while the node commits


def add_all(controller: SandboxController, state: ExecutionState, count: int, page: int = 1) -> None:
    """As many messages as told, each told beforehand, asked for one by one and committed."""
    one = message(("add", page, 1))
    for k in range(count):
        answer = answer_to(controller, state, one, (one,) * (count - 1 - k))
        assert number(answer) == k + 1
        assert isinstance(answer, Finished)
        state.commit(answer)


@pytest.mark.parametrize("through_buffer", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_sandbox_gets_the_next_messages_before_the_last_are_committed(batch_size: int, through_buffer: bool) -> None:
    """All but the first requests are sent ahead, nothing is run in vain, and large answers don't overwrite each other."""
    with fake_controller(batch_size=batch_size) as (controller, launcher):
        launcher.through_buffer = through_buffer
        state = new_state()
        add_all(controller, state, 100)
        executes = [request for _, request in launcher.requests if isinstance(request, Execute)]
        assert [request.behind for request in executes] == [False] + [True] * (len(executes) - 1)
        assert sum(len(request.inputs) for request in executes) == 100
        statistics = controller.statistics()
        assert (statistics.speculative_hits, statistics.speculative_misses, statistics.failures) == (99, 0, 0)


def test_death_behind_answers_costs_no_failure() -> None:
    """A sandbox that dies over what was sent ahead is replaced when its next answer is needed."""
    with fake_controller(batch_size=4) as (controller, launcher):
        launcher.misbehave = lambda _sandbox, request: "die" if isinstance(request, Execute) and request.behind else None
        add_all(controller, new_state(), 20)
        assert controller.statistics().died >= 4


@pytest.mark.parametrize("fault", ["sends nonsense", "sends half a page", "claims a trap", "stops without an answer"])
def test_fault_in_what_was_sent_ahead_is_survived(fault: str) -> None:
    """A lie in an answer that nobody has asked for yet is found all the same."""
    with fake_controller(batch_size=4) as (controller, launcher):

        def misbehave(sandbox: FakeSandbox, request: Any) -> Any:
            ahead = isinstance(request, Execute) and request.behind
            return FAULTS[fault] if ahead and sandbox.number == 0 else None

        launcher.misbehave = misbehave
        add_all(controller, new_state(), 20)
        assert controller.statistics().failures == 1


def test_hanging_over_what_was_sent_ahead_hinders_others_for_a_while_only() -> None:
    """With room for one sandbox at work, the watchdog ends the one that hangs, and the others get their turn."""
    with fake_controller(batch_size=1, max_in_flight=1, watchdog_s=0.3) as (controller, launcher):
        launcher.misbehave = lambda sandbox, request: (
            "hang" if isinstance(request, Execute) and request.behind and sandbox.number == 0 else None
        )
        state = new_state()
        first = answer_to(controller, state, ADD, (ADD,))
        assert isinstance(first, Finished)
        state.commit(first)
        controller.run("other", canister(1), new_state(), message(("add", 1, 7)), context())
        assert number(the_completion(controller)) == 7
        assert number(answer_to(controller, state)) == 2


def test_no_more_sandboxes_compute_when_messages_are_run_ahead() -> None:
    """What others wait for goes before what nobody has asked for, and counts as they do."""
    with fake_controller(batch_size=1, max_in_flight=1) as (controller, launcher):
        states = [new_state() for _ in range(3)]
        for k in range(3):
            controller.run(k, canister(k), states[k], ADD, context(), (ADD,) * 5)
        found: dict[Any, Any] = {}
        while len(found) < 3:
            found.update(controller.completions(20_000))
        ahead = [number for number, request in launcher.requests if isinstance(request, Execute) and request.behind]
        assert set(ahead) <= {2}


def test_unasked_message_of_an_idle_sandbox_ends_it() -> None:
    """A sandbox that speaks without being asked isn't trusted any more."""
    with fake_controller() as (controller, launcher):
        state = new_state()

        launcher.misbehave = lambda _sandbox, request: (lambda reply: [reply, reply]) if isinstance(request, Execute) else None
        answer = answer_to(controller, state)
        assert isinstance(answer, Finished)
        state.commit(answer)
        while controller.pids():
            controller.completions(10)
        launcher.misbehave = lambda _sandbox, _request: None
        assert number(answer_to(controller, state)) == 2
        assert controller.statistics().failures == 1


# --- pauses


def paused_plan() -> ExecutionInput:
    """Three slices."""
    return message(("add", 1, 1), ("pause",), ("add", 1, 1), ("pause",), ("add", 1, 1))


@pytest.mark.parametrize("killed_after", [0, 1, 2])
def test_paused_message_survives_its_sandbox(killed_after: int) -> None:
    """Killed after any slice, a message goes on in a new sandbox with equal counts."""
    with fake_controller() as (controller, launcher):
        state = new_state()
        answer = answer_to(controller, state, paused_plan(), (ADD,))
        counts = [answer.instructions]
        while isinstance(answer, Paused):
            if len(counts) == killed_after:
                launcher.find(controller.pids()[CANISTER]).kill()
            controller.resume("key", state)
            answer = the_completion(controller)
            counts.append(answer.instructions)
        assert counts == [20, 40, 50]
        assert number(answer) == 1
        assert controller.statistics().spawned == (2 if killed_after else 1)


def test_aborted_message_leaves_no_trace() -> None:
    """After an abort the canister's next message sees committed memory alone."""
    with fake_controller() as (controller, _launcher):
        state = new_state()
        assert isinstance(answer_to(controller, state, paused_plan()), Paused)
        controller.abort(state)
        assert number(answer_to(controller, state)) == 1
        assert controller.statistics().spawned == 1


# --- queries


def test_query_runs_in_a_sandbox_of_its_own() -> None:
    """It is titled as a query sandbox, sees the snapshot and changes nothing."""
    with fake_controller() as (controller, launcher):
        state = new_state()
        answer = answer_to(controller, state)
        snapshot = state.fork()
        assert isinstance(answer, Finished)
        state.commit(answer)
        asked = message(("add", 1, 10), entry=EntryPoint.QUERY)
        for k, (execution, expected) in enumerate([(snapshot, 10), (state.fork(), 11), (state.fork(), 11)]):
            controller.query(k, CANISTER, execution, asked, context())
            assert number(the_completion(controller)) == expected
        assert [sandbox.title.split()[1] for sandbox in launcher.sandboxes] == ["sandbox", "query"]
        assert list(controller.pids("query")) == [CANISTER]


def test_queries_of_one_canister_wait_for_each_other() -> None:
    """All asked at once are all answered, in order."""
    with fake_controller() as (controller, _launcher):
        state = new_state()
        for k in range(5):
            controller.query(k, CANISTER, state, message(("add", 1, k), entry=EntryPoint.QUERY), context())
        found: list[Any] = []
        while len(found) < 5:
            found += controller.completions(20_000)
        assert [(key, number(result)) for key, result in found] == [(k, k) for k in range(5)]


def test_failing_query_does_not_stop_the_node() -> None:
    """A query whose sandbox dies again and again completes with the failure; the next is answered."""
    with fake_controller() as (controller, launcher):
        state, asked = new_state(), message(("add", 1, 3), entry=EntryPoint.QUERY)
        launcher.misbehave = lambda sandbox, _request: "die" if sandbox.number < MAX_DEATHS else None
        controller.query("a", CANISTER, state, asked, context())
        controller.query("b", CANISTER, state, asked, context())
        found: dict[Any, Any] = {}
        while len(found) < 2:
            found.update(controller.completions(20_000))
        assert isinstance(found["a"], SandboxFailure)
        assert number(found["b"]) == 3


# --- limits


def test_in_flight_limit_holds() -> None:
    """No more sandboxes compute at once than allowed; the others follow in the order in which they were asked for."""
    arrived: queue.Queue[int] = queue.Queue()
    with fake_controller(max_in_flight=2) as (controller, launcher):

        def misbehave(sandbox: FakeSandbox, request: Any) -> Any:
            if isinstance(request, Execute):
                arrived.put(sandbox.number)
            return None

        launcher.misbehave = misbehave
        for k in range(5):
            controller.run(k, canister(k), new_state(), message(("add", 1, k)), context())
        assert len(launcher.sandboxes) == 2
        found: dict[Any, Any] = {}
        while len(found) < 5:
            found.update(controller.completions(20_000))
            assert len(launcher.sandboxes) <= len(found) + 2
        assert [number(found[k]) for k in range(5)] == list(range(5))
        assert [sandbox.title.split()[-1] for sandbox in launcher.sandboxes] == [str(canister(k)) for k in range(5)]


def test_least_recently_used_sandbox_is_evicted_but_none_with_paused_work() -> None:
    """Above the limit the idle sandbox used longest ago goes; a paused one stays."""
    with fake_controller(max_sandboxes=3) as (controller, _launcher):
        states = [new_state() for _ in range(6)]

        def run(k: int, asked: ExecutionInput = ADD) -> Any:
            controller.run(k, canister(k), states[k], asked, context())
            answer = the_completion(controller)
            if isinstance(answer, Finished):
                states[k].commit(answer)
            return answer

        assert isinstance(run(0, paused_plan()), Paused)
        for k in (1, 2, 1, 3):
            run(k)
        assert sorted(controller.pids()) == sorted(canister(k) for k in (0, 1, 3))
        assert number(run(2)) == 2
        assert controller.statistics().evicted == 2
        controller.resume("go on", states[0])
        assert isinstance(the_completion(controller), Paused)
        assert controller.statistics().sandboxes == 3


def test_evicted_sandbox_leaves_its_answers() -> None:
    """What was run ahead is still good after the eviction."""
    with fake_controller(max_sandboxes=1) as (controller, _launcher):
        a, b = new_state(), new_state()
        for k in range(10):
            for key, state in ((0, a), (1, b)):
                controller.run(key, canister(key), state, ADD, context(), (ADD,) * (9 - k))
                answer = the_completion(controller)
                assert number(answer) == k + 1
                state.commit(answer)
        assert controller.statistics().spawned == 2


# --- states that come and go


def test_replaced_state_loses_its_sandbox() -> None:
    """A canister has one update sandbox: that of the state that ran last."""
    with fake_controller() as (controller, launcher):
        old = new_state()
        answer_to(controller, old)
        new = old.fork()
        assert number(answer_to(controller, new)) == 1
        assert controller.pids() == {CANISTER: launcher.sandboxes[1].pid}
        assert controller.statistics().sandboxes == 1
        assert number(answer_to(controller, old)) == 1


def test_dropped_state_and_canister_lose_their_sandboxes() -> None:
    """After a drop no process is left, and the canister can run again."""
    with fake_controller() as (controller, _launcher):
        state = new_state()
        answer_to(controller, state)
        controller.drop(state)
        assert controller.statistics().sandboxes == 0
        answer_to(controller, state)
        controller.query("q", CANISTER, state.fork(), message(("add", 1, 0), entry=EntryPoint.QUERY), context())
        the_completion(controller)
        assert controller.statistics().sandboxes == 2
        controller.drop_canister(CANISTER)
        assert controller.statistics().sandboxes == 0
        assert number(answer_to(controller, state)) == 1


def test_flipped_byte_shows_after_the_sandboxes_are_dropped() -> None:
    """Damage to committed memory is what the next message sees."""
    with fake_controller() as (controller, _launcher):
        state = new_state()
        answer = answer_to(controller, state, message(("add", 1, 4)))
        assert isinstance(answer, Finished)
        state.commit(answer)
        state.heap.flip(1, 0)
        controller.drop_canister(CANISTER)
        assert number(answer_to(controller, state)) == 6


def test_pages_travel_through_the_buffer() -> None:
    """Contents in the shared buffer are copied out, in batches too, and the buffer is emptied."""
    with fake_controller() as (controller, launcher):
        launcher.through_buffer = True
        state, asked = new_state(), message(("add", 1, 1), ("add", 2, 1), ("stable", 3, 1))
        for k in range(6):
            answer = answer_to(controller, state, asked, (asked,) * (5 - k))
            assert isinstance(answer, Finished)
            assert len(answer.heap.content) == 8192
            state.commit(answer)
        assert state.heap.read_page(2)[0] == state.stable.read_page(3)[0] == 6
        trapped = answer_to(controller, state, message(("add", 1, 1), ("trap",)))
        assert isinstance(trapped, Trapped)
        assert trapped.heap.content[0] == 7


def test_fault_points_are_told() -> None:
    """Every place where a test may kill is passed, with the pid of the sandbox concerned."""
    points: list[tuple[str, int]] = []
    with fake_controller(fault_point=lambda name, pid: points.append((name, pid))) as (controller, launcher):
        state = new_state()
        for k in range(2):
            answer = answer_to(controller, state, ADD, (ADD,) * (1 - k))
            assert isinstance(answer, Finished)
            state.commit(answer)
        answer_to(controller, state, message(("add", 1, 1), entry=EntryPoint.INIT))
        answer_to(controller, state, paused_plan())
        controller.query("q", CANISTER, state.fork(), message(("add", 1, 0), entry=EntryPoint.QUERY), context())
        the_completion(controller)
        update, query = launcher.sandboxes[0].pid, launcher.sandboxes[1].pid
    assert points == [
        ("answered", update),
        ("between_commits", update),
        ("install", update),
        ("paused", update),
        ("query", query),
    ]


def test_nothing_to_wait_for_returns_at_once() -> None:
    """Without work, waiting for as long as it takes takes no time."""
    with fake_controller() as (controller, _launcher):
        assert controller.completions(-1) == []
        assert controller.completions(0) == []


def test_launcher_type_is_what_the_controller_expects() -> None:
    """The fake has what the Launcher protocol asks for."""
    assert {"spawn", "close"} <= set(dir(FakeLauncher))
