"""The specification as a plain model: what each step of the implementation may do, and the state after it.

The implementation decides which of several possible steps comes next, and how many instructions a message takes; all else
follows here. Idle canisters cost nothing and nothing freezes, so every change of a balance is one of these steps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ic_types.messages import Ingress, Request, Response
from ic_types.principal import MANAGEMENT_CANISTER, Principal
from ic_types.reject import Payload, RejectCode
from ic_types.reject import Reply as ReplyPayload
from tests.spec_model import prices
from tests.spec_model.interpreter import Performed, Run, Trapped
from tests.spec_model.script import Places, Script
from tests.spec_model.state import (
    Answer,
    Call,
    Canister,
    Context,
    Disallowed,
    Origin,
    Task,
    UserCall,
)

MANAGED = Answer(reply=b"DIDL\0\0")
NO_RESPONSE = Answer(code=5, error="IC0506", text="")
EXPIRED = Answer(code=6, error="IC0601", text="Call deadline has expired.")
QUEUED_TOO_LONG = Answer(code=2, text="Request timed out.")
NOT_FOUND = Answer(code=3, text="not found")
REQUEST_LIFETIME_NS = 300 * 10**9
STOP_TIMEOUT_NS = 300 * 10**9
REPLICATED_QUERY_LIMIT = 5 * 10**9


@dataclass
class Totals:
    """Cycles of one subnet."""

    burned: int = 0
    lost: int = 0


@dataclass
class Model:
    """All subnets of the network."""

    message_limit: int
    install_limit: int
    places: Places
    canisters: dict[Principal, Canister] = field(default_factory=dict)
    totals: dict[str, Totals] = field(default_factory=dict)
    users: dict[bytes, UserCall] = field(default_factory=dict)
    scripts: dict[bytes, Script] = field(default_factory=dict)
    """By argument: the script that a message runs."""
    now: int = 0
    every_call: dict[tuple[Principal, int], Call] = field(default_factory=dict)
    """Calls by caller and number, finished ones included: expired ones may still be executed."""
    seen: Counter[str] = field(default_factory=Counter)
    """Counts of what happened, to tell what a run was worth."""
    orphaned: list[int] = field(default_factory=list)
    """Cycles that come back to canisters that are gone: lost, some time."""

    # --- parts of many steps

    def burn(self, canister: Canister, amount: int) -> None:
        """These cycles have left the canister for good."""
        self.totals[canister.subnet].burned += amount

    def respond(self, canister_subnet: str, origin: Origin, answer: Answer, refund: int) -> None:
        """Send an answer to whoever waits for it. Spec: exactly one response to each call."""
        if isinstance(origin, Call):
            if origin.answer is not None:
                raise Disallowed(f"{origin} is answered twice: {origin.answer}, then {answer}")
            origin.answer, origin.refund = answer, refund
            if origin.state == "expired":
                self._owe(origin, refund)
            else:
                origin.state = "answered"
        elif isinstance(origin, UserCall):
            if origin.answer is not None:
                raise Disallowed(f"the call {origin.message_id.hex()} is answered twice: {origin.answer}, then {answer}")
            origin.answer = answer
            self.totals[canister_subnet].lost += refund

    def _owe(self, call: Call, amount: int) -> None:
        """Cycles of an expired call will come back by themselves."""
        call.owed = amount
        caller = self.canisters.get(call.caller)
        if caller is None:
            self.orphaned.append(amount)
        elif amount:
            caller.owed.append(call)

    def answer_context(self, canister: Canister, context: Context, answer: Answer) -> None:
        """State after: needs_to_respond = false, available_cycles = 0."""
        refund, context.cycles, context.responded = context.cycles, 0, True
        self.respond(canister.subnet, context.origin, answer, refund)

    def close(self, canister: Canister, context: Context, error: Answer | None) -> None:
        """Call context starvation and removal."""
        if context.outstanding:
            if context not in canister.contexts:
                canister.contexts.append(context)
            return
        if not context.responded:
            self.answer_context(canister, context, error or NO_RESPONSE)
        if context in canister.contexts:
            canister.contexts.remove(context)

    def set_status(self, canister: Canister, status: str) -> None:
        """Requests on their way to a canister that doesn't run may be turned away."""
        canister.status = status
        if status != "running":
            for call in self._all_calls():
                if call.callee == canister.canister_id and call.state in ("sent", "expired"):
                    call.refusals.append(Answer(code=5, text=f"Canister {canister.canister_id} is {status}"))

    def _all_calls(self) -> list[Call]:
        return [call for canister in self.canisters.values() for call in canister.calls.values()]

    def sync_refunds(self, canister: Canister, balance: int) -> None:
        """Cycles of expired calls come back when the implementation says so: all of some calls, never a part."""
        surplus = balance - canister.balance
        if not surplus:
            return
        owed = [(call, call.owed) for call in canister.owed]
        owed += [(call, self._coming_back(call)) for call in canister.calls.values() if call.expired(self.now)]
        chosen = _subset([amount for _, amount in owed], surplus)
        if chosen is None:
            amounts = [amount for _, amount in owed]
            raise Disallowed(f"{canister.canister_id} has {balance:,} cycles, {surplus:+,} against the model; owed: {amounts}")
        for k in chosen:
            self.seen["refund of an expired call"] += 1
            call = owed[k][0]
            call.credited = True
            if call in canister.owed:
                canister.owed.remove(call)
        canister.balance = balance

    def _coming_back(self, call: Call) -> int:
        """What an expired call brings back by itself, whether or not its callback has run."""
        if call.credited:
            return 0
        return call.refund if call.answer is not None else call.cycles if call.state == "sent" else 0

    # --- steps: messages of canisters

    def pay_ingress(self, canister: Canister, envelope: int, *, accepted: bool) -> None:
        """A user's message arrives: its canister pays if it can."""
        fee = prices.ingress(envelope)
        if accepted != (canister.balance >= fee):
            raise Disallowed(f"ingress for {canister.canister_id}, balance {canister.balance:,}, fee {fee:,}: {accepted}")
        if accepted:
            canister.balance -= fee
            self.burn(canister, fee)

    def execute_call(self, canister: Canister, message: Ingress | Request | Task, used: int) -> None:
        """Call context creation and message execution."""
        origin = self._origin_of(canister, message)
        cycles = message.payment if isinstance(message, Request) else 0
        is_query = not isinstance(message, Task) and message.method == "query" and canister.module is not None
        limit = REPLICATED_QUERY_LIMIT if is_query else self.message_limit
        refusal = self._refusal(canister, message)
        if canister.balance < prices.execution(limit):
            self.respond(canister.subnet, origin, Answer(code=2, error="IC0207", text="is out of cycles"), cycles)
            return
        if refusal is not None:
            canister.balance -= prices.MESSAGE_BASE
            self.burn(canister, prices.MESSAGE_BASE)
            self.respond(canister.subnet, origin, refusal, cycles)
            return
        context = Context(origin=origin, cycles=cycles)
        kind = "task" if isinstance(message, Task) else "query" if is_query else "update"
        run = self._run(kind, canister, canister.balance - prices.execution(limit), context)
        script = self._script_of(canister, message)
        if isinstance(message, Task) and message.name == "global_timer":
            canister.timer = 0
        error = self._finish(canister, context, run, script)
        canister.balance -= prices.execution(used)
        self.burn(canister, prices.execution(used))
        self.close(canister, context, error)

    def _origin_of(self, canister: Canister, message: Ingress | Request | Task) -> Origin:
        if isinstance(message, Task):
            due = canister.has_heartbeat if message.name == "heartbeat" else 0 < canister.timer <= self.now
            if not due or canister.status != "running" or canister.module is None:
                raise Disallowed(f"{message} on {canister.canister_id}: status {canister.status}, timer {canister.timer}")
            return message
        if isinstance(message, Ingress):
            return self.users[message.message_id]
        call = self._call_of(message)
        if call.state not in ("sent", "expired") or call.answer is not None or call.credited:
            raise Disallowed(f"{call} is executed in state {call.state}")
        if call.callee != canister.canister_id:
            raise Disallowed(f"{call} is executed by {canister.canister_id}")
        if call.state == "sent":
            call.state = "open"
        call.refusals = []
        self._forget_owed(call)
        return call

    def _call_of(self, request: Request) -> Call:
        call = self._known_call(request.sender, request.callback_id)
        made = (call.callee, call.method, call.argument, call.cycles, call.deadline_s)
        got = (request.receiver, request.method, request.arg, request.payment, request.deadline_s)
        if made != got:
            raise Disallowed(f"{call} arrives as another: {got}, was {made}")
        return call

    def _known_call(self, caller: Principal, number: int) -> Call:
        call = self.every_call.get((caller, number))
        if call is None:
            raise Disallowed(f"{caller} has made no call {number}")
        return call

    def _forget_owed(self, call: Call) -> None:
        caller = self.canisters.get(call.caller)
        if caller is None:
            if call.owed:
                self.orphaned.remove(call.owed)
        elif call in caller.owed:
            caller.owed.remove(call)

    def _refusal(self, canister: Canister, message: Ingress | Request | Task) -> Answer | None:
        if canister.status != "running":
            error = "IC0508" if canister.status == "stopped" else "IC0509"
            return Answer(code=5, error=error, text="is not running")
        if canister.module is None:
            return Answer(code=5, error="IC0537", text="contains no Wasm module")
        if isinstance(message, Task) or message.method in ("update", "query"):
            return None
        if message.method == "composite_query":
            return Answer(code=5, error="IC0527", text="Composite query cannot be called in replicated mode")
        return Answer(code=5, error="IC0536", text=f"has no update method '{message.method}'")

    def _script_of(self, canister: Canister, message: Ingress | Request | Task) -> Script:
        if isinstance(message, Task):
            return canister.memory.heartbeat if message.name == "heartbeat" else canister.memory.timer
        return self.scripts[message.arg]

    def _run(self, kind: str, canister: Canister, balance: int, context: Context | None) -> Run:
        is_task = context is None or isinstance(context.origin, Task)
        return Run(
            kind=kind,
            memory=canister.memory.copy(),
            balance=balance,
            available=0 if context is None or context.responded else context.cycles,
            may_respond=not is_task and not (context is not None and context.responded) and kind != "cleanup",
            now=self.now,
            places=self.places,
            message_limit=self.message_limit,
        )

    def _finish(self, canister: Canister, context: Context, run: Run, script: Script) -> Answer | None:
        """Run the script and apply what it did; or nothing of it, and the error."""
        try:
            run.run(script)
        except Trapped as trapped:
            return trapped.answer
        canister.balance += run.accepted - run.burned
        context.cycles -= run.accepted
        self.burn(canister, run.burned)
        if run.kind != "query":
            canister.version += 1
            canister.memory = run.memory
            if run.timer is not None:
                canister.timer = run.timer
        if run.answer is not None:
            self.answer_context(canister, context, run.answer)
        for performed in run.calls:
            self._send(canister, context, performed)
        return None

    def _send(self, canister: Canister, context: Context, performed: Performed) -> None:
        act = performed.act
        callee = MANAGEMENT_CANISTER if not hasattr(act, "script") else self.places[act.place]
        deadline = 0 if act.timeout_s is None else (self.now + min(act.timeout_s, 300) * 10**9) // 10**9
        call = Call(
            caller=canister.canister_id,
            number=canister.next_call,
            callee=callee,
            method=act.method,
            argument=performed.argument,
            cycles=act.cycles,
            deadline_s=deadline,
            context=context,
            on_reply=performed.on_reply,
            on_cleanup=performed.on_cleanup,
            made=self.now,
            about=self.places[act.place],
        )
        canister.next_call += 1
        canister.calls[call.number] = self.every_call[call.caller, call.number] = call
        canister.balance -= act.cycles + performed.cost
        context.outstanding += 1
        self.burn(canister, prices.request(len(act.method) + len(performed.argument)))
        target = self.canisters.get(callee)
        if callee != MANAGEMENT_CANISTER and target is None:
            call.refusals.append(NOT_FOUND)
        elif target is not None and target.status != "running":
            call.refusals.append(Answer(code=5, text=f"Canister {callee} is {target.status}"))
        elif callee == MANAGEMENT_CANISTER and call.about not in self.canisters:
            call.refusals.append(Answer(code=3))

    def execute_response(self, canister: Canister, response: Response, used: int) -> None:
        """Callback invocation: refunds, then the callback, then its cleanup if it traps."""
        call = canister.calls.pop(response.callback_id, None)
        if call is None:
            raise Disallowed(f"a response to call {response.callback_id} of {canister.canister_id}, which isn't open")
        answer, refund = self._response_of(call, response)
        canister.balance += refund
        fee = min(prices.TRANSMISSION * _payload_bytes(response.payload), prices.TRANSMISSION * prices.LARGEST_RESPONSE)
        canister.balance += prices.TRANSMISSION * prices.LARGEST_RESPONSE - fee
        self.burn(canister, fee + prices.execution(used))
        context, error = call.context, None
        if not context.deleted and canister.module is not None:
            slot = call.on_reply[0 if answer.reply is not None else 1]
            kind = "reply" if answer.reply is not None else "reject"
            error = self._callback(kind, canister, context, slot, call.on_reply)
            if error is not None and call.on_cleanup is not None:
                self.seen["cleanup"] += 1
                self._callback("cleanup", canister, context, call.on_cleanup, (call.on_cleanup,))
        elif not used:
            self.seen["response to a deleted call context"] += 1
        else:
            raise Disallowed(f"a callback of {canister.canister_id} ran, though its call context is deleted")
        canister.balance += self.message_limit - used
        context.outstanding -= 1
        self.close(canister, context, error)

    def _callback(self, kind: str, canister: Canister, context: Context, slot: int, freed: tuple[int, ...]) -> Answer | None:
        run = self._run(kind, canister, canister.balance, context)
        script = run.memory.slots.get(slot, ())
        for one in freed:
            run.memory.slots.pop(one, None)
        return self._finish(canister, context, run, script)

    def _response_of(self, call: Call, response: Response) -> tuple[Answer, int]:
        """Which answer this response is; it must be one that the call may have got."""
        possible: list[tuple[Answer, int]] = []
        if call.answer is not None and not call.credited:
            possible.append((call.answer, call.refund))
        if call.state == "sent" and not call.credited:
            possible += [(refusal, call.cycles) for refusal in call.refusals]
            if self.now > call.made + REQUEST_LIFETIME_NS or call.expired(self.now):
                possible.append((QUEUED_TOO_LONG, call.cycles))
        if call.expired(self.now):
            possible.append((EXPIRED, 0))
        for answer, refund in possible:
            if refund == response.refund and agrees(answer, response.payload):
                self.seen[f"response {'reply' if answer.code == 0 else f'{answer.code} {answer.error}'}"] += 1
                self._settle(call, answer)
                return answer, refund
        listed = "; ".join(f"{answer}, refund {refund:,}" for answer, refund in possible) or "nothing yet"
        raise Disallowed(f"{call} got {response.payload}, refund {response.refund:,}; possible: {listed}")

    def _settle(self, call: Call, answer: Answer) -> None:
        """A call that expired may still be executed and answered; its cycles come back by themselves."""
        if answer is EXPIRED:
            owed = self._coming_back(call)
            call.state = "expired"
            self._owe(call, owed)

    # --- steps: rounds

    def end_round(self) -> None:
        """Stopping canisters without open call contexts are stopped; stop calls that have waited for too long are rejected."""
        for canister in self.canisters.values():
            if canister.status != "stopping":
                continue
            if not canister.contexts:
                canister.version += 1
                self.set_status(canister, "stopped")
                waiting, canister.stops = canister.stops, []
                for stop in waiting:
                    self.respond(canister.subnet, stop.origin, MANAGED, stop.cycles)
                continue
            late = [stop for stop in canister.stops if self.now >= stop.since + STOP_TIMEOUT_NS]
            canister.stops = [stop for stop in canister.stops if stop not in late]
            for stop in late:
                timeout = Answer(code=2, error="IC0206", text="Stop canister request timed out")
                self.respond(canister.subnet, stop.origin, timeout, stop.cycles)

    def remove(self, canister: Canister) -> None:
        """The canister is deleted; what is left of its cycles is burned."""
        self.burn(canister, canister.balance)
        self.orphaned += [call.owed for call in canister.owed]
        del self.canisters[canister.canister_id]


def agrees(answer: Answer, payload: Payload) -> bool:
    """Whether a response's payload is this answer."""
    if isinstance(payload, ReplyPayload):
        return answer.reply == payload.data
    error = "" if payload.error_code is None else payload.error_code.text
    known = payload.error_code is None or not answer.error or error == answer.error
    return answer.reply is None and RejectCode(answer.code) == payload.code and known and answer.text in payload.message


def _payload_bytes(payload: Payload) -> int:
    return len(payload.data) if isinstance(payload, ReplyPayload) else len(payload.message.encode())


def _subset(amounts: list[int], total: int) -> tuple[int, ...] | None:
    """Which of the amounts add up to the total; None if none do."""
    if total == 0:
        return ()
    for k, amount in enumerate(amounts):
        if 0 < amount <= total:
            rest = _subset(amounts[k + 1 :], total - amount)
            if rest is not None:
                return (k, *(k + 1 + one for one in rest))
    return None
