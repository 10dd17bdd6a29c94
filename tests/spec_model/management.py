"""The management canister in the model, as far as the machine's actions use it. Spec: its transitions, one method each."""

from __future__ import annotations

from dataclasses import dataclass

from ic_types.candid import decoder
from ic_types.messages import Ingress, Request
from ic_types.principal import Principal
from ic_types.reject import Payload, Reply
from subnet.management import candid_types
from tests.spec_model import prices
from tests.spec_model.interpreter import Run, Trapped
from tests.spec_model.model import MANAGED, Model
from tests.spec_model.script import Script
from tests.spec_model.state import Answer, Call, Canister, Disallowed, Memory, Stop, UserCall

UNINSTALLED = Answer(code=4, error="IC0406", text="has been uninstalled")


@dataclass(frozen=True)
class Asked:
    """A management call of a user: what its argument says."""

    method: str
    canister_id: Principal
    mode: str = ""
    module: str = ""
    script: Script = ()
    amount: int = 0


def execute(
    model: Model, subnet: str, message: Ingress | Request, asked: Asked | None, used: int, observed: Payload | None
) -> None:
    """One call is executed on a subnet; `asked` for a user's, `used` instructions of the canister it is about.

    `observed`: the outcome where the specification leaves it open.
    """
    if isinstance(message, Ingress):
        assert asked is not None
        origin: UserCall | Call = model.users[message.message_id]
        payment = 0
    else:
        origin = model._call_of(message)
        if origin.state not in ("sent", "expired") or origin.answer is not None:
            raise Disallowed(f"{origin} is executed in state {origin.state}")
        assert origin.about is not None
        asked = Asked(origin.method, origin.about)
        payment = origin.cycles
        origin.state = "open" if origin.state == "sent" else origin.state
        origin.refusals = []
        model._forget_owed(origin)
    caller = origin.sender if isinstance(origin, UserCall) else origin.caller
    canister = model.canisters.get(asked.canister_id)
    if canister is None or canister.subnet != subnet:
        model.respond(subnet, origin, Answer(code=3, error="IC0301", text="not found"), payment)
        return
    open_to_all = ("deposit_cycles", "provisional_top_up_canister")
    itself = asked.method == "canister_status" and caller == asked.canister_id
    if asked.method not in open_to_all and caller not in canister.controllers and not itself:
        error = "IC0542" if asked.method == "canister_status" else "IC0512"
        model.respond(subnet, origin, Answer(code=5, error=error), payment)
        return
    if asked.method == "install_code":
        model.respond(subnet, origin, _install(model, canister, asked, used), payment)
    elif asked.method == "deposit_cycles":
        canister.balance += payment
        model.respond(subnet, origin, MANAGED, 0)
    elif asked.method == "stop_canister":
        _stop(model, canister, origin, payment)
    else:
        model.respond(subnet, origin, _simple(model, canister, asked, observed), payment)


def _simple(model: Model, canister: Canister, asked: Asked, observed: Payload | None) -> Answer:
    match asked.method:
        case "provisional_top_up_canister":
            canister.balance += asked.amount
        case "start_canister":
            waiting, canister.stops = canister.stops, []
            model.set_status(canister, "running")
            canister.version += 1
            for stop in waiting:
                cancelled = Answer(code=5, error="IC0511", text="stop request was cancelled")
                model.respond(canister.subnet, stop.origin, cancelled, stop.cycles)
        case "uninstall_code":
            canister.module, canister.memory, canister.timer = None, Memory(), 0
            canister.version += 1
            for context in list(canister.contexts):
                if not context.responded:
                    model.answer_context(canister, context, UNINSTALLED)
                context.deleted = True
        case "delete_canister":
            return _delete(model, canister, observed)
        case "canister_status":
            return _status(canister, observed)
        case _:
            raise AssertionError(f"the model knows no {asked.method}")
    return MANAGED


def _stop(model: Model, canister: Canister, origin: UserCall | Call, payment: int) -> None:
    canister.version += 1
    if canister.status == "stopped":
        model.respond(canister.subnet, origin, MANAGED, payment)
        return
    model.set_status(canister, "stopping")
    canister.stops.append(Stop(origin, payment, model.now))


def _status(canister: Canister, observed: Payload | None) -> Answer:
    """Compares what the reply says with the model."""
    assert isinstance(observed, Reply), f"canister_status gives {observed}"
    told = decoder.decode(observed.data, [candid_types.CANISTER_STATUS])[0]
    found = {
        "status": next(iter(told["status"])) if isinstance(told["status"], dict) else told["status"],
        "version": told["version"],
        "cycles": told["cycles"],
        "empty": told["module_hash"] is None,
        "controllers": set(told["settings"]["controllers"]),
    }
    expected = {
        "status": canister.status,
        "version": canister.version,
        "cycles": canister.balance,
        "empty": canister.module is None,
        "controllers": set(canister.controllers),
    }
    if found != expected:
        raise Disallowed(f"canister_status of {canister.canister_id} says {found}, expected {expected}")
    return Answer(reply=observed.data)


def _delete(model: Model, canister: Canister, observed: Payload | None) -> Answer:
    """Messages on their way from or to the canister may keep it alive."""
    if canister.status != "stopped":
        return Answer(code=5, error="IC0510", text="must be stopped")
    underway = [c for c in model._all_calls() if canister.canister_id in (c.caller, c.callee)] or canister.calls
    if canister.calls or (underway and not isinstance(observed, Reply)):
        return Answer(code=2, error="IC0203")
    model.remove(canister)
    return MANAGED


def _install(model: Model, canister: Canister, asked: Asked, used: int) -> Answer:
    if canister.installed_at == model.now:
        return Answer(code=2, error="IC0209", text="rate limited")
    if asked.mode == "install" and canister.module is not None:
        return Answer(code=5, error="IC0514", text="")
    if asked.mode == "upgrade" and canister.module is None:
        return Answer(code=5, error="IC0537", text="contains no Wasm module")
    if canister.balance < prices.execution(model.install_limit):
        return Answer(code=2, error="IC0207", text="")
    canister.installed_at = model.now
    before = canister.balance - prices.execution(model.install_limit)
    canister.balance -= prices.execution(used)
    model.burn(canister, prices.execution(used))
    memory, burned = canister.memory.copy(), 0
    try:
        if asked.mode == "upgrade":
            first = _step(model, memory, before, memory.pre_upgrade)
            before, burned = before - first.burned, first.burned
        second = _step(model, Memory(), before, asked.script)
    except Trapped as trapped:
        return trapped.answer
    burned += second.burned
    canister.balance -= burned
    model.burn(canister, burned)
    canister.memory, canister.module = second.memory, asked.module
    canister.timer = second.timer or 0  # one that pre_upgrade sets doesn't count
    canister.version += 1
    return MANAGED


def _step(model: Model, memory: Memory, balance: int, script: Script) -> Run:
    run = Run(
        kind="init",
        memory=memory,
        balance=balance,
        available=0,
        may_respond=False,
        now=model.now,
        places=model.places,
        message_limit=model.message_limit,
    )
    return run.run(script)
