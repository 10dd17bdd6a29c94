"""The Bitcoin methods, which are not simulated.

Rule module. Spec: interface spec, "The IC Bitcoin API", deprecated in favour of the Bitcoin canisters; types: `ic.did`.
"""

from __future__ import annotations

from ic_types.candid.types import Record, Type, blob, nat32, null, opt, record, text, variant
from ic_types.candid.values import Value
from subnet.management import errors
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext


def _record(**fields: Type) -> Record:
    return record(fields)


_NETWORK = variant({"mainnet": null, "testnet": null})
_FILTERS: dict[str, Type] = {"min_confirmations": nat32, "page": blob}

ARGUMENTS: dict[str, Type] = {
    "bitcoin_get_utxos": _record(address=text, network=_NETWORK, filter=opt(variant(_FILTERS))),
    "bitcoin_get_balance": _record(address=text, network=_NETWORK, min_confirmations=opt(nat32)),
    "bitcoin_send_transaction": _record(transaction=blob, network=_NETWORK),
    "bitcoin_get_current_fee_percentiles": _record(network=_NETWORK),
    "bitcoin_get_block_headers": _record(start_height=nat32, end_height=opt(nat32), network=_NETWORK),
}


def refuse(_ctx: SubnetContext, _call: ManagementCall, _args: Value) -> ManagementOutcome:
    """As a network without Bitcoin canisters does. Raises: ManagementError (IC0406)."""
    raise errors.no_bitcoin()
