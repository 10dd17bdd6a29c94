"""What the management canister tells of a subnet: its canisters, its version, and how its nodes do.

Rule module. Spec: interface spec, "IC method list_canisters", "IC method node_metrics_history" and "IC method subnet_info".
"""

from __future__ import annotations

from ic_types.candid.values import Value
from ic_types.principal import SubnetId
from scheduler.canister import Canister
from subnet.management import answers, errors
from subnet.management.candid_types import NODE_METRICS_HISTORY_RESULT, SUBNET_INFO_RESULT
from subnet.management.context import ManagementCall, ManagementOutcome, QueryView, SubnetContext


def query_canisters(view: QueryView, _canister: Canister | None, _args: Value) -> Value:
    """All canisters of the subnet, as ranges of neighbouring ids."""
    ranges: list[dict[str, Value]] = []
    last = None
    for canister_id in sorted(view.canister_ids()):
        index = canister_id.canister_index()
        if last is not None and index == last + 1:
            ranges[-1]["end"] = canister_id
        else:
            ranges.append({"start": canister_id, "end": canister_id})
        last = index
    return {"canisters": ranges}


def subnet_info(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Versions of the replica and of the registry."""
    _check_subnet(ctx, args["subnet_id"])
    info = {"replica_version": ctx.replica_version, "registry_version": ctx.registry_version}
    return ManagementOutcome(payload=answers.reply(SUBNET_INFO_RESULT, info), refund=call.payment)


def node_metrics_history(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Samples from this time on, one a day, of the nodes that did something since the sample before."""
    _check_subnet(ctx, args["subnet_id"])
    history = [
        {
            "timestamp_nanos": sample.time,
            "node_metrics": [
                {"node_id": node, "num_blocks_proposed_total": proposed, "num_block_failures_total": failed}
                for node, proposed, failed in sample.nodes
            ],
        }
        for sample in ctx.block_makers.samples(args["start_at_timestamp_nanos"])
    ]
    return ManagementOutcome(payload=answers.reply(NODE_METRICS_HISTORY_RESULT, history), refund=call.payment)


def _check_subnet(ctx: SubnetContext, subnet_id: bytes) -> None:
    """A call that names another subnet came here under this one's own id."""
    if subnet_id != ctx.own_subnet:
        raise errors.wrong_subnet(SubnetId(subnet_id), ctx.own_subnet)
