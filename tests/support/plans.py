"""Small network plans for tests of the coordinator."""

from __future__ import annotations

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from subnet.coordinator.network_plan import NetworkPlan, SubnetPlan


def small_plan(*nodes: int, seed: int = 1) -> NetworkPlan:
    """Subnets `nns`, `app-1`, `app-2`, ... with so many nodes each; no canisters."""
    subnets = tuple(
        SubnetPlan(
            name=f"app-{place}" if place else "nns",
            subnet_type="application" if place else "system",
            nodes=count,
            limits=SubnetLimits(),
            fees=CyclesCostSchedule(),
        )
        for place, count in enumerate(nodes or (4,))
    )
    return NetworkPlan(
        name="small",
        profile="mainnet",
        seed=seed,
        identity_seed=5,
        genesis_time_ns=1_700_000_000_000_000_000,
        block_interval_ns=1_000_000_000,
        identities=("alice",),
        subnets=subnets,
        root="nns",
        wasms={},
    )
