"""What the implementation does: its rules run unchanged, and each finished step is told with balances and instructions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from unittest.mock import patch

from ic_types.messages import Ingress, Request, Response
from ic_types.principal import Principal
from ic_types.reject import Payload
from scheduler import callbacks, charging, message_execution
from scheduler.canister import Canister, SystemTask
from subnet.management import dispatch

Rule: TypeAlias = Generator[Any, Any, Any]


@dataclass(frozen=True)
class Paid:
    """A user's message was charged to a canister, or couldn't be."""

    canister_id: Principal
    before: int
    envelope: int
    accepted: bool


@dataclass(frozen=True)
class Executed:
    """A call or task of a canister was executed or refused; `before` and `after` are its balance."""

    canister_id: Principal
    message: Ingress | Request | SystemTask
    before: int
    after: int
    used: int


@dataclass(frozen=True)
class Returned:
    """A response was executed."""

    canister_id: Principal
    message: Response
    before: int
    after: int
    used: int


@dataclass(frozen=True)
class Managed:
    """A call to the management canister was executed; balances of the canister it is about, None without one."""

    canister_id: Principal | None
    message: Ingress | Request
    payload: Payload | None
    before: int | None
    used: int


Step: TypeAlias = Paid | Executed | Returned | Managed


@contextmanager
def observed(tell: Callable[[Step], None], about: Callable[[Ingress | Request], Principal]) -> Iterator[None]:
    """Tell every step of all replicas in this process; `about` says which canister a management call is about."""
    pay, call, respond, manage = (
        charging.pay_ingress,
        message_execution.execute_call,
        callbacks.execute_response,
        dispatch.execute_management_call,
    )

    def paying(world: Any, canister: Canister, raw_bytes: int) -> Any:
        before, refused = canister.balance, pay(world, canister, raw_bytes)
        tell(Paid(canister.canister_id, before, raw_bytes, refused is None))
        return refused

    def calling(core: Any, canister: Canister, message: Any, *more: Any) -> Rule:
        before, counted = canister.balance, canister.metrics.instructions
        yield from call(core, canister, message, *more)
        assert canister.long_execution is None, "the model knows no slices"
        used = canister.metrics.instructions - counted
        tell(Executed(canister.canister_id, message, before, canister.balance, used))

    def responding(core: Any, canister: Canister, message: Any, *more: Any) -> Rule:
        before, counted = canister.balance, canister.metrics.instructions
        yield from respond(core, canister, message, *more)
        used = canister.metrics.instructions - counted
        tell(Returned(canister.canister_id, message, before, canister.balance, used))

    def managing(ctx: Any, message: Any) -> Rule:
        canister = ctx.canisters.get(about(message))
        before = None if canister is None else canister.balance
        counted = 0 if canister is None else canister.metrics.instructions
        outcome = yield from manage(ctx, message)
        used = 0 if canister is None else canister.metrics.instructions - counted
        tell(Managed(None if canister is None else canister.canister_id, message, outcome.payload, before, used))
        return outcome

    with ExitStack() as stack:
        stack.enter_context(patch.object(charging, "pay_ingress", paying))
        stack.enter_context(patch.object(message_execution, "execute_call", calling))
        stack.enter_context(patch.object(callbacks, "execute_response", responding))
        stack.enter_context(patch.object(dispatch, "execute_management_call", managing))
        yield
