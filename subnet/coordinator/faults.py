"""Faults that a run is asked to suffer: read, checked against the plan, handed to the node they strike.

Rule module. Before the batch of that height is executed,

    flip:NODE,CANISTER,PAGE,BYTE@HEIGHT     one node damages one byte of its committed memory: the nodes differ
    forge:SUBNET,CANISTER,CYCLES@HEIGHT     all nodes of a subnet put cycles out of nothing into a balance: an invariant breaks

and from that height on, once,

    crash:NODE,STEP@HEIGHT                  one node ends as by kill -9 when it passes a step of an install or a load

The nodes' side is `subnet.node.faults`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ic_types.errors import ConfigError, InvalidPrincipal
from ic_types.principal import CanisterId, Principal
from ic_types.units import OS_PAGE_BYTES
from subnet.coordinator.network_plan import NetworkPlan
from subnet.management.steps import NAMES, STEPS

FORM = "flip:NODE,CANISTER,PAGE,BYTE@HEIGHT"
FORGE_FORM = "forge:SUBNET,CANISTER,CYCLES@HEIGHT"
CRASH_FORM = "crash:NODE,STEP@HEIGHT"
_FLIP = re.compile(r"flip:([^,@]+),([^,@]+),([0-9]+),([0-9]+)@([0-9]+)")
_FORGE = re.compile(r"forge:([^,@]+),([^,@]+),([0-9]+)@([0-9]+)")
_CRASH = re.compile(r"crash:([^,@]+),([^,@]+)@([0-9]+)")


def resolve_faults(faults: Sequence[str], plan: NetworkPlan) -> tuple[str, ...]:
    """The faults with canister ids in place of names.

    Raises: ConfigError naming the fault, what is wrong with it and what is allowed.
    """
    return tuple(_resolve(fault, plan) for fault in faults)


def _resolve(fault: str, plan: NetworkPlan) -> str:
    forged = _FORGE.fullmatch(fault)
    if forged is not None:
        return _resolve_forge(fault, *forged.groups(), plan=plan)
    crash = _CRASH.fullmatch(fault)
    if crash is not None:
        return _resolve_crash(fault, *crash.groups(), plan=plan)
    match = _FLIP.fullmatch(fault)
    if match is None:
        raise ConfigError(
            f"fault {fault!r} has not the form {FORM}, e.g. flip:app-1/2,ledger,0,17@40, nor the form {FORGE_FORM}, e.g. "
            f"forge:app-1,ledger,1000@40, nor the form {CRASH_FORM}, e.g. crash:app-1/2,upgrade.compiled@40"
        )
    node, canister, page, byte, height = match.groups()
    place = _subnet_of(fault, node, plan)
    canister_id = _canister(fault, canister, place, plan)
    if int(byte) >= OS_PAGE_BYTES:
        raise ConfigError(f"fault {fault!r}: byte {byte} is outside a page; allowed are 0 to {OS_PAGE_BYTES - 1}")
    _check_height(fault, height)
    return f"flip:{node},{canister_id.to_text()},{int(page)},{int(byte)}@{int(height)}"


def _resolve_forge(fault: str, subnet: str, canister: str, cycles: str, height: str, *, plan: NetworkPlan) -> str:
    names = [one.name for one in plan.subnets]
    if subnet not in names:
        raise ConfigError(f"fault {fault!r}: {subnet!r} is no subnet; subnets: {', '.join(names)}")
    canister_id = _canister(fault, canister, names.index(subnet), plan)
    _check_height(fault, height)
    return f"forge:{subnet},{canister_id.to_text()},{int(cycles)}@{int(height)}"


def _resolve_crash(fault: str, node: str, step: str, height: str, *, plan: NetworkPlan) -> str:
    _subnet_of(fault, node, plan)
    if step not in NAMES:
        listed = "; ".join(f"{work}. with {', '.join(steps)}" for work, steps in STEPS.items())
        raise ConfigError(f"fault {fault!r}: {step!r} is no step; steps: {listed}")
    _check_height(fault, height)
    return f"crash:{node},{step}@{int(height)}"


def _check_height(fault: str, height: str) -> None:
    if int(height) < 1:
        raise ConfigError(f"fault {fault!r}: height {height} is before the first round; allowed are 1 and more")


def _subnet_of(fault: str, node: str, plan: NetworkPlan) -> int:
    name, _, index = node.rpartition("/")
    for place, subnet in enumerate(plan.subnets):
        if subnet.name != name:
            continue
        if not index.isdecimal() or not 1 <= int(index) <= subnet.nodes:
            raise ConfigError(f"fault {fault!r}: subnet {name} has nodes {name}/1 to {name}/{subnet.nodes}, no {node!r}")
        return place
    names = ", ".join(subnet.name for subnet in plan.subnets)
    raise ConfigError(f"fault {fault!r}: {node!r} is no node; write SUBNET/NUMBER, where the subnets are {names}")


def _canister(fault: str, wanted: str, place: int, plan: NetworkPlan) -> CanisterId:
    for canister in plan.canisters:
        if wanted in (canister.name, canister.canister_id.to_text()):
            if canister.subnet != place:
                there = plan.subnets[canister.subnet].name
                raise ConfigError(f"fault {fault!r}: canister {wanted} is on subnet {there}, not on the node's subnet")
            return canister.canister_id
    try:
        return Principal.from_text(wanted)
    except InvalidPrincipal:
        names = ", ".join(canister.name for canister in plan.canisters if canister.subnet == place) or "none"
        text = f"fault {fault!r}: {wanted!r} is neither a canister's name nor an id; canisters of the node's subnet: {names}"
        raise ConfigError(text) from None
