"""Where queries of the management canister may be sent: at the canister that they are about, or at the subnet."""

from __future__ import annotations

from pathlib import Path

import pytest

from ic_types.principal import Principal
from tests.support.management_world import encode_args
from tests.support.raw_http import content, envelope
from tests.unit.gateway.test_gateway_unhealthy import ask, live


@pytest.mark.spec("management-canister-status", condition=6)
@pytest.mark.spec("management-canister-metrics", condition=3)
@pytest.mark.spec("management-fetch-canister-logs", condition=5)
@pytest.mark.spec("management-list-canisters", condition=4)
def test_effective_ids_of_management_queries(tmp_path: Path) -> None:
    """The argument's canister; list_canisters at any canister's URL and, alone, at a subnet's, if they are of this network."""
    network = live(tmp_path)
    network.rounds(1)
    record = network.coordinator.network.subnets[0].record
    first, second = record.range_start, Principal.canister((record.range_start.canister_index() or 0) + 1)
    nobody, nowhere = Principal.canister(1 << 60), Principal(b"\x01" * 28 + b"\x02")

    def told(method: str, place: str) -> tuple[int, str]:
        args = {"canister_id": first} if method != "list_canisters" else None
        body = envelope(content("query", canister_id=b"", method_name=method, arg=encode_args(method, args)))
        answer = ask(network, tmp_path, "query", body, place)
        return answer.status, "" if answer.status == 200 else answer.text

    for method in ("canister_status", "canister_metrics", "fetch_canister_logs"):
        assert told(method, f"canister/{first}") == (200, "")
        wrong = f"Specified CanisterId {first} does not match effective canister id in URL {second}"
        assert told(method, f"canister/{second}") == (400, wrong)
        only = "Only list_canisters of the management canister can be queried at a subnet."
        assert told(method, f"subnet/{record.subnet_id}") == (400, only)
    for place in (f"canister/{first}", f"canister/{second}", f"subnet/{record.subnet_id}"):
        assert told("list_canisters", place) == (200, "")
    assert told("list_canisters", f"canister/{nobody}") == (400, f"Canister {nobody} does not belong to any subnet.")
    assert told("list_canisters", f"subnet/{nowhere}") == (400, f"Subnet {nowhere} is not part of this network.")
    network.close()
