"""Random bytes for canisters.

Rule module. Spec: interface spec, "IC method raw_rand". Unpredictable since a call to the management canister is answered in a
later round than the one that made it, from that round's random tape.
"""

from __future__ import annotations

from ic_types.candid.types import blob
from ic_types.candid.values import Value
from subnet.management.answers import reply
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext

RANDOM_BYTES = 32


def raw_rand(ctx: SubnetContext, call: ManagementCall, _args: Value) -> ManagementOutcome:
    """The next 32 bytes of the round's generator."""
    return ManagementOutcome(payload=reply(blob, ctx.random_bytes(RANDOM_BYTES)), refund=call.payment)
