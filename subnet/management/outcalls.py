"""HTTPS outcalls: checked, charged, and handed to consensus.

Rule module. Spec: interface spec, "IC method http_request"; the order of the checks is the replica's.
"""

from __future__ import annotations

from ic_types.candid.values import Value
from ic_types.consensus_calls import OutcallRequest
from ic_types.messages import Request
from ic_types.principal import Principal
from ic_types.units import NS_PER_SECOND
from scheduler.cycles_account import BurnCause
from subnet.management import errors
from subnet.management.context import ManagementCall, ManagementOutcome, SubnetContext

MAX_URL_BYTES = 8192
MAX_HEADERS = 64
MAX_HEADER_BYTES = 8192
"""Of a name, and of a value."""
MAX_HEADERS_BYTES = 49_152
MAX_REQUEST_BYTES = 2_000_000
MAX_RESPONSE_BYTES = 2_000_000
TIMEOUT_S = 60
_MAX_DECODED_HEADER = 16_384
_SINGLE_NODE_METHODS = ("put", "delete", "patch")

Headers = tuple[tuple[str, str], ...]


def http_request(ctx: SubnetContext, call: ManagementCall, args: Value) -> ManagementOutcome:
    """Leave the call open until the nodes have agreed on a response.

    Conditions: the transform function is the caller's; URL, headers, body and size of the response are within their limits; the
    method is allowed; not too many outcalls are open; the attached cycles cover the fee.
    """
    request, headers = call.message, tuple((one["name"], one["value"]) for one in args["headers"])
    assert isinstance(request, Request), "users can't make outcalls"
    _check_decoding(headers)
    body, transform = args["body"] or b"", args["transform"]
    _check_transform(transform, request.sender)
    if (length := len(args["url"].encode())) > MAX_URL_BYTES:
        raise errors.rejected(f"url size {length} exceeds {MAX_URL_BYTES}")
    problem = headers_and_body_problem(headers, body)
    if problem is not None:
        raise errors.rejected(problem)
    limit = _response_limit(args["max_response_bytes"])
    ((method, _),) = args["method"].items()
    replicated = args["is_replicated"] is not False
    if method in _SINGLE_NODE_METHODS and replicated:
        raise errors.rejected("The requested HTTP method is only allowed for non-replicated requests.")
    asked = OutcallRequest(
        call_id=0,
        caller=request.sender,
        url=args["url"],
        method=method.upper(),
        headers=headers,
        body=body,
        max_response_bytes=limit,
        transform=None if transform is None else transform["function"].method,
        transform_context=b"" if transform is None else transform["context"],
        node_index=0 if replicated else 1 + int.from_bytes(ctx.random_bytes(8), "big") % ctx.node_count,
        timeout_ns=ctx.time + TIMEOUT_S * NS_PER_SECOND,
    )
    return _ask(ctx, request, asked)


def _ask(ctx: SubnetContext, request: Request, asked: OutcallRequest) -> ManagementOutcome:
    fee = ctx.fees.http_request(request_bytes(asked), asked.max_response_bytes)
    if ctx.consensus_calls.outcalls() >= ctx.limits.max_open_outcalls:
        raise errors.rejected(f"max number ({ctx.limits.max_open_outcalls}) of http requests in-flight reached.")
    if request.payment < fee:
        raise errors.not_enough_cycles_sent(request.method, request.payment, fee)
    ctx.tally.add_burned(BurnCause.HTTP_OUTCALLS, fee)
    ctx.consensus_calls.open(request, asked, fee)
    return ManagementOutcome(payload=None)


def request_bytes(asked: OutcallRequest) -> int:
    """The size that is paid for: URL, headers, body, and the transform function's name and context."""
    headers = sum(len(name.encode()) + len(value.encode()) for name, value in asked.headers)
    transform = len((asked.transform or "").encode()) + len(asked.transform_context)
    return len(asked.url.encode()) + headers + len(asked.body) + transform


def headers_and_body_problem(headers: Headers, body: bytes) -> str | None:
    """Why these headers and this body are too much, for a request and for a response."""
    names = [len(name.encode()) for name, _ in headers]
    values = [len(value.encode()) for _, value in headers]
    size = sum(names) + sum(values)
    if len(headers) > MAX_HEADERS:
        return f"number of all http headers {len(headers)} exceeds {MAX_HEADERS}"
    for what, longest in (("name", max(names, default=0)), ("value", max(values, default=0))):
        if longest > MAX_HEADER_BYTES:
            return f"number of bytes to represent some http header {what} {longest} exceeds {MAX_HEADER_BYTES}"
    if size > MAX_HEADERS_BYTES:
        what = "total number of bytes to represent all http header names and values"
        return f"{what} {size} exceeds {MAX_HEADERS_BYTES}"
    if size + len(body) > MAX_REQUEST_BYTES:
        what = "total number of bytes to represent all http header names and values and http body"
        return f"{what} {size + len(body)} exceeds {MAX_REQUEST_BYTES}"
    return None


def _check_decoding(headers: Headers) -> None:
    """Bounds that hold while the argument is decoded. Raises: ManagementError (IC0408)."""
    total = 0
    for number, (name, value) in enumerate(headers):
        size = len(name.encode()) + len(value.encode())
        total += size
        if number >= MAX_HEADERS:
            found = f"The number of elements exceeds maximum allowed {MAX_HEADERS}"
        elif size > _MAX_DECODED_HEADER:
            found = f"The single element data size exceeds maximum allowed {_MAX_DECODED_HEADER}"
        elif total > MAX_HEADERS_BYTES:
            found = f"The total data size exceeds maximum allowed {MAX_HEADERS_BYTES}"
        else:
            continue
        raise errors.invalid_payload(f"Error decoding candid: Deserialize error: {found}")


def _check_transform(transform: Value, caller: Principal) -> None:
    """The function is the caller's own. Raises: ManagementError (IC0406)."""
    if transform is not None and transform["function"].canister != caller:
        raise errors.rejected(f"transform principal id expected to be {caller}, got {transform['function'].canister}")


def _response_limit(wanted: int | None) -> int:
    """Bytes of the response. Raises: ManagementError (IC0406)."""
    if wanted is None:
        return MAX_RESPONSE_BYTES
    if wanted > MAX_RESPONSE_BYTES:
        raise errors.rejected(f"max_response_bytes expected to be in the range [0..{MAX_RESPONSE_BYTES}], got {wanted}")
    return int(wanted)
