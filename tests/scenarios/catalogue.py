"""The scenarios: programs of universal canisters, what users do meanwhile, and what everybody must learn, on any network.

Each function plays one scenario on a stage whose canisters `a`, `b` and `c` are fresh, and notes what is observed; `expected`
has the notes that the specification demands. A call is held open by a canister that asks to be stopped itself: that can't
succeed while its own call context is open, so it ends when somebody starts the canister, or after five minutes.
"""

from __future__ import annotations

from collections.abc import Callable

from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.lab import universal as u
from subnet.lab.universal import Program
from tests.scenarios.stage import Stage, canister_argument

P = Program
SCENARIOS: dict[str, Callable[[Stage], None]] = {}
NOBODY = Principal.canister(77)
KEEP_REPLY = P().set_global(u.argument())
TELL = P().reply(u.get_global())


def scenario(play: Callable[[Stage], None]) -> Callable[[Stage], None]:
    """Enter it into the catalogue."""
    SCENARIOS[play.__name__] = play
    return play


def low(amount: u.Blob) -> u.Blob:
    """The lower eight bytes of an amount of cycles."""
    return amount.slice(0, 8)


def number(value: int) -> bytes:
    """Eight bytes, little-endian."""
    return value.to_bytes(8, "little")


def held(s: Stage, name: str, then: Program) -> Program:
    """A program of `name` that stays open until somebody starts the canister again, then does `then`."""
    return P().call(MANAGEMENT_CANISTER, "stop_canister", canister_argument(s.id(name)), on_reply=then, on_reject=then)


# --- calls and answers


@scenario
def echo(s: Stage) -> None:
    """A call and its reply."""
    s.note("answer", s.ask("a", P().call(s.id("b"), "update", P().reply(b"from b"))))


@scenario
def rejected(s: Stage) -> None:
    """A reject with its code and text."""
    show = P().reply(u.reject_code().to_blob().concat(u.reject_message()))
    s.note("answer", s.ask("a", P().call(s.id("b"), "update", P().reject("not now"), on_reject=show)))
    s.note("passed on", s.ask("a", P().call(s.id("b"), "update", P().reject("not now"))))


@scenario
def nobody_and_nothing(s: Stage) -> None:
    """Canisters and methods that don't exist; cycles come back."""
    show = P().reply(u.reject_code().to_blob().concat(low(u.cycles_refunded())))
    s.note("no canister", s.ask("a", P().call(NOBODY, "update", b"", cycles=900, on_reject=show)))
    s.note("no method", s.ask("a", P().call(s.id("b"), "nothing", b"", cycles=900, on_reject=show)))
    s.note("user", s.ask("b", P(), "nothing"))


@scenario
def no_answer(s: Stage) -> None:
    """A callee that ends without an answer."""
    show = P().reply(u.reject_code().to_blob().concat(low(u.cycles_refunded())))
    s.note("caller", s.ask("a", P().call(s.id("b"), "update", P(), cycles=50, on_reject=show)))
    s.note("user", s.ask("b", P()))
    s.note("passed on", s.ask("a", P().call(s.id("b"), "update", P())))


@scenario
def answer_first(s: Stage) -> None:
    """An answer before a call: the user has it, the callback still runs, a second answer there traps."""
    call = P().call(s.id("b"), "update", P().reply(b"later"), on_reply=KEEP_REPLY)
    s.note("answer", s.ask("a", P().reply(b"at once") + call))
    s.rounds(12)
    s.note("kept", s.ask("a", TELL))
    twice = P().call(s.id("b"), "update", P().reply(b"x"), on_reply=P().set_global(b"lost").reply(b"second"))
    s.note("first", s.ask("a", P().reply(b"first") + twice))
    s.rounds(12)
    s.note("rolled back", s.ask("a", TELL))


@scenario
def call_of_a_query(s: Stage) -> None:
    """A query method called by a canister answers, and changes nothing."""
    call = P().call(s.id("b"), "query", P().set_global(b"changed").reply(b"asked"))
    s.note("answer", s.ask("a", call))
    s.note("unchanged", s.ask("b", TELL))


