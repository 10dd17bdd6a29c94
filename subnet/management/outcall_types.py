"""Candid types of HTTPS outcalls.

Rule module. Spec: `ic.did`, http_request.
"""

from __future__ import annotations

from ic_types.candid.types import Record, Type, blob, bool_, func, nat, nat64, null, opt, record, text, variant, vec

METHODS = ("get", "head", "post", "put", "delete", "patch")


def _record(**fields: Type) -> Record:
    return record(fields)


_HEADER = _record(name=text, value=text)
RESULT = _record(status=nat, headers=vec(_HEADER), body=blob)
TRANSFORM_ARGUMENT = _record(response=RESULT, context=blob)
_TRANSFORM = _record(function=func((TRANSFORM_ARGUMENT,), (RESULT,), "query"), context=blob)
HTTP_REQUEST = _record(
    url=text,
    max_response_bytes=opt(nat64),
    method=variant(dict.fromkeys(METHODS, null)),
    headers=vec(_HEADER),
    body=opt(blob),
    transform=opt(_TRANSFORM),
    is_replicated=opt(bool_),
)
