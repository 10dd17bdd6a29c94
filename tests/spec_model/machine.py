"""Random actions on two subnets of real canisters, every step compared with the model.

The replicas run in this process, their canisters in real sandboxes; certified slices go between the subnets. Each step that the
implementation makes (see `observer`) must be one that the model allows, and must change balances as the model says; after
every round statuses, versions, timers, open calls, answers to users and all cycles are compared, and the invariants checked.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.candid import encoder
from ic_types.messages import Ingress, Request
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import Reject, RejectCode, Reply
from subnet.management.methods import METHODS
from tests.spec_model import management
from tests.spec_model.management import Asked
from tests.spec_model.model import Model, Totals, agrees
from tests.spec_model.observer import Executed, Managed, Paid, Returned, Step, observed
from tests.spec_model.script import Places, Script, compiled
from tests.spec_model.state import Answer, Canister, Disallowed, Task, UserCall
from tests.spec_model.strategies import PLACES, scripts, small, trees
from tests.support.lone_node import GENESIS_NS, SECOND, LoneNode, example, network_record
from tests.support.lone_world import LoneWorld

NAMES = ("left", "right")
USER, STRANGER = Principal(b"\x01a user\x02"), Principal(b"\x01a stranger\x02")
NOBODY = Principal.canister(77)
KILLS = 0.03
"""Of the moments at which a sandbox may be killed."""
FEES = CyclesCostSchedule(gib_storage_per_second=0, canister_base_per_second=0)
LIMITS = replace(SubnetLimits(), install_code_rate_limit=10**15)
CANISTERS = (
    ("left", "universal", 10**15),
    ("left", "universal", 400 * 10**9),
    ("left", "universal_heartbeat", 10**15),
    ("right", "universal", 10**15),
    ("right", "universal", 400 * 10**9),
    ("right", "universal", 10**15),
)
"""Subnet, module, cycles: the poor ones can afford a few calls."""
places = st.integers(0, PLACES - 1)
LIFECYCLE = ["stop_canister"] * 3 + ["start_canister"] * 5 + ["canister_status"] * 2 + ["uninstall_code", "delete_canister"]
later = st.sampled_from([0, 0, 1, 1, 2, 4])
"""Rounds after an action."""


class TwoSubnets(RuleBasedStateMachine):
    """The machine; `sockets` must be set to the folder of running helpers."""

    sockets: ClassVar[Path]
    kills: ClassVar[random.Random | None] = None
    """With dice, sandboxes are killed at fault points: nothing may change."""
    seen: ClassVar[Counter[str]] = Counter()
    """How often each kind of step and each answer was compared, over all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.steps: list[Step] = []
        self.batch: dict[str, list[tuple[Ingress, Asked | None]]] = {name: [] for name in NAMES}
        self.killed: set[int] = set()
        self.now = GENESIS_NS
        self.sound = False
        """The last round was as the model has it."""

    # --- the network

    @initialize()
    def start(self) -> None:
        """Create the canisters, then take over what they are into the model."""
        network, shares = network_record(NAMES)
        nodes = {
            name: LoneNode(self.sockets, network, name, shares[name][0], limits=LIMITS, fees=FEES, fault_point=self._maybe_kill)
            for name in NAMES
        }
        self.world = LoneWorld(nodes)
        self.stack.callback(self.world.close)
        self.model = Model(
            message_limit=LIMITS.instructions_per_message,
            install_limit=LIMITS.instructions_per_install,
            places=Places(NOBODY),
            seen=self.seen,
        )
        self.homes: dict[Principal, str] = {}
        for subnet, module, cycles in CANISTERS:
            self._create(subnet, module, cycles)
        for canister_id, (subnet, module, _) in zip(self.model.places.ids, CANISTERS, strict=True):
            record = nodes[subnet].replica.state.canisters[canister_id]
            self.model.canisters[canister_id] = Canister(
                canister_id=canister_id,
                subnet=subnet,
                controllers=record.settings.controllers,
                balance=record.balance,
                module=module,
                version=record.version,
            )
        self.model.totals = {name: self._totals(name) for name in NAMES}
        self.stack.enter_context(observed(self.steps.append, self._about))
        self.now = nodes["left"].replica.state.time
        self.model.now = self.now
        self.sound = True

    def _maybe_kill(self, _point: str, pid: int) -> None:
        if self.kills is not None and pid not in self.killed and self.kills.random() < KILLS:
            os.kill(pid, signal.SIGKILL)
            self.killed.add(pid)
            self.seen["kill of a sandbox"] += 1

    def _create(self, subnet: str, module: str, cycles: int) -> None:
        world, ids = self.world, self.model.places.ids
        controllers = [USER, *ids[:1]]
        create = {"amount": cycles, "settings": {"controllers": [*controllers, Principal(b"\x04")]}}
        sent = world.manage(
            subnet,
            "provisional_create_canister_with_cycles",
            METHODS["provisional_create_canister_with_cycles"].argument,
            create,
        )  # type: ignore[arg-type]
        canister_id = Principal(world.answer(subnet, sent).reply[-10:])
        value = {"mode": {"install": None}, "canister_id": canister_id, "wasm_module": example(module), "arg": b""}
        sent = world.manage(subnet, "install_code", METHODS["install_code"].argument, value)  # type: ignore[arg-type]
        assert world.answer(subnet, sent).status == "replied"
        ids.append(canister_id)
        self.homes[canister_id] = subnet

    def _totals(self, name: str) -> Totals:
        state = self.world[name].replica.state
        return Totals(burned=state.burned(), lost=state.lost_cycles())

    def _about(self, message: Ingress | Request) -> Principal:
        if isinstance(message, Ingress):
            asked = self.asked[message.message_id]
            return asked.canister_id
        call = self.model.every_call.get((message.sender, message.callback_id))
        return NOBODY if call is None or call.about is None else call.about

    # --- actions

    @rule(place=places, script=scripts(), method=st.sampled_from(["update"] * 9 + ["query", "nothing"]), rounds=later)
    def call(self, place: int, script: Script, method: str, rounds: int) -> None:
        """A user calls a canister with anything."""
        self._submit(place, method, script)
        self.rounds(rounds, 1, "", False)

    @rule(place=places, script=trees(), rounds=later)
    def call_tree(self, place: int, script: Script, rounds: int) -> None:
        """A user calls a canister that calls others."""
        self._submit(place, "update", script)
        self.rounds(rounds, 1, "", False)

    @rule(calls=st.lists(st.tuples(places, trees(2)), min_size=2, max_size=4), rounds=later)
    def batch_of_calls(self, calls: list[tuple[int, Script]], rounds: int) -> None:
        """Several users' calls in one batch."""
        for place, script in calls:
            self._submit(place, "update", script)
        self.rounds(rounds, 1, "", False)

    @rule(place=places, method=st.sampled_from(LIFECYCLE), sender=st.sampled_from([USER] * 5 + [STRANGER]), rounds=later)
    def manage(self, place: int, method: str, sender: Principal, rounds: int) -> None:
        """A user, perhaps not a controller, manages a canister."""
        self._manage(Asked(method, self.model.places[place]), sender)
        self.rounds(rounds, 1, "", False)

    @rule(place=places, script=trees(1), what=st.sampled_from(["uninstall_code", "upgrade", "reinstall", "stop_canister"]))
    def interrupt(self, place: int, script: Script, what: str) -> None:
        """Something happens to a canister while its calls are open; then it gets new code, and their responses come."""
        canister_id = self.model.places[place]
        self._submit(place, "update", script)
        self.rounds(1, 1, "", False)
        if what in ("upgrade", "reinstall"):
            self.install(place, what, "universal", ())
        else:
            self._manage(Asked(what, canister_id), USER)
            self.rounds(1, 1, "", False)
            self._manage(Asked("start_canister", canister_id), USER)
            self.install(place, "install", "universal", ())
        self.rounds(3, 1, "", False)

    @rule(place=places)
    def restart(self, place: int) -> None:
        """A stop and a start in one batch: who waits for the stop is told."""
        self._manage(Asked("stop_canister", self.model.places[place]), USER)
        self._manage(Asked("start_canister", self.model.places[place]), USER)

    @rule(place=places, amount=st.integers(0, 10**12))
    def top_up(self, place: int, amount: int) -> None:
        """Cycles out of nothing."""
        self._manage(Asked("provisional_top_up_canister", self.model.places[place], amount=amount), USER)

    @rule(
        place=places,
        mode=st.sampled_from(["install", "reinstall", "upgrade", "upgrade"]),
        module=st.sampled_from(["universal", "universal", "universal_heartbeat"]),
        script=small,
    )
    def install(self, place: int, mode: str, module: str, script: Script) -> None:
        """New code, perhaps while calls are open."""
        canister = self.model.canisters.get(self.model.places[place])
        slots = (
            [] if canister is None else [s for call in canister.calls.values() for s in (*call.on_reply, call.on_cleanup or 0)]
        )
        if all(slot < 8 for slot in slots):  # beyond, the universal canister reads what it doesn't own
            self._manage(Asked("install_code", self.model.places[place], mode, module, script), USER)

    @precondition(lambda self: any(self.batch.values()))
    @rule(name=st.sampled_from(NAMES))
    def repeat(self, name: str) -> None:
        """The last message once more."""
        self.batch[name] += self.batch[name][-1:]

    @rule(
        rounds=st.integers(1, 3),
        seconds=st.sampled_from([1, 1, 1, 1, 2, 10, 100, 301, 700]),
        late=st.sampled_from(["", "", "", "left", "right"]),
        checkpoint=st.booleans(),
    )
    def rounds(self, rounds: int, seconds: int, late: str, checkpoint: bool) -> None:
        """Rounds, the first after so many seconds; slices to one subnet may be late."""
        for number in range(rounds):
            self._round(seconds if number == 0 else 1, late, checkpoint)

    def teardown(self) -> None:
        """All calls end; nothing is left on the way."""
        try:
            if self.sound:
                for _ in range(12):
                    self._round(1, "", False)
                self._all_is_answered()
        finally:
            self.stack.close()

    # --- how they are carried out

    @property
    def asked(self) -> dict[bytes, Asked]:
        """Users' management calls by message id."""
        return self.__dict__.setdefault("_asked", {})  # type: ignore[no-any-return]

    def _submit(self, place: int, method: str, script: Script) -> None:
        canister_id = self.model.places[place]
        arg = bytes(compiled(script, self.model.places))
        self._note_scripts(script)
        name = self.homes.get(canister_id, "left")
        self._put(name, self.world[name].ingress(canister_id, method, arg, USER), None)

    def _note_scripts(self, script: Script) -> None:
        """Arguments are looked up by their bytes."""
        self.model.scripts[bytes(compiled(script, self.model.places))] = script
        for act in script:
            for part in vars(act).values():
                if isinstance(part, tuple):
                    self._note_scripts(part)

    def _manage(self, asked: Asked, sender: Principal) -> None:
        value: dict[str, Any] = {"canister_id": asked.canister_id}
        if asked.method == "install_code":
            program = bytes(compiled(asked.script, self.model.places))
            value |= {"mode": {asked.mode: None}, "wasm_module": example(asked.module), "arg": program}
        if asked.method == "provisional_top_up_canister":
            value["amount"] = asked.amount
        kind = METHODS[asked.method].argument
        assert kind is not None
        name = self.homes.get(asked.canister_id, "left")
        message = self.world[name].ingress(MANAGEMENT_CANISTER, asked.method, encoder.encode([kind], [value]), sender)
        self.asked[message.message_id] = asked
        self._put(name, message, asked)

    def _put(self, name: str, message: Ingress, asked: Asked | None) -> None:
        self.batch[name].append((message, asked))

    def _round(self, seconds: int, late: str, checkpoint: bool) -> None:
        self.sound = False
        self.now += seconds * SECOND
        self.model.now = self.now
        batch, self.batch = self.batch, {name: [] for name in NAMES}
        ingress = {name: [message for message, _ in pairs] for name, pairs in batch.items()}
        self.world.round(ingress, carry=lambda to: to != late, checkpoint=checkpoint, time_ns=self.now)
        steps, self.steps[:] = list(self.steps), []
        for name in NAMES:
            steps = self._induct(batch[name], steps)
        for step in steps:
            self._follow(step)
        self.model.end_round()
        self._compare()
        self.sound = True

    def _induct(self, batch: list[tuple[Ingress, Asked | None]], steps: list[Step]) -> list[Step]:
        """The batch's messages in their order, each with the step in which its canister paid."""
        model = self.model
        for message, asked in batch:
            if message.message_id in model.users:
                continue
            user = model.users[message.message_id] = UserCall(message.message_id, message.sender)
            if message.expiry < self.now:
                user.answer = Answer(code=2, error="IC0202", text="timed out")
                continue
            canister = model.canisters.get(message.receiver if asked is None else asked.canister_id)
            if canister is None:
                user.answer = Answer(code=3, error="IC0301", text="not found")
                continue
            place = next(
                (k for k, one in enumerate(steps) if isinstance(one, Paid) and one.canister_id == canister.canister_id), None
            )
            if place is None:
                raise Disallowed(f"nobody paid for message {message.message_id.hex()} to {canister.canister_id}")
            paid = steps.pop(place)
            assert isinstance(paid, Paid)
            model.sync_refunds(canister, paid.before)
            model.pay_ingress(canister, paid.envelope, accepted=paid.accepted)
            if not paid.accepted:
                user.answer = Answer(code=2, error="IC0207", text="is out of cycles")
            elif asked is None and canister.status != "running":
                error = "IC0508" if canister.status == "stopped" else "IC0509"
                user.answer = Answer(code=5, error=error, text=f"is {canister.status}")
        return steps

    def _follow(self, step: Step) -> None:
        """One step of the implementation is one of the model."""
        model, kind = self.model, type(step).__name__
        self.seen[kind] += 1
        canister = None if step.canister_id is None else model.canisters.get(step.canister_id)
        if canister is not None and step.before is not None:
            model.sync_refunds(canister, step.before)
        match step:
            case Executed():
                assert canister is not None, f"{step.canister_id} is gone"
                message = step.message
                called = message if isinstance(message, Ingress | Request) else Task(message.entry.value)
                model.execute_call(canister, called, step.used)
            case Returned():
                assert canister is not None, f"{step.canister_id} is gone"
                model.execute_response(canister, step.message, step.used)
            case Managed():
                asked = self.asked.get(step.message.message_id) if isinstance(step.message, Ingress) else None
                name = self._subnet_of(step.message, step.canister_id)
                management.execute(model, name, step.message, asked, step.used, step.payload)
            case Paid():
                raise Disallowed(f"{step.canister_id} paid for a message that nobody sent")
        if isinstance(step, Executed | Returned) and canister is not None and canister.balance != step.after:
            raise Disallowed(f"after {step}: {canister.balance:,} in the model, {canister.balance - step.after:+,} too many")

    def _subnet_of(self, message: Ingress | Request, canister_id: Principal | None) -> str:
        return self.homes.get(self._about(message) if canister_id is None else canister_id, "left")

    # --- comparing

    def _compare(self) -> None:
        model = self.model
        for name in NAMES:
            state = self.world[name].replica.state
            expected = sorted(one.canister_id for one in model.canisters.values() if one.subnet == name)
            assert sorted(state.canisters) == expected
            for canister_id in expected:
                ours, theirs = model.canisters[canister_id], state.canisters[canister_id]
                model.sync_refunds(ours, theirs.balance)
                shown = (
                    ours.status,
                    ours.version,
                    ours.module is None,
                    len(ours.contexts),
                    sorted(ours.calls),
                    len(ours.stops),
                )
                found = (
                    theirs.status.value,
                    theirs.version,
                    theirs.execution is None,
                    len(theirs.contexts),
                    sorted(theirs.callbacks),
                    len(theirs.stop_calls),
                )
                assert found == shown, f"{canister_id}: {found}, in the model {shown}"
                assert theirs.global_timer == ours.timer, (
                    f"{canister_id}: timer {theirs.global_timer}, in the model {ours.timer}"
                )
            assert state.burned() == model.totals[name].burned, (
                f"{name}: {state.burned() - model.totals[name].burned:+,} burned"
            )
        lost = sum(self.world[name].replica.state.lost_cycles() - model.totals[name].lost for name in NAMES)
        assert 0 <= lost <= sum(model.orphaned), f"{lost:+,} cycles are lost; may be: {model.orphaned}"
        for message_id, user in model.users.items():
            outcome = self.world.outcomes.get(message_id)
            if (outcome is None) != (user.answer is None):
                raise Disallowed(f"message {message_id.hex()}: {outcome}, in the model {user.answer}")
            if outcome is not None and user.answer is not None:
                rejected = Reject(RejectCode(outcome.reject_code or 1), outcome.reject_message)
                payload = Reply(outcome.reply) if outcome.status == "replied" else rejected
                same = agrees(user.answer, payload) and outcome.error_code == user.answer.error
                assert same, f"message {message_id.hex()}: {outcome}, in the model {user.answer}"
        self.world.check()

    def _all_is_answered(self) -> None:
        """Guaranteed calls end by themselves, once slices and time go on."""
        model = self.model
        waiting = [str(call) for canister in model.canisters.values() for call in canister.calls.values()]
        assert not any(self.batch.values())
        if not any(isinstance(call, str) for call in waiting):
            open_users = [user for user in model.users.values() if user.answer is None]
            stops = [stop for canister in model.canisters.values() for stop in canister.stops]
            assert len(open_users) <= len(stops), f"{len(open_users)} calls of users have no answer"


def compare(chosen: int, *, shrink: bool) -> None:
    """Twenty sequences of actions; fails with the first that the model doesn't allow, or the shortest like it.

    With odd seeds sandboxes are killed meanwhile.
    """
    TwoSubnets.kills = random.Random(chosen) if chosen % 2 else None
    print(f"seed {chosen}: `make model SEED={chosen}` repeats this")
    run_state_machine_as_test(
        seed(chosen)(TwoSubnets),
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
