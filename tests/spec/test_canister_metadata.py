"""Custom sections for those who may read them, cycles by what they were paid for, logs, canisters and nodes of the subnet.

Abstract behaviour, "IC Management Canister: Canister metadata", "Canister metrics", "Canister logs (query call)", "List
canisters (query call)", "Node Metrics", "Subnet information"; interface spec, the methods of these names.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.candid.decoder import decode
from ic_types.messages import Request
from ic_types.principal import Principal
from ic_types.reject import ErrorCode, Reject, Reply
from ic_types.units import CallbackId, Cycles, TimeNs
from scheduler.canister import Canister, RunStatus
from subnet.management import candid_types
from subnet.management.context import QueryView
from subnet.management.methods import METHODS
from subnet.management.queries import answer_query
from tests.support.fake_executor import FREE, log
from tests.support.management_world import OTHER, USER, ManagedSubnet, encode_args, module
from tests.support.routing_world import canister_id, subnet_id
from xnet.stream import Stream

ASKER = canister_id(0, 500_000)
DAY = 86_400 * 10**9


@pytest.fixture
def subnet() -> ManagedSubnet:
    """Nothing costs anything."""
    return ManagedSubnet(limits=SubnetLimits(instructions_per_install=10**6))


def query(subnet: ManagedSubnet, method: str, args: Any = None, sender: Principal = USER) -> Any:
    """A query of the management canister: the result or the reject."""
    view = QueryView(
        canister=subnet.canisters.get,
        canister_ids=lambda: subnet.canisters,
        subnet_admins=subnet.subnet_admins,
        fees=subnet.fees,
        streams=subnet.streams,
    )
    payload = answer_query(view, sender, method, encode_args(method, args))
    if isinstance(payload, Reject):
        return payload
    assert isinstance(payload, Reply)
    return decode(payload.data, METHODS[method].results)[0]


def refused(result: object) -> tuple[ErrorCode | None, str]:
    """Code and text of a reject."""
    assert isinstance(result, Reject), result
    return result.error_code, result.message


# --- metadata


@pytest.mark.spec("management-canister-metadata")
@pytest.mark.spec("ic-canister_metadata")
def test_public_metadata_is_for_all_canisters_private_for_controllers(subnet: ManagedSubnet) -> None:
    """Others aren't told that there is a private section."""
    canister = subnet.create(controllers=[USER, ASKER])
    sections = (("open", True), ("secret", False))
    assert subnet.install(canister, module(sections=sections)) is None

    def read(name: str, sender: Principal) -> Any:
        args = {"canister_id": canister.canister_id, "name": name}
        result, refund = subnet.canister_call(sender, "canister_metadata", args, cycles=3)
        assert refund == 3
        return result

    stranger = canister_id(2, 1)
    assert read("open", ASKER) == read("open", stranger) == read("secret", ASKER) == {"value": b""}
    missing = f"The canister {canister.canister_id} has no metadata section with the name "
    assert refused(read("secret", stranger)) == (ErrorCode.CANISTER_REJECTED_MESSAGE, f"{missing}secret.")
    assert refused(read("absent", ASKER)) == (ErrorCode.CANISTER_REJECTED_MESSAGE, f"{missing}absent.")
    empty = subnet.create()
    result, _ = subnet.canister_call(ASKER, "canister_metadata", {"canister_id": empty.canister_id, "name": "open"})
    text = f"The canister {empty.canister_id} has no Wasm module and hence no metadata is available."
    assert refused(result) == (ErrorCode.CANISTER_REJECTED_MESSAGE, text)


# --- metrics


