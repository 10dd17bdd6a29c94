"""One HTTPS outcall from request to answer: what a node makes of a response, and what the nodes agree on.

Rule module. Spec: interface spec, "IC method http_request"; texts, limits and the rule of agreement are the replica's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from ic_types.candid.encoder import encode
from ic_types.consensus_calls import ConsensusAnswer, OutcallRequest
from ic_types.reject import ErrorCode, RejectCode
from subnet.management.outcall_types import RESULT, TRANSFORM_ARGUMENT
from subnet.management.outcalls import headers_and_body_problem
from subnet.protocol import QueryReply

USER_AGENT = ("user-agent", "ic/1.0")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")
_URL_CHARACTERS = re.compile(r"[^\x00-\x20\x7f<>\"{}|\\^`]+")


@dataclass(frozen=True, slots=True)
class WebResponse:
    """What a web server answered a node."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Failed:
    """A node has no response: reject code and text."""

    code: int
    text: str


Vote = bytes | Failed
"""What a node holds for the answer: Candid bytes, or why there are none."""


def request_problem(request: OutcallRequest) -> Failed | None:
    """Why a node doesn't even send the request."""
    if not request.url:
        return _fatal("Failed to parse URL: empty string")
    if _URL_CHARACTERS.fullmatch(request.url) is None:
        return _fatal("Failed to parse URL: invalid uri character")
    try:
        parts = urlsplit(request.url)
        bad_port = parts.port is not None and not 0 <= parts.port < 65536
    except ValueError:
        return _fatal("Failed to parse URL: invalid port")
    if bad_port or (parts.scheme and not parts.netloc):
        return _fatal("Failed to parse URL: invalid format")
    if parts.scheme.lower() != "https":
        return _fatal("Url need to specify https scheme")
    for name, value in request.headers:
        if _TOKEN.fullmatch(name) is None:
            return _fatal("Failed to parse header name invalid HTTP header name")
        if _VALUE.fullmatch(value) is None:
            return _fatal("Failed to parse header value failed to parse header value")
    return None


def sent_headers(request: OutcallRequest) -> tuple[tuple[str, str], ...]:
    """The request's headers, names in lower case, with a user agent."""
    headers = tuple((name.lower(), value) for name, value in request.headers)
    return headers if any(name == USER_AGENT[0] for name, _ in headers) else (*headers, USER_AGENT)


def response_problem(request: OutcallRequest, response: WebResponse) -> Failed | None:
    """Why a node doesn't take a response."""
    most = request.max_response_bytes
    size = sum(len(name.encode()) + len(value.encode()) for name, value in response.headers)
    if size > most:
        return _fatal(f"Header size exceeds specified response size limit {most}")
    if len(response.body) > most - size:
        return _fatal(f"Http body exceeds size limit of {most} bytes.")
    problem = headers_and_body_problem(response.headers, response.body)
    return None if problem is None else _fatal(problem)


def encoded(response: WebResponse) -> bytes:
    """A response that isn't transformed."""
    return encode((RESULT,), (_value(response),))


def transform_argument(request: OutcallRequest, response: WebResponse) -> bytes:
    """What the caller's transform function gets."""
    return encode((TRANSFORM_ARGUMENT,), ({"response": _value(response), "context": request.transform_context},))


def transformed(request: OutcallRequest, reply: QueryReply) -> Vote:
    """What a node holds for the answer after the transform function has run."""
    most = request.max_response_bytes
    if reply.status == "replied":
        return reply.reply if len(reply.reply) <= most else _too_long(most)
    text = reply.reject_message
    if reply.error_code not in ("", ErrorCode.CANISTER_REJECTED_MESSAGE.text):
        text = f"{reply.error_code}: {text}"
    return Failed(reply.reject_code, text) if len(text.encode()) <= most else _too_long(most)


def agreed(request: OutcallRequest, votes: Mapping[int, Vote], nodes: int) -> ConsensusAnswer | None:
    """The answer that follows from the votes of nodes 1 .. `nodes`, or None while more are needed.

    n - f nodes that hold the same decide, with f = (n - 1) / 3; if more than f differ from the largest group, none ever will.
    """
    if request.node_index:
        vote = votes.get(request.node_index)
        return None if vote is None else _answer(request, vote)
    groups: dict[bytes, list[int]] = {}
    for node in sorted(votes):
        groups.setdefault(vote_hash(request, votes[node]), []).append(node)
    largest = max(groups.values(), key=len, default=[])
    faulty = (nodes - 1) // 3
    if largest and len(largest) >= nodes - faulty:
        return _answer(request, votes[largest[0]])
    if len(votes) - len(largest) > faulty:
        counted = sorted(((len(members), key) for key, members in groups.items()), reverse=True)
        hashes = ", ".join(f"[{key.hex()}: {count}]" for count, key in counted)
        details = f"request_id: {request.call_id}, timeout: {request.timeout_ns}, hashes: {hashes}"
        text = f"No consensus could be reached. Replicas had different responses. Details: {details}"
        return _answer(request, Failed(int(RejectCode.SYS_TRANSIENT), text))
    return None


def vote_hash(request: OutcallRequest, vote: Vote) -> bytes:
    """By which votes are compared."""
    content = b"\x00" + vote if isinstance(vote, bytes) else b"\x01" + bytes((vote.code,)) + vote.text.encode()
    head = request.call_id.to_bytes(8, "big") + request.timeout_ns.to_bytes(8, "big") + bytes(request.caller)
    return hashlib.sha256(b"\x1fic-canister-http-response-domain" + head + content).digest()


def _answer(request: OutcallRequest, vote: Vote) -> ConsensusAnswer:
    if isinstance(vote, bytes):
        return ConsensusAnswer(call_id=request.call_id, reply=vote)
    return ConsensusAnswer(call_id=request.call_id, reject_code=vote.code, reject_message=vote.text)


def _value(response: WebResponse) -> object:
    headers = [{"name": name, "value": value} for name, value in response.headers]
    return {"status": response.status, "headers": headers, "body": response.body}


def _too_long(most: int) -> Failed:
    return _fatal(f"Transformed http response exceeds limit: {most}")


def _fatal(text: str) -> Failed:
    return Failed(int(RejectCode.SYS_FATAL), text)