@scenario
def composite_query_is_refused(s: Stage) -> None:
    """A composite query can't be called by an update."""
    s.note("answer", s.ask("a", P().call(s.id("b"), "composite_query", P().reply(b"no"))))


@scenario
def self_calls(s: Stage) -> None:
    """A canister that calls itself, with cycles, three levels deep."""
    inner = P().call(u.self_id(), "update", P().reply(low(u.cycles_accept(5))), cycles=20)
    outer = P().call(u.self_id(), "update", inner, on_reply=P().reply(u.argument().concat(b" end")))
    s.note("answer", s.ask("a", outer))


@scenario
def deep_chain(s: Stage) -> None:
    """Twelve calls, each within the other, around three canisters; each adds to the answer."""
    program = P().reply(b"0")
    for level in range(1, 13):
        program = P().call(s.id("abc"[level % 3]), "update", program, on_reply=P().reply(u.argument().concat(b"%x" % level)))
    s.note("answer", s.ask("a", program))


@scenario
def many_calls_keep_their_order(s: Stage) -> None:
    """Calls from one canister to another arrive in the order in which they were made; each gets one answer."""
    program = P()
    for k in range(10):
        arrived = P().set_global(u.get_global().concat(b"%d" % k)).reply(b"r")
        program = program.call(s.id("b"), "update", arrived, on_reply=P().set_global(u.get_global().concat(u.argument())))
        program = program.call(s.id("c"), "update", arrived, on_reply=P().set_global(u.get_global().concat(u.argument())))
    s.note("answer", s.ask("a", program.reply(b"sent")))
    s.rounds(14)
    for name in ("a", "b", "c"):
        s.note(name, s.ask(name, TELL))


# --- cycles


@scenario
def cycles_accepted(s: Stage) -> None:
    """A part is accepted, the rest comes back; more than there is can't be accepted."""
    takes = P().reply(low(u.cycles_accept(300)).concat(low(u.cycles_available())))
    s.note("a part", s.ask("a", P().call(s.id("b"), "update", takes, cycles=1000, on_reply=both())))
    greedy = P().reply(low(u.cycles_accept(5000)))
    s.note("all", s.ask("a", P().call(s.id("b"), "update", greedy, cycles=1000, on_reply=both())))


def both() -> Program:
    """Answer with what the callee said and what came back."""
    return P().reply(u.argument().concat(low(u.cycles_refunded())))


@scenario
def cycles_of_rejects_and_traps(s: Stage) -> None:
    """What was accepted before a reject stays accepted; a trap gives everything back."""
    refund = P().reply(low(u.cycles_refunded()))
    rejects = P().drop(u.cycles_accept(300)).reject("no")
    s.note("reject", s.ask("a", P().call(s.id("b"), "update", rejects, cycles=1000, on_reject=refund)))
    traps = P().drop(u.cycles_accept(300)).trap("oh")
    s.note("trap", s.ask("a", P().call(s.id("b"), "update", traps, cycles=1000, on_reject=refund)))


@scenario
def cycles_in_callbacks(s: Stage) -> None:
    """Cycles of an open call are accepted in a callback, after another call."""
    within = P().call(s.id("c"), "update", P().reply(b""), on_reply=P().reply(low(u.cycles_accept(400))))
    s.note("answer", s.ask("a", P().call(s.id("b"), "update", within, cycles=1000, on_reply=both())))
    trapping = P().drop(u.cycles_accept(400)).trap("after accepting")
    within = P().call(s.id("c"), "update", P().reply(b""), on_reply=trapping)
    refund = P().reply(low(u.cycles_refunded()))
    s.note("trap", s.ask("a", P().call(s.id("b"), "update", within, cycles=1000, on_reject=refund)))


