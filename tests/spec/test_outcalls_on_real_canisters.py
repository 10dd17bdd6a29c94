"""HTTPS outcalls of real canisters, with transform functions; each subnet has one node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from ic_types.candid.encoder import encode
from ic_types.candid.types import nat, record
from ic_types.candid.values import FuncRef
from ic_types.principal import CanisterId
from subnet.coordinator.outcall_rounds import Failed, WebResponse
from subnet.management.outcall_types import HTTP_REQUEST
from tests.support.consensus_world import ConsensusWorld, consensus_world

pytestmark = [pytest.mark.slow, pytest.mark.spec("ic-http_request")]
MOTOKO = Path(__file__).resolve().parents[1] / "canisters" / "motoko_outcalls.wasm"
URL = "https://example.com/price"
PLENTY = 10**12
FEES = CyclesCostSchedule()
RESPONSE = WebResponse(200, (("date", "today"),), b"42 gold")


@pytest.fixture(scope="module")
def module_world() -> Iterator[ConsensusWorld]:
    """The subnets."""
    with consensus_world() as made:
        yield made


@pytest.fixture
def world(module_world: ConsensusWorld) -> ConsensusWorld:
    """The subnets; a web server answers."""
    module_world.world.responses = [(URL, RESPONSE)]
    return module_world


@pytest.fixture(scope="module")
def motoko(module_world: ConsensusWorld) -> CanisterId:
    """A Motoko program with transform functions."""
    return module_world.world.install("app", MOTOKO.read_bytes())


def outcall(**fields: Any) -> dict[str, Any]:
    """Argument of http_request."""
    given = dict.fromkeys(("body", "transform", "is_replicated"))
    return {"url": URL, "method": {"get": None}, "headers": [], "max_response_bytes": 2000, **given, **fields}


@pytest.mark.parametrize("subnet", ["app", "signer", "root"])
def test_canisters_get_the_response(world: ConsensusWorld, subnet: str) -> None:
    """Of any subnet, by their own subnet; the fee is kept and the rest comes back."""
    answer = world.ask(subnet, "http_request", outcall(), cycles=PLENTY)
    assert answer.value == {"status": 200, "headers": [{"name": "date", "value": "today"}], "body": b"42 gold"}
    assert answer.refund == PLENTY - FEES.http_request(len(URL), 2000)
    assert all(not node.replica.state.consensus_calls.calls for node in world.world.nodes.values())


@pytest.mark.parametrize(
    ("response", "code", "text"),
    [
        (Failed(2, "Connecting to example.com failed: refused"), 2, "Connecting to example.com failed: refused"),
        (WebResponse(200, (), bytes(2001)), 1, "Http body exceeds size limit of 2000 bytes."),
        (WebResponse(200, (("a", "v" * 2000),)), 1, "Header size exceeds specified response size limit 2000"),
    ],
)
def test_failures_reach_the_canister(world: ConsensusWorld, response: Any, code: int, text: str) -> None:
    """With their codes and texts; the fee is not given back."""
    world.world.responses = [(URL, response)]
    answer = world.ask("app", "http_request", outcall(), cycles=PLENTY)
    assert answer.rejected == (code, text)
    assert answer.refund == PLENTY - FEES.http_request(len(URL), 2000)


def test_only_https_is_asked(world: ConsensusWorld) -> None:
    """Other schemes fail on the node."""
    answer = world.ask("app", "http_request", outcall(url="http://example.com/"), cycles=PLENTY)
    assert answer.rejected == (1, "Url need to specify https scheme")


def test_nobody_answers_in_time(world: ConsensusWorld) -> None:
    """After more than 60 seconds the call is rejected; the fee is gone, the rest comes back."""
    world.world.responses = []
    subnet = world.world["app"]
    program = bytes(world.program("http_request", outcall(), cycles=PLENTY))
    message = subnet.ingress(world.callers["app"], "update", program)
    before = subnet.replica.state.height
    outcome = world.world.answer("app", message, rounds=80)
    assert b"Canister http request timed out" in outcome.reply
    assert int.from_bytes(outcome.reply[:16], "little") == PLENTY - FEES.http_request(len(URL), 2000)
    assert 61 <= subnet.replica.state.height - before <= 66


@pytest.mark.parametrize("raw", [b"", b"garbage", encode((), ())])
def test_malformed_arguments(world: ConsensusWorld, raw: bytes) -> None:
    """Refused with all cycles back."""
    answer = world.ask("app", "http_request", raw=raw, cycles=9)
    assert (answer.code, answer.refund) == (4, 9)
    assert "Error decoding candid: " in answer.text


def test_superfluous_fields_are_passed_over(world: ConsensusWorld) -> None:
    """Such as those of later versions of the interface."""
    wider = record({**{field.key: field.type for field in HTTP_REQUEST.fields}, "pricing_version": nat})
    raw = encode((wider,), ({**outcall(), "pricing_version": 1},))
    assert world.ask("app", "http_request", raw=raw, cycles=PLENTY).value["status"] == 200


def test_transform_functions_see_response_and_context(world: ConsensusWorld, motoko: CanisterId) -> None:
    """Called by the management canister; what they change of the canister is lost."""
    found = world.fetch(motoko, URL, "clean")["ok"]
    assert found["status"] == 200
    assert found["body"] == b"42 gold"
    assert [one["value"] for one in found["headers"]] == ["aaaaa-aa", '"\\01\\02"']
    assert world.fetch(motoko, URL, "constant")["ok"] == {"status": 203, "headers": [], "body": b"always"}


@pytest.mark.parametrize(
    ("what", "start"),
    [
        ("boom", "#canister_error IC0503: Error from Canister"),
        ("refuse", "#canister_reject not this one"),
        ("swell", "#system_fatal Transformed http response exceeds limit: 5000"),
    ],
)
def test_transform_functions_that_fail(world: ConsensusWorld, motoko: CanisterId, what: str, start: str) -> None:
    """A trap, a reject, and a reply that is longer than max_response_bytes."""
    assert world.fetch(motoko, URL, what)["err"].startswith(start)


def test_transform_functions_that_do_not_exist(world: ConsensusWorld) -> None:
    """A method that isn't exported as a query."""
    function = FuncRef(world.callers["app"], "no_such_method")
    answer = world.ask("app", "http_request", outcall(transform={"function": function, "context": b""}), cycles=PLENTY)
    assert answer.code == 5
    assert "has no query method 'no_such_method'" in answer.text