@pytest.mark.spec("management-canister-metrics", condition=2)
@pytest.mark.spec("ic-canister_metrics")
def test_cycles_by_what_they_were_paid_for() -> None:
    """Creation, instructions and so on, their sum is all that was burned; calls and queries tell the same."""
    fees = CyclesCostSchedule()
    subnet = ManagedSubnet(fees=fees, limits=SubnetLimits(instructions_per_install=10**6))
    parent = subnet.add_canister()
    made, _ = subnet.canister_call(parent.canister_id, "create_canister", {}, cycles=2 * 10**13)
    child = subnet.canisters[made["canister_id"]]
    args = {"canister_id": child.canister_id}
    told, _ = subnet.canister_call(parent.canister_id, "canister_metrics", args)
    assert told["cycles_consumed"]["canister_creation"] == fees.canister_creation
    subnet.canister_call(parent.canister_id, "update_settings", {**args, "settings": {"controllers": [USER]}})
    assert subnet.install(child, module(operators=1)) is None
    told = subnet.user_call("canister_metrics", args)["cycles_consumed"]
    assert told["instructions"] == fees.execution(6000)
    assert set(told) == set(candid_types.CYCLES_CONSUMED)
    assert sum(told.values()) == child.metrics.cycles_burned
    assert query(subnet, "canister_metrics", args)["cycles_consumed"] == told
    assert refused(query(subnet, "canister_metrics", args, OTHER))[0] is ErrorCode.CANISTER_INVALID_CONTROLLER
    subnet.subnet_admins = (OTHER,)
    assert query(subnet, "canister_metrics", args, OTHER)["cycles_consumed"] == told


# --- logs


def logging(subnet: ManagedSubnet, *lines: bytes, **settings: Any) -> Canister:
    """A canister whose init logs these lines."""
    canister = subnet.create(**settings)
    assert subnet.install(canister, module({"init": [log(line) for line in lines]})) is None
    return canister


@pytest.mark.spec("management-fetch-canister-logs", condition=(1, 2))
@pytest.mark.spec("ic-fetch_canister_logs")
def test_logs_are_read_by_those_who_may(subnet: ManagedSubnet) -> None:
    """Controllers always, allowed viewers or everybody by the setting; the others get IC0406."""
    canister = logging(subnet, b"one", b"two")
    args = {"canister_id": canister.canister_id}
    expected = [
        {"idx": 0, "timestamp_nanos": subnet.time, "content": b"one"},
        {"idx": 1, "timestamp_nanos": subnet.time, "content": b"two"},
    ]
    assert query(subnet, "fetch_canister_logs", args) == {"canister_log_records": expected}
    text = f"Caller {OTHER} is not allowed to access canister logs"
    assert refused(query(subnet, "fetch_canister_logs", args, OTHER)) == (ErrorCode.CANISTER_REJECTED_MESSAGE, text)
    for visibility, seen in (({"allowed_viewers": [OTHER]}, True), ({"controllers": None}, False), ({"public": None}, True)):
        assert subnet.user_call("update_settings", {**args, "settings": {"log_visibility": visibility}}) is None
        assert isinstance(query(subnet, "fetch_canister_logs", args, OTHER), dict) is seen
        assert isinstance(query(subnet, "fetch_canister_logs", args, canister.canister_id), dict) is (
            visibility == {"public": None}
        )
    missing = query(subnet, "fetch_canister_logs", {"canister_id": canister_id(0, 9)})
    assert refused(missing) == (ErrorCode.CANISTER_NOT_FOUND, f"Canister {canister_id(0, 9)} not found")


@pytest.mark.spec("ic-fetch_canister_logs")
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"by_idx": {"start": 1, "end": 3}}, [1, 2]),
        ({"by_idx": {"start": 3, "end": 3}}, []),
        ({"by_timestamp_nanos": {"start": 0, "end": 1 << 63}}, [0, 1, 2, 3]),
        ({"by_timestamp_nanos": {"start": 0, "end": 1}}, []),
    ],
)
@pytest.mark.spec("management-fetch-canister-logs", condition=4)
def test_logs_are_filtered(subnet: ManagedSubnet, wanted: Any, found: list[int]) -> None:
    """By number or by time, the end outside."""
    canister = logging(subnet, b"a", b"b", b"c", b"d")
    told = query(subnet, "fetch_canister_logs", {"canister_id": canister.canister_id, "filter": wanted})
    assert [record["idx"] for record in told["canister_log_records"]] == found