@scenario
def cycles_that_are_not_there(s: Stage) -> None:
    """More cycles than the balance: the message traps and nothing is called."""
    s.note("answer", s.ask("a", P().set_global(b"lost").call(s.id("b"), "update", P().reply(), cycles=10**30)))
    s.note("rolled back", s.ask("a", TELL))


@scenario
def deposits_and_statuses(s: Stage) -> None:
    """A canister gives cycles to another through the management canister, wherever that is."""
    to_c = canister_argument(s.id("c"))
    refund = P().reply(low(u.cycles_refunded()))
    s.note("deposit", s.ask("a", P().call(MANAGEMENT_CANISTER, "deposit_cycles", to_c, cycles=700, on_reply=refund)))
    nowhere = canister_argument(NOBODY)
    show = P().reply(u.reject_code().to_blob().concat(low(u.cycles_refunded())))
    call = P().call(MANAGEMENT_CANISTER, "deposit_cycles", nowhere, cycles=700, on_reject=show)
    s.note("to nobody", s.ask("a", call))


# --- traps


@scenario
def trap_before_the_call_is_made(s: Stage) -> None:
    """A trap after call_perform: nothing was called, nothing stays."""
    program = P().set_global(b"lost").call(s.id("b"), "update", P().set_global(b"called").reply()).trap("too late")
    s.note("answer", s.ask("a", program))
    s.rounds(4)
    s.note("a", s.ask("a", TELL))
    s.note("b", s.ask("b", TELL))


@scenario
def trap_in_a_callback(s: Stage) -> None:
    """What came before the call stays, what the callee did stays, the callback leaves nothing."""
    back = P().set_global(b"in callback").trap("after the call")
    program = P().set_global(b"before").call(s.id("b"), "update", P().set_global(b"called").reply(), on_reply=back)
    s.note("answer", s.ask("a", program))
    s.note("a", s.ask("a", TELL))
    s.note("b", s.ask("b", TELL))


@scenario
def cleanup(s: Stage) -> None:
    """The cleanup callback runs after the trap of a callback, on the state before it; without a trap it doesn't."""
    tidy = P().set_global(u.get_global().concat(b" cleaned"))
    call = (
        P()
        .set_global(b"before")
        .call(s.id("b"), "update", P().reply(), on_reply=P().set_global(b"lost").trap("oh"), on_cleanup=tidy)
    )
    s.note("answer", s.ask("a", call))
    s.note("a", s.ask("a", TELL))
    calm = P().set_global(b"calm").call(s.id("b"), "update", P().reply(b"fine"), on_cleanup=tidy)
    s.note("no trap", s.ask("a", calm))
    s.note("not cleaned", s.ask("a", TELL))


@scenario
def cleanup_that_fails(s: Stage) -> None:
    """A cleanup that traps, or wants to answer, leaves nothing; the caller learns of the callback's trap."""
    for what in (P().trap("in cleanup"), P().reply(b"never")):
        call = (
            P()
            .set_global(b"before")
            .call(s.id("b"), "update", P().reply(), on_reply=P().trap("first"), on_cleanup=P().set_global(b"lost") + what)
        )
        s.note("answer", s.ask("a", call))
        s.note("a", s.ask("a", TELL))


@scenario
def trap_below(s: Stage) -> None:
    """A trap two calls down goes up as a reject, and is passed on."""
    deepest = P().trap("below")
    program = P().call(s.id("b"), "update", P().call(s.id("c"), "update", deepest))
    s.note("answer", s.ask("a", program))


# --- bounded-wait calls


@scenario
def best_effort_in_time(s: Stage) -> None:
    """A bounded-wait call that is answered in time, with its refund; the callee sees the deadline."""
    callee = P().drop(u.cycles_accept(10)).reply(u.deadline().less_than(1).to_blob())
    s.note("answer", s.ask("a", P().call(s.id("b"), "update", callee, cycles=100, timeout_s=200, on_reply=both())))


