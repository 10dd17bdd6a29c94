"""Random scripts: calls in calls with cycles, best-effort calls, answers, traps, timers."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.spec_model.script import (
    Accept,
    Act,
    Burn,
    CallCanister,
    Manage,
    OnHeartbeat,
    OnPreUpgrade,
    OnTimer,
    Reject,
    Remember,
    Reply,
    ReplyMemory,
    Script,
    SetTimer,
    Trap,
)

PLACES = 7
"""The last one names nobody."""
DEPTH = 3
SECOND = 10**9
words = st.sampled_from([b"", b"one", b"two", b"three"])
texts = st.sampled_from(["no", "on purpose", ""])
amounts = st.one_of(st.integers(0, 5000), st.sampled_from([0, 10**9, 10**12, 10**17]))
timeouts = st.one_of(st.none(), st.none(), st.integers(0, 8), st.just(400))
answers: st.SearchStrategy[Act] = st.one_of(
    st.builds(Reply, words), st.builds(ReplyMemory), st.builds(Reply, words), st.builds(Reject, texts), st.builds(Trap, texts)
)
effects: st.SearchStrategy[Act] = st.one_of(
    st.builds(Accept, amounts),
    st.builds(Burn, st.integers(0, 10**6)),
    st.builds(Remember, words),
    st.builds(SetTimer, st.sampled_from([0, 1, SECOND, 7 * SECOND])),
)
small: st.SearchStrategy[Script] = st.lists(st.one_of(effects, effects, st.builds(Trap, texts)), max_size=2).map(tuple)
"""For init and pre_upgrade, which can't answer or call."""
cleanups: st.SearchStrategy[Script | None] = st.one_of(st.none(), small, st.just((Remember(b"cleaned"),)))
managed_by_canisters = st.sampled_from(
    ["deposit_cycles"] * 4 + ["canister_status"] * 2 + ["stop_canister", "start_canister", "start_canister", "uninstall_code"]
)


def scripts(depth: int = 0) -> st.SearchStrategy[Script]:
    """Some effects and calls in any order, then perhaps an answer: often nonsense, which has to be refused."""
    acts = effects
    if depth < DEPTH:
        calls = st.one_of(_calls(depth), _calls(depth), _managed(depth))
        acts = st.one_of(effects, calls, calls, _later(depth))
    return _ended(st.lists(acts, max_size=3), st.one_of(st.just(()), answers.map(lambda one: (one,))))


def trees(depth: int = 0) -> st.SearchStrategy[Script]:
    """A call tree in which most goes well: each level accepts cycles, calls one or two others, and answers in its callbacks."""
    if depth == DEPTH:
        return _ended(st.lists(effects, max_size=2), answers.map(lambda one: (one,)))
    below = st.deferred(lambda: st.one_of(trees(depth + 1), trees(DEPTH)))
    call = st.builds(
        CallCanister,
        place=st.integers(0, PLACES - 2),
        method=st.just("update"),
        script=below,
        cycles=st.integers(0, 10**6),
        timeout_s=st.one_of(st.none(), st.none(), st.integers(1, 6)),
        on_reply=below,
        on_reject=trees(DEPTH),
        on_cleanup=cleanups,
    )
    ending = st.one_of(st.just(()), st.just(()), answers.map(lambda one: (one,)))
    return _ended(st.lists(st.one_of(effects, _later(depth)), max_size=1), st.lists(call, min_size=1, max_size=2), ending)


def _ended(*parts: st.SearchStrategy[list[Act]] | st.SearchStrategy[Script]) -> st.SearchStrategy[Script]:
    return st.tuples(*parts).map(lambda made: tuple(act for part in made for act in part))


def _later(depth: int) -> st.SearchStrategy[Act]:
    return st.one_of(
        st.builds(OnTimer, st.deferred(lambda: trees(depth + 1))),
        st.builds(OnHeartbeat, st.deferred(lambda: scripts(DEPTH))),
        st.builds(OnPreUpgrade, small),
    )


def _calls(depth: int) -> st.SearchStrategy[Act]:
    below = st.deferred(lambda: scripts(depth + 1))
    return st.builds(
        CallCanister,
        place=st.integers(0, PLACES - 1),
        method=st.sampled_from(["update"] * 8 + ["query", "nothing", "composite_query"]),
        script=below,
        cycles=amounts,
        timeout_s=timeouts,
        on_reply=below,
        on_reject=below,
        on_cleanup=cleanups,
    )


def _managed(depth: int) -> st.SearchStrategy[Act]:
    below = st.deferred(lambda: scripts(DEPTH if depth else 1))
    return st.builds(
        Manage,
        place=st.integers(0, PLACES - 1),
        method=managed_by_canisters,
        cycles=amounts,
        timeout_s=timeouts,
        on_reply=below,
        on_reject=below,
    )
