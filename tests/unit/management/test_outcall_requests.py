"""What an HTTPS outcall has to look like, what it costs, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits
from ic_types.candid.values import FuncRef
from ic_types.consensus_calls import ConsensusAnswer, OutcallRequest
from ic_types.messages import Response
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from ic_types.reject import ErrorCode, Reject, RejectCode, Reply
from ic_types.units import NS_PER_SECOND, Cycles
from scheduler.cycles_account import BurnCause
from subnet.management import consensus_calls
from subnet.management.outcalls import MAX_RESPONSE_BYTES, TIMEOUT_S
from tests.support.management_world import OTHER, ManagedSubnet

FEES = CyclesCostSchedule(subnet_size=13)
URL = "https://example.com/"
PLENTY = 10**12


def outcall(**fields: Any) -> dict[str, Any]:
    """Argument of http_request."""
    given = dict.fromkeys(("max_response_bytes", "body", "transform", "is_replicated"))
    return {"url": URL, "method": {"get": None}, "headers": [], **given, **fields}


def header(name: int, value: int) -> dict[str, str]:
    """A header with so many bytes."""
    return {"name": "n" * name, "value": "v" * value}


def started(**fields: Any) -> tuple[ManagedSubnet, CanisterId]:
    """A subnet of 13 nodes with a canister."""
    subnet = ManagedSubnet(fees=FEES, node_count=13, **fields)
    return subnet, subnet.add_canister().canister_id


def asked(subnet: ManagedSubnet, caller: CanisterId, args: Any, cycles: int = PLENTY) -> OutcallRequest:
    """Make an outcall that is accepted; what consensus is asked."""
    subnet.by_canister(caller, "http_request", args, cycles=cycles)
    subnet.run_calls()
    (request,) = subnet.consensus_calls.take_fresh()
    assert isinstance(request, OutcallRequest)
    return request


@pytest.mark.spec("ic-http_request")
def test_a_request_keeps_what_was_asked() -> None:
    """With the defaults filled in, and a time after which it is given up."""
    subnet, caller = started()
    plain = asked(subnet, caller, outcall())
    assert (plain.method, plain.max_response_bytes, plain.node_index, plain.transform) == ("GET", MAX_RESPONSE_BYTES, 0, None)
    assert plain.timeout_ns == subnet.time + TIMEOUT_S * NS_PER_SECOND
    full = asked(
        subnet,
        caller,
        outcall(
            method={"post": None},
            headers=[{"name": "A", "value": "b"}],
            body=b"body",
            max_response_bytes=5,
            transform={"function": FuncRef(caller, "clean"), "context": b"ctx"},
        ),
    )
    assert full == replace(
        plain,
        call_id=1,
        method="POST",
        headers=(("A", "b"),),
        body=b"body",
        max_response_bytes=5,
        transform="clean",
        transform_context=b"ctx",
    )


@pytest.mark.spec("ic-http_request")
@pytest.mark.parametrize("method", ["put", "delete", "patch"])
def test_some_methods_are_for_one_node_alone(method: str) -> None:
    """PUT, DELETE and PATCH are refused in replicated mode; the one node is one of the subnet's."""
    subnet, caller = started()
    for replicated in (None, True):
        why, refund = subnet.canister_call(
            caller, "http_request", outcall(method={method: None}, is_replicated=replicated), cycles=PLENTY
        )
        assert isinstance(why, Reject)
        assert why.message == "The requested HTTP method is only allowed for non-replicated requests."
        assert refund == PLENTY
    assert 1 <= asked(subnet, caller, outcall(method={method: None}, is_replicated=False)).node_index <= 13


TOO_MUCH = [
    ({"url": "https://" + "u" * 8185}, ErrorCode.CANISTER_REJECTED_MESSAGE, "url size 8193 exceeds 8192"),
    (
        {"max_response_bytes": 2_000_001},
        ErrorCode.CANISTER_REJECTED_MESSAGE,
        "max_response_bytes expected to be in the range [0..2000000], got 2000001",
    ),
    (
        {"headers": [header(1, 1)] * 65},
        ErrorCode.INVALID_MANAGEMENT_PAYLOAD,
        "Error decoding candid: Deserialize error: The number of elements exceeds maximum allowed 64",
    ),
    (
        {"headers": [header(8193, 0)]},
        ErrorCode.CANISTER_REJECTED_MESSAGE,
        "number of bytes to represent some http header name 8193 exceeds 8192",
    ),
    (
        {"headers": [header(0, 8193)]},
        ErrorCode.CANISTER_REJECTED_MESSAGE,
        "number of bytes to represent some http header value 8193 exceeds 8192",
    ),
    (
        {"headers": [header(8192, 8193)]},
        ErrorCode.INVALID_MANAGEMENT_PAYLOAD,
        "Error decoding candid: Deserialize error: The single element data size exceeds maximum allowed 16384",
    ),
    (
        {"headers": [header(8000, 8000)] * 4},
        ErrorCode.INVALID_MANAGEMENT_PAYLOAD,
        "Error decoding candid: Deserialize error: The total data size exceeds maximum allowed 49152",
    ),
    (
        {"headers": [header(1, 1)], "body": bytes(1_999_999)},
        ErrorCode.CANISTER_REJECTED_MESSAGE,
        "total number of bytes to represent all http header names and values and http body 2000001 exceeds 2000000",
    ),
]