@scenario
def best_effort_expires(s: Stage) -> None:
    """A callee that takes too long: the caller learns that it doesn't know, and its cycles come back when the callee ends."""
    show = P().reply(u.reject_code().to_blob().concat(low(u.cycles_refunded())))
    program = P().call(s.id("c"), "update", held(s, "c", P().reply(b"late")), cycles=100, timeout_s=9, on_reject=show)
    sent = s.send("a", program)
    s.note("answer", s.wait(sent))
    s.note("started", s.do("start_canister", "c"))
    s.rounds(8)
    s.note("callee goes on", s.ask("c", P().reply(b"here")))


@scenario
def best_effort_chain(s: Stage) -> None:
    """The outer call expires while the inner one waits for a guaranteed response; both canisters can be stopped afterwards."""
    inner = P().call(s.id("c"), "update", held(s, "c", P().reply(b"done")), on_reply=P().set_global(u.argument()).reply())
    program = P().call(s.id("b"), "update", inner, timeout_s=9, on_reject=P().reply_int(u.reject_code()))
    s.note("answer", s.ask("a", program))
    stopping = s.manage("stop_canister", "b")
    s.rounds(5)
    s.note("still open", s.is_open(stopping))
    s.note("started", s.do("start_canister", "c"))
    s.note("stopped", s.wait(stopping))
    s.note("started", s.do("start_canister", "b"))
    s.note("callback ran", s.ask("b", TELL))


# --- stopping and starting


@scenario
def stopped_canisters(s: Stage) -> None:
    """A stopped canister answers nobody; cycles come back; started again it is as before."""
    s.note("set", s.ask("b", P().set_global(b"kept").reply()))
    s.note("stop", s.do("stop_canister", "b"))
    show = P().reply(u.reject_code().to_blob().concat(low(u.cycles_refunded())))
    s.note("called", s.ask("a", P().call(s.id("b"), "update", P().reply(), cycles=70, on_reject=show)))
    s.note("start", s.do("start_canister", "b"))
    s.note("kept", s.ask("b", TELL))


@scenario
def stopping_waits_for_open_calls(s: Stage) -> None:
    """A stop waits until the last call context has ended; meanwhile responses are taken, new calls aren't."""
    opened = s.send("b", P().call(s.id("c"), "update", held(s, "c", P().reply(b"released")), on_reply=P().reply(b"b done")))
    s.rounds(8)
    stopping = s.manage("stop_canister", "b")
    s.rounds(2)
    s.note("refused", s.ask("a", P().call(s.id("b"), "update", P().reply(), on_reject=P().reply_int(u.reject_code()))))
    s.note("waits", s.is_open(stopping))
    s.note("release", s.do("start_canister", "c"))
    s.note("opened", s.wait(opened))
    s.note("stopped", s.wait(stopping))


@scenario
def start_cancels_a_stop(s: Stage) -> None:
    """Whoever waits for a stop learns that the canister was started."""
    opened = s.send("c", held(s, "c", P().reply(b"on")))
    s.rounds(2)
    stopping = s.manage("stop_canister", "c")
    s.rounds(2)
    s.note("start", s.do("start_canister", "c"))
    s.note("stop", s.wait(stopping))
    s.note("opened", s.wait(opened))


@scenario
def stop_times_out(s: Stage) -> None:
    """After five minutes a stop that waits is given up; the canister goes on stopping."""
    opened = s.send("c", held(s, "c", P().reply(b"given up")))
    s.rounds(2)
    stopping = s.manage("stop_canister", "c")
    s.rounds(2)
    s.rounds(1, seconds=302)
    s.note("stop", s.wait(stopping))
    s.note("opened", s.wait(opened))


# --- code that changes


@scenario
def upgrade_while_a_call_is_open(s: Stage) -> None:
    """The heap goes with the old code: the callback finds nothing, so nobody answers the user."""
    opened = s.send("b", P().set_global(b"old").call(s.id("c"), "update", held(s, "c", P().reply(b"back"))))
    s.rounds(8)
    s.note("upgrade", s.wait(s.install("b", "upgrade", P().set_global(b"new"))))
    s.note("release", s.do("start_canister", "c"))
    s.note("opened", s.wait(opened))
    s.note("state", s.ask("b", TELL))


