"""Profiles: the limits and fees that subnets of each type start from.

Plumbing: reads `mainnet.toml` and `minimal.toml`, which are part of the package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from configs.fees import CyclesCostSchedule
from configs.keys import FEES, LIMITS, PROFILE, PROFILE_TYPE
from configs.limits import SubnetLimits, SubnetType
from configs.toml_table import Table, read_source

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileType:
    """Limits and fees of one subnet type."""

    limits: SubnetLimits = SubnetLimits()
    fees: CyclesCostSchedule = CyclesCostSchedule()


@lru_cache(maxsize=8)
def load_profile(name: str) -> dict[SubnetType, ProfileType]:
    """The profile's numbers by subnet type; verified application subnets follow application subnets.

    Raises: ConfigError when a profile's file is broken.
    """
    source = read_source(_FOLDER / f"{name}.toml")
    table = Table(source, (), source.data, PROFILE)
    base = load_profile(table.text("base")) if table.has("base") else {kind: ProfileType() for kind in SubnetType}
    found: dict[SubnetType, ProfileType] = {}
    for kind in SubnetType:
        start = base[kind]
        names = [kind.value]
        if kind is SubnetType.VERIFIED_APPLICATION:
            names.insert(0, SubnetType.APPLICATION.value)
        for part in names:
            start = changed(start, table.table(part, PROFILE_TYPE))
        found[kind] = start
    return found


def changed(start: ProfileType, table: Table | None) -> ProfileType:
    """Limits and fees with the changes of a table's `limits` and `fees`.

    Raises: ConfigError naming the key when one is unknown or out of range.
    """
    if table is None:
        return start
    limits, fees = table.table("limits", LIMITS), table.table("fees", FEES)
    return ProfileType(
        limits=replace(start.limits, **limits.ints()) if limits else start.limits,
        fees=replace(start.fees, **fees.ints()) if fees else start.fees,
    )
