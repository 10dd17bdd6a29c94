"""Creating and installing the topology's canisters, by ordinary signed ingress messages in the first rounds.

Rule module. Spec: interface spec, "IC method provisional_create_canister_with_cycles" (with specified_id), "IC method
install_code" and "IC method update_settings". Creating comes first for all, then installs, so many bytes at a time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ic_types.candid.encoder import encode
from ic_types.envelope import build_call
from ic_types.principal import MANAGEMENT_CANISTER
from ic_types.units import NS_PER_SECOND, TimeNs
from subnet.coordinator.driver import DriverCall, DriverQuery
from subnet.coordinator.network_plan import CanisterPlan, NetworkPlan
from subnet.identities import identity_named
from subnet.management.candid_types import INSTALL_CODE, UPDATE_SETTINGS
from subnet.protocol import IngressOutcome, QueryReply

_BYTES_IN_FLIGHT = 8 << 20
"""Of install messages that are unanswered, per subnet."""
_STEPS = ("create", "install", "settings")
_DONE = ("created", "installed", "given its controllers")


@dataclass(frozen=True, slots=True)
class _Sent:
    canister: CanisterPlan
    step: int
    size: int


class Bootstrap:
    """Installs everything; then it is finished."""

    def __init__(self, plan: NetworkPlan) -> None:
        self._plan = plan
        self._ttl_ns = min(subnet.limits.ingress_ttl_s for subnet in plan.subnets) * NS_PER_SECOND
        self._due: list[deque[tuple[CanisterPlan, int]]] = [deque() for _ in plan.subnets]
        for canister in plan.canisters:
            self._due[canister.subnet].append((canister, 0))
        self._in_flight = [0] * len(plan.subnets)
        self._sent: dict[int, _Sent] = {}
        self._token = 0
        self.open = len(plan.canisters)
        """Canisters that aren't installed yet."""
        self.problem: str | None = None

    @property
    def finished(self) -> bool:
        """All canisters are installed."""
        return self.open == 0

    @property
    def will_send(self) -> bool:
        """Something is due that only waits for its round."""
        return any(due and flying < _BYTES_IN_FLIGHT for due, flying in zip(self._due, self._in_flight, strict=True))

    def calls(self, height: int, now: int | None = None) -> tuple[list[DriverCall], list[DriverQuery]]:
        """Messages of this round; `now` is the network's time before it, by default the virtual one."""
        now = self._plan.virtual_time_at(height - 1) if now is None else now
        made = []
        for place, due in enumerate(self._due):
            while due and self._in_flight[place] < _BYTES_IN_FLIGHT:
                canister, step = due.popleft()
                made.append(self._call(canister, step, now))
        return made, []

    def _call(self, canister: CanisterPlan, step: int, now: int) -> DriverCall:
        method, arg = self._message(canister, step)
        envelope = build_call(
            identity_named(self._plan.identity_seed, canister.installer),
            canister_id=MANAGEMENT_CANISTER,
            method=method,
            arg=arg,
            expiry=TimeNs(now + self._ttl_ns),
            nonce=f"{_STEPS[step]} {canister.canister_id.canister_index()}".encode(),
        )
        self._token += 1
        self._sent[self._token] = _Sent(canister, step, len(envelope))
        self._in_flight[canister.subnet] += len(envelope)
        return DriverCall(self._token, envelope, canister.canister_id)

    def sending(self) -> str:
        """What was sent last, for messages about what went wrong."""
        sent = self._sent[max(self._sent)]
        return f"canister {sent.canister.name} can't be {_DONE[sent.step]}, its module may be too large"

    def _message(self, canister: CanisterPlan, step: int) -> tuple[str, bytes]:
        if step == 0:
            return "provisional_create_canister_with_cycles", canister.create_arg
        if step == 1:
            install = {
                "mode": {"install": None},
                "canister_id": canister.canister_id,
                "wasm_module": self._plan.wasms[canister.wasm],
                "arg": canister.init_arg,
            }
            return "install_code", encode([INSTALL_CODE], [install])
        after = list(canister.controllers_after or ())
        return "update_settings", encode(
            [UPDATE_SETTINGS], [{"canister_id": canister.canister_id, "settings": {"controllers": after}}]
        )

    def answered(self, token: int, outcome: IngressOutcome | QueryReply, height: int) -> None:
        """A step is done, or failed: then the network can't be what the topology says."""
        sent = self._sent.pop(token)
        canister, last = sent.canister, 1 if sent.canister.controllers_after is None else 2
        self._in_flight[canister.subnet] -= sent.size
        if outcome.status != "replied":
            code = f" ({outcome.error_code})" if outcome.error_code else ""
            self.problem = (
                self.problem or f"canister {canister.name} can't be {_DONE[sent.step]}: {outcome.reject_message}{code}"
            )
        elif sent.step == last:
            self.open -= 1
        else:
            self._due[canister.subnet].append((canister, sent.step + 1))
