"""What the gateway knows of the network: subnets and their canisters, delegations, time.

Plumbing: asks the coordinator.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from dataclasses import dataclass, field

from ic_types import bls
from ic_types.principal import Principal, SubnetId
from subnet import control_protocol as cp
from subnet.certification.certificate import Delegation, with_delegation
from subnet.gateway.line import Line
from subnet.gateway.replies import HttpError
from subnet.protocol import Delegated, SubnetDelegation, SubnetRecord

_REFRESH_SECONDS = 1.0
"""So long the delegations at hand are used: canisters that move change what they cover."""
PLAIN, FLAT, SHARDED = "plain", "flat", "sharded"
"""Which canister ranges a delegation shows: none, all in one leaf, or the shard that matters."""


@dataclass(slots=True)
class Boundary:
    """The network as seen from its edge."""

    line: Line
    description: cp.Description
    _delegations: dict[SubnetId, SubnetDelegation] = field(default_factory=dict)
    _fetched: float = 0.0
    _fetching: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def root_key_der(self) -> bytes:
        """The root of trust, 133 bytes."""
        return bls.to_der(self.root_key)

    @property
    def root_key(self) -> bytes:
        """The root of trust, 96 bytes."""
        return self.description.registry.subnets[0].public_key

    def subnet_of(self, canister_id: Principal) -> SubnetRecord | None:
        """The subnet whose range holds this canister."""
        for one in self.description.registry.subnets:
            if len(canister_id) == len(one.range_start) and one.range_start <= canister_id <= one.range_end:
                return one
        return None

    def subnet(self, subnet_id: Principal) -> SubnetRecord | None:
        """The subnet with this id."""
        return next((one for one in self.description.registry.subnets if one.subnet_id == subnet_id), None)

    def of_canister(self, canister_id: Principal) -> SubnetRecord:
        """Raises: HttpError when it is in no subnet's range."""
        found = self.subnet_of(canister_id)
        if found is None:
            raise HttpError(400, f"Canister {canister_id} does not belong to any subnet.")
        return found

    async def now(self) -> int:
        """Nanoseconds since 1970 with which expiries are compared."""
        if self.description.live:
            return time.time_ns()
        return (await self.time()).now_ns

    async def time(self) -> cp.NetworkTime:
        """How far the network is."""
        return await self.line.ask(cp.GetTime(), cp.NetworkTime)

    async def delegated(self, certificate: bytes, subnet: SubnetId, form: str, canister_id: Principal) -> bytes:
        """A subnet's certificate with the root subnet's delegation, which shows canister ranges in this form."""
        if subnet == self.description.registry.root:
            return certificate
        await self._refresh()
        found = self._delegations[subnet]
        inner = found.plain if form == PLAIN else found.flat
        if form == SHARDED:
            inner = found.shards[max(0, bisect_right([label for label, _ in found.shards], bytes(canister_id)) - 1)][1]
        return with_delegation(certificate, Delegation(subnet, inner))

    async def _refresh(self) -> None:
        if self._delegations and time.monotonic() - self._fetched < _REFRESH_SECONDS:
            return
        async with self._fetching:
            if self._delegations and time.monotonic() - self._fetched < _REFRESH_SECONDS:
                return
            found = await self.line.ask(cp.GetDelegations(), Delegated)
            self._delegations = {one.subnet: one for one in found.subnets}
            self._fetched = time.monotonic()