@pytest.mark.spec("ic-http_request")
@pytest.mark.parametrize(("fields", "code", "text"), TOO_MUCH)
def test_limits(fields: Any, code: ErrorCode, text: str) -> None:
    """Of URL, headers, body and response; with all cycles back."""
    subnet, caller = started()
    why, refund = subnet.canister_call(caller, "http_request", outcall(**fields), cycles=PLENTY)
    assert isinstance(why, Reject)
    assert (why.error_code, refund) == (code, PLENTY)
    assert why.message.endswith(text)


@pytest.mark.spec("ic-http_request")
def test_the_largest_request_is_taken() -> None:
    """Exactly at every limit."""
    subnet, caller = started()
    headers = [header(8192, 8192)] * 2 + [header(1, 1)] * 61 + [header(8192, 8070)]
    size = sum(len(one["name"]) + len(one["value"]) for one in headers)
    most = outcall(
        url="u" * 8192, headers=headers, body=bytes(2_000_000 - size), method={"head": None}, max_response_bytes=2_000_000
    )
    assert len(headers) == 64
    assert asked(subnet, caller, most, cycles=10**14).method == "HEAD"


@pytest.mark.spec("ic-http_request")
def test_transform_functions_are_the_callers() -> None:
    """One of another canister is refused."""
    subnet, caller = started()
    args = outcall(transform={"function": FuncRef(OTHER, "clean"), "context": b""})
    why, _ = subnet.canister_call(caller, "http_request", args, cycles=PLENTY)
    assert isinstance(why, Reject)
    assert why.message == f"transform principal id expected to be {caller}, got {OTHER}"


@pytest.mark.spec("ic-http_request")
def test_the_fee_goes_by_what_is_sent_and_may_be_received() -> None:
    """URL, headers, body, name and context of the transform function; exactly the fee is enough, the rest comes back."""
    subnet, caller = started()
    args = outcall(
        headers=[{"name": "ab", "value": "cde"}],
        body=b"1234567",
        max_response_bytes=1000,
        transform={"function": FuncRef(caller, "clean"), "context": b"xyz"},
    )
    fee = FEES.http_request(len(URL) + 5 + 7 + 5 + 3, 1000)
    why, refund = subnet.canister_call(caller, "http_request", args, cycles=fee - 1)
    assert isinstance(why, Reject)
    assert why.message == f"http_request request sent with {fee - 1:_} cycles, but {fee:_} cycles are required."
    assert refund == fee - 1
    assert subnet.tally.burned.get(BurnCause.HTTP_OUTCALLS, 0) == 0
    asked(subnet, caller, args, cycles=fee + 3)
    assert subnet.tally.burned[BurnCause.HTTP_OUTCALLS] == fee
    assert subnet.consensus_calls.cycles() == 3


@pytest.mark.spec("ic-http_request")
def test_open_outcalls_are_bounded() -> None:
    """One more than are allowed is refused; an answer makes room."""
    subnet, caller = started(limits=SubnetLimits(max_open_outcalls=1))
    asked(subnet, caller, outcall())
    why, refund = subnet.canister_call(caller, "http_request", outcall(), cycles=PLENTY)
    assert isinstance(why, Reject)
    assert (why.message, refund) == ("max number (1) of http requests in-flight reached.", PLENTY)
    consensus_calls.settle(subnet, [ConsensusAnswer(call_id=0, reply=b"")])
    subnet.management_queues.pop_output(caller)
    assert asked(subnet, caller, outcall()).call_id == 1


@pytest.mark.spec("ic-http_request")
@pytest.mark.parametrize("rejected", [False, True])
def test_answers_come_once(rejected: bool) -> None:
    """With what is left of the cycles; further answers, and answers to what nobody asked, change nothing."""
    subnet, caller = started()
    fee = FEES.http_request(len(URL), 0)
    request = subnet.by_canister(caller, "http_request", outcall(max_response_bytes=0), cycles=fee + 9)
    subnet.run_calls()
    made = (
        ConsensusAnswer(call_id=0, reject_code=2, reject_message="why") if rejected else ConsensusAnswer(call_id=0, reply=b"r")
    )
    before = subnet.everything()
    assert consensus_calls.settle(subnet, [made, made, replace(made, call_id=77)]) == 1
    answer = subnet.management_queues.pop_output(caller)
    assert answer == Response(
        originator=caller,
        respondent=MANAGEMENT_CANISTER,
        callback_id=request.callback_id,
        refund=Cycles(9),
        payload=Reject(RejectCode.SYS_TRANSIENT, "why") if rejected else Reply(b"r"),
    )
    assert subnet.everything() + 9 == before
    assert caller not in subnet.management_queues.peers


def test_open_calls_are_state() -> None:
    """Two subnets with different open calls have different hashes, and the numbers go on after an answer."""
    subnet, caller = started()
    seen = [subnet.consensus_calls.to_canonical()]
    for args in (outcall(), outcall(body=b"x")):
        asked(subnet, caller, args)
        seen.append(subnet.consensus_calls.to_canonical())
    consensus_calls.settle(subnet, [ConsensusAnswer(call_id=0), ConsensusAnswer(call_id=1)])
    seen.append(subnet.consensus_calls.to_canonical())
    assert len(set(seen)) == 4
