"""What nodes make of responses, and what they agree on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types.candid.decoder import decode
from ic_types.consensus_calls import ConsensusAnswer, OutcallRequest
from ic_types.outcall_rule import OutcallRule
from ic_types.principal import Principal
from subnet.coordinator.outcall_rounds import (
    Failed,
    WebResponse,
    agreed,
    encoded,
    request_problem,
    response_problem,
    sent_headers,
    transform_argument,
    transformed,
    vote_hash,
)
from subnet.management.outcall_types import RESULT, TRANSFORM_ARGUMENT
from subnet.protocol import QueryReply

pytestmark = pytest.mark.spec("ic-http_request")


def request(**fields: Any) -> OutcallRequest:
    """An outcall."""
    given = {"call_id": 3, "caller": Principal.canister(1), "url": "https://example.com/a", "method": "GET", "timeout_ns": 60}
    return OutcallRequest(**{**given, "max_response_bytes": 100, **fields})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"url": ""}, "Failed to parse URL: empty string"),
        ({"url": "https://a b/"}, "Failed to parse URL: invalid uri character"),
        ({"url": "https:///path"}, "Failed to parse URL: invalid format"),
        ({"url": "https://a:99999/"}, "Failed to parse URL: invalid port"),
        ({"url": "http://example.com/"}, "Url need to specify https scheme"),
        ({"url": "example.com/path"}, "Url need to specify https scheme"),
        ({"headers": (("bad name", "v"),)}, "Failed to parse header name invalid HTTP header name"),
        ({"headers": (("name", "two\nlines"),)}, "Failed to parse header value failed to parse header value"),
    ],
)
def test_requests_that_no_node_sends(fields: Any, text: str) -> None:
    """They fail alike everywhere, fatally."""
    assert request_problem(request(**fields)) == Failed(1, text)


@pytest.mark.parametrize(
    "url", ["https://example.com", "HTTPS://example.com:8443/a?b=c#d", "https://exämple.com/ü", "https://[::1]/"]
)
def test_urls_of_all_kinds_are_sent(url: str) -> None:
    """With ports, queries, letters beyond ASCII."""
    assert request_problem(request(url=url)) is None


def test_requests_say_who_they_are() -> None:
    """By a user agent, unless the canister gave one, in whatever case."""
    assert sent_headers(request(headers=(("A", "b"),))) == (("a", "b"), ("user-agent", "ic/1.0"))
    assert sent_headers(request(headers=(("USER-Agent", "me"),))) == (("user-agent", "me"),)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (WebResponse(200, (("n" * 60, "v" * 41),)), "Header size exceeds specified response size limit 100"),
        (WebResponse(200, (("n" * 50, ""),), b"b" * 51), "Http body exceeds size limit of 100 bytes."),
    ],
)
def test_responses_that_are_too_large(response: WebResponse, text: str) -> None:
    """Headers and body count together."""
    assert response_problem(request(), response) == Failed(1, text)
    assert response_problem(request(max_response_bytes=101), response) is None


def test_headers_of_responses_have_the_limits_of_requests() -> None:
    """At most 64 of them."""
    many = WebResponse(200, (("a", "b"),) * 65)
    assert response_problem(request(max_response_bytes=1000), many) == Failed(1, "number of all http headers 65 exceeds 64")


def test_transform_functions_get_response_and_context() -> None:
    """As the specification types it."""
    response = WebResponse(418, (("a", "b"),), b"tea")
    value = {"status": 418, "headers": [{"name": "a", "value": "b"}], "body": b"tea"}
    assert decode(encoded(response), [RESULT]) == [value]
    raw = transform_argument(request(transform_context=b"ctx"), response)
    assert decode(raw, [TRANSFORM_ARGUMENT]) == [{"response": value, "context": b"ctx"}]


def test_what_transform_functions_answer() -> None:
    """Replies up to the size that was asked for; rejects of the canister as they are, errors with their code."""

    def vote(**fields: Any) -> Any:
        return transformed(request(), QueryReply(cookie=1, **fields))

    assert vote(status="replied", reply=b"r" * 100) == b"r" * 100
    assert vote(status="replied", reply=b"r" * 101) == Failed(1, "Transformed http response exceeds limit: 100")
    assert vote(status="rejected", reject_code=4, reject_message="no", error_code="IC0406") == Failed(4, "no")
    trapped = vote(status="rejected", reject_code=5, reject_message="trapped", error_code="IC0503")
    assert trapped == Failed(5, "IC0503: trapped")


@pytest.mark.parametrize(
    ("votes", "nodes", "expected"),
    [
        ("aaa", 4, "a"),
        ("aa", 4, None),
        ("aab", 4, None),
        ("aaab", 4, "a"),
        ("aabb", 4, "diverged"),
        ("abc", 4, "diverged"),
        ("ab", 4, None),
        ("a", 1, "a"),
        ("aaaaaaaaabbbb", 13, "a"),
        ("aaaaaaaabbbbb", 13, "diverged"),
        ("aaaaaaaabbbb", 13, None),
        ("ab", 2, "diverged"),
    ],
)
def test_agreement(votes: str, nodes: int, expected: str | None) -> None:
    """n - f equal votes decide; more than f that differ from the largest group make sure that nothing can."""
    found = agreed(request(), {k: vote.encode() for k, vote in enumerate(votes, 1)}, nodes)
    if expected == "diverged":
        assert found is not None
        assert found.reject_code == 2
        assert found.reject_message.startswith("No consensus could be reached. Replicas had different responses. Details: ")
    else:
        assert found == (None if expected is None else ConsensusAnswer(call_id=3, reply=expected.encode()))


def test_failures_are_agreed_on_too() -> None:
    """Equal failures of enough nodes are the answer."""
    failed = Failed(2, "Connecting to example.com failed: refused")
    found = agreed(request(), dict.fromkeys((1, 2, 4), failed), 4)
    assert found == ConsensusAnswer(call_id=3, reject_code=2, reject_message=failed.text)


def test_a_divergence_is_told_in_detail() -> None:
    """Which hashes, and how many nodes have each; the most frequent first."""
    votes = {1: b"a", 2: b"b", 3: b"b", 4: Failed(2, "x")}
    text = agreed(request(), votes, 4)
    assert text is not None
    first = vote_hash(request(), b"b").hex()
    assert f"request_id: 3, timeout: 60, hashes: [{first}: 2], [" in text.reject_message
    assert text.reject_message.count(": 1]") == 2


def test_one_node_alone_decides_for_itself() -> None:
    """When the request isn't replicated."""
    single = request(node_index=2)
    assert agreed(single, {1: b"a", 3: b"a", 4: b"a"}, 4) is None
    assert agreed(single, {2: b"mine"}, 4) == ConsensusAnswer(call_id=3, reply=b"mine")


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from("abc"), max_size=13), st.integers(1, 13))
def test_agreement_is_safe(votes: list[str], nodes: int) -> None:
    """Whatever votes are still to come, an answer that was given stays the answer."""
    cast = {k: vote.encode() for k, vote in enumerate(votes[:nodes], 1)}
    early = agreed(request(), dict(list(cast.items())[: len(cast) // 2]), nodes)
    late = agreed(request(), cast, nodes)
    if early is not None:
        assert late is not None
        assert (early.reply, early.reject_code) == (late.reply, late.reject_code)


def test_rules_pick_outcalls() -> None:
    """By URL with stars, and method; each node has its body."""
    rule = OutcallRule(url="https://*.com/*?x", method="GET", bodies=(b"1", b"2"))
    assert rule.fits(request(url="https://a.com/b?x"))
    assert not rule.fits(request(url="https://a.com/b?xy"))
    assert not rule.fits(request(url="https://a.com/b?x", method="POST"))
    assert [rule.body(node) for node in (1, 2, 3)] == [b"1", b"2", b"2"]