@scenario
def failing_upgrade(s: Stage) -> None:
    """A trap in pre_upgrade or post_upgrade leaves code and state as they were."""
    s.note("set", s.ask("b", P().set_global(b"kept").on_pre_upgrade(P().trap("not yet")).reply()))
    s.note("pre_upgrade", s.wait(s.install("b", "upgrade", P().set_global(b"new"))))
    s.note("kept", s.ask("b", TELL))
    s.note("calm", s.ask("b", P().on_pre_upgrade(P()).reply()))
    s.note("post_upgrade", s.wait(s.install("b", "upgrade", P().set_global(b"new").trap("nor now"))))
    s.note("kept", s.ask("b", TELL))


@scenario
def uninstall_while_calls_are_open(s: Stage) -> None:
    """Everyone who waits is told at once; responses that come later change nothing, and the canister takes new code."""
    opened = s.send("b", P().call(s.id("c"), "update", held(s, "c", P().reply(b"back")), cycles=5000))
    show = P().reply(u.reject_code().to_blob().concat(low(u.cycles_refunded())))
    in_b = P().call(s.id("a"), "update", held(s, "a", P().reply(b"back")))
    waiting = s.send("a", P().call(s.id("b"), "update", in_b, cycles=40, on_reject=show))
    s.rounds(8)
    s.note("uninstall", s.do("uninstall_code", "b"))
    s.note("opened", s.wait(opened))
    s.note("waiting", s.wait(waiting))
    s.note("install", s.wait(s.install("b", "install", P().set_global(b"new"))))
    s.note("release", s.do("start_canister", "c"))
    s.rounds(8)
    s.note("state", s.ask("b", TELL))


@scenario
def deletion(s: Stage) -> None:
    """Only a stopped canister can be deleted, only by a controller; here it stays."""
    s.note("running", s.do("delete_canister", "b"))
    s.note("still there", s.ask("b", P().reply(b"yes")))


# --- tasks and long messages


@scenario
def timers(s: Stage) -> None:
    """A timer fires once, when its time has come; one that traps leaves nothing; a call from it works."""
    later = P().drop(u.set_timer(u.time() + 5_000_000_000)).reply()
    work = (
        P()
        .set_global(u.get_global().concat(b"tick "))
        .call(s.id("b"), "update", P().set_global(b"by timer").reply(), on_reply=P())
    )
    s.note("set", s.ask("a", P().on_timer(work) + later))
    s.rounds(25)
    s.note("fired once", s.ask("a", TELL))
    s.note("called", s.ask("b", TELL))
    s.note("set", s.ask("a", P().on_timer(P().set_global(b"lost").trap("in timer")) + later))
    s.rounds(12)
    s.note("trapped", s.ask("a", TELL))


@scenario
def heartbeats(s: Stage) -> None:
    """A module with a heartbeat does something each round."""
    s.note("install", s.wait(s.install("c", "reinstall", P().on_heartbeat(P().set_global(b"beat")), "universal_heartbeat")))
    s.rounds(3)
    s.note("state", s.ask("c", TELL))


@scenario
def long_computations(s: Stage) -> None:
    """Messages of many instructions, in calls and callbacks; counted alike whether they are sliced or not."""
    work = P().burn_loop(400_000).reply(u.performance_counter(0).less_than(4_000_000).to_blob())
    back = P().burn_loop(500_000).reply(u.argument().concat(b" and back"))
    s.note("answer", s.ask("a", P().burn_loop(600_000).call(s.id("b"), "update", work, on_reply=back)))
    s.note("trap at the end", s.ask("a", P().set_global(b"lost").burn_loop(900_000).trap("worn out")))
    s.note("rolled back", s.ask("a", TELL))