@pytest.mark.spec("trimming-canister-logs", condition=(1, 2))
@pytest.mark.spec("ic-fetch_canister_logs")
@pytest.mark.parametrize("limit", [4096, 10_000])
def test_old_lines_go_when_the_log_is_full(subnet: ManagedSubnet, limit: int) -> None:
    """By the canister's limit; numbers go on, a lower limit acts at once."""
    canister = logging(subnet, *[bytes([k]) * 1000 for k in range(12)], log_memory_limit=limit)
    kept = limit // 1040
    told = query(subnet, "fetch_canister_logs", {"canister_id": canister.canister_id})["canister_log_records"]
    assert [record["idx"] for record in told] == list(range(12 - kept, 12))
    assert (
        subnet.user_call("update_settings", {"canister_id": canister.canister_id, "settings": {"log_memory_limit": 4096}})
        is None
    )
    assert [record.index for record in canister.logs] == [9, 10, 11]
    canister.logs.add([b"x" * 5000], TimeNs(1), 4096)
    assert [(record.index, len(record.content)) for record in canister.logs] == [(12, 4056)]


@pytest.mark.parametrize(
    ("limit", "text"),
    [(4095, "4095 is too low. It must be at least 4096."), ((2 << 20) + 1, "2097153 is too high. It must be at most 2097152.")],
)
def test_log_limits_have_limits(subnet: ManagedSubnet, limit: int, text: str) -> None:
    """IC0406, and the old one stays."""
    canister = subnet.create()
    result = subnet.user_call("update_settings", {"canister_id": canister.canister_id, "settings": {"log_memory_limit": limit}})
    assert refused(result) == (ErrorCode.CANISTER_REJECTED_MESSAGE, f"The canister log memory limit {text}")
    assert canister.settings.log_memory_limit == 4096


# --- queries in general


@pytest.mark.spec("management-canister-status", condition=5)
@pytest.mark.spec("ic-canister_status")
def test_status_as_a_query(subnet: ManagedSubnet) -> None:
    """The same as by a call, for the same callers."""
    canister = subnet.create()
    args = {"canister_id": canister.canister_id}
    assert query(subnet, "canister_status", args) == subnet.user_call("canister_status", args)
    assert refused(query(subnet, "canister_status", args, OTHER))[0] is ErrorCode.CANISTER_STATUS_ACCESS_DENIED
    assert query(subnet, "canister_status", args, canister.canister_id)["status"] == {"running": None}


@pytest.mark.parametrize("method", [*sorted(name for name, one in METHODS.items() if one.query is None), "nothing"])
def test_what_is_no_query(subnet: ManagedSubnet, method: str) -> None:
    """IC0536."""
    view = QueryView(canister=lambda _: None, canister_ids=list, subnet_admins=(), fees=FREE, streams={})
    payload = answer_query(view, USER, method, b"DIDL\0\0")
    assert refused(payload) == (ErrorCode.CANISTER_METHOD_NOT_FOUND, f"Query method {method} not found.")


@pytest.mark.parametrize("method", sorted(name for name, one in METHODS.items() if one.query is not None))
def test_malformed_queries(subnet: ManagedSubnet, method: str) -> None:
    """IC0408."""
    view = QueryView(canister=lambda _: None, canister_ids=list, subnet_admins=(USER,), fees=FREE, streams={})
    for arg in (b"", b"DIDL\x00\x01", b"no Candid"):
        assert refused(answer_query(view, USER, method, arg))[0] is ErrorCode.INVALID_MANAGEMENT_PAYLOAD


# --- the subnet


@pytest.mark.spec("management-list-canisters", condition=(1, 2))
@pytest.mark.spec("ic-list_canisters")
def test_canisters_are_listed_in_ranges_for_subnet_admins(subnet: ManagedSubnet) -> None:
    """Neighbours together, deleted ones left out; IC0410 for others, IC0406 where there are no admins."""
    made = [subnet.create() for _ in range(6)]
    stop = {"canister_id": made[2].canister_id}
    made[2].status = type(made[2].status).STOPPED
    subnet.user_call("delete_canister", stop)
    text = "list_canisters is only available on subnets with subnet admins"
    assert refused(query(subnet, "list_canisters")) == (ErrorCode.CANISTER_REJECTED_MESSAGE, text)
    subnet.subnet_admins = (OTHER,)
    assert refused(query(subnet, "list_canisters"))[0] is ErrorCode.INVALID_SUBNET_ADMIN
    ids = [one.canister_id for one in made]
    told = query(subnet, "list_canisters", sender=OTHER)
    assert told == {"canisters": [{"start": ids[0], "end": ids[1]}, {"start": ids[3], "end": ids[5]}]}


@pytest.mark.spec("management-subnet-info", condition=1)
@pytest.mark.spec("ic-subnet_info")
def test_subnet_info(subnet: ManagedSubnet) -> None:
    """Versions; a call that names another subnet than the one it was sent to is refused."""
    told, refund = subnet.canister_call(ASKER, "subnet_info", {"subnet_id": subnet.own_subnet}, cycles=2)
    assert (told, refund) == ({"replica_version": "a version", "registry_version": 1}, 2)
    told, refund = subnet.canister_call(ASKER, "subnet_info", {"subnet_id": subnet_id(2)}, cycles=2)
    text = f"Provided target subnet ID {subnet_id(2)} does not match current subnet ID {subnet.own_subnet}."
    assert (refused(told), refund) == ((ErrorCode.CANISTER_REJECTED_MESSAGE, text), 2)


@pytest.mark.spec("management-node-metrics-history", condition=(1, 2))
@pytest.mark.spec("ic-node_metrics_history")
def test_node_metrics_are_sampled_daily(subnet: ManagedSubnet) -> None:
    """One sample a day, of its last round; nodes that made no block since the sample before are left out; 60 at most."""
    nodes = [Principal(bytes([k]) * 29) for k in range(3)]
    blocks = 0
    for day in range(70):
        for k in range(2):
            subnet.block_makers.observe(nodes, bytes([day, k]), TimeNs(day * DAY + k + 1))
            blocks += 1
    args = {"subnet_id": subnet.own_subnet, "start_at_timestamp_nanos": 0}
    told, _ = subnet.canister_call(ASKER, "node_metrics_history", args)
    assert [sample["timestamp_nanos"] for sample in told] == [day * DAY + 2 for day in range(10, 70)]
    totals: dict[Principal, int] = {}
    for sample in told:
        assert 1 <= len(sample["node_metrics"]) <= 2
        for metrics in sample["node_metrics"]:
            assert metrics["num_blocks_proposed_total"] > totals.get(metrics["node_id"], 0)
            assert metrics["num_block_failures_total"] == 0
            totals[metrics["node_id"]] = metrics["num_blocks_proposed_total"]
    assert sum(totals.values()) == blocks
    told, refund = subnet.canister_call(ASKER, "node_metrics_history", {**args, "subnet_id": subnet_id(2)}, cycles=2)
    assert (refused(told)[0], refund) == (ErrorCode.CANISTER_REJECTED_MESSAGE, 2)
    late = {**args, "start_at_timestamp_nanos": 68 * DAY + 2}
    told, _ = subnet.canister_call(ASKER, "node_metrics_history", late)
    assert [sample["timestamp_nanos"] for sample in told] == [68 * DAY + 2, 69 * DAY + 2]


# --- migration


@pytest.mark.spec("management-canister-status")
def test_ready_for_migration(subnet: ManagedSubnet) -> None:
    """A stopped canister without messages here or on their way to other subnets; told by calls and queries alike."""
    canister = subnet.create()
    where, peer = {"canister_id": canister.canister_id}, canister_id(2, 5)

    def ready() -> bool:
        told = subnet.user_call("canister_status", where)["ready_for_migration"]
        assert query(subnet, "canister_status", where)["ready_for_migration"] == told
        return bool(told)

    assert not ready()
    canister.status = RunStatus.STOPPED
    assert ready()
    sent = Request(
        sender=canister.canister_id, receiver=peer, callback_id=CallbackId(1), payment=Cycles(0), method="m", arg=b""
    )
    stream = subnet.streams[subnet_id(2)] = Stream()
    stream.push(sent)
    assert not ready()
    subnet.streams[subnet_id(2)] = Stream()
    subnet.streams[subnet_id(2)].push(replace(sent, sender=peer))
    assert ready()
    canister.queues.push_input_request(replace(sent, sender=peer, receiver=canister.canister_id), local=False)
    assert not ready()
    canister.queues.pop_input()
