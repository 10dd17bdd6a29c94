"""Pages that canisters serve: a browser's request becomes a call of `http_request`, its answer the browser's.

Rule module, in coroutines. Spec: HTTP gateway protocol (query first, upgrade to an update call, streaming by a callback of the
same canister). The certification header goes through as it is; nothing is verified on the way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.candid.values import FuncRef
from ic_types.candid.wire_types import read_head
from ic_types.errors import CandidError
from ic_types.principal import CanisterId
from subnet.gateway.caller import Caller, CallRejected
from subnet.gateway.replies import HttpError, HttpReply
from subnet.gateway.web_request import WebRequest

_HEADERS: t.Type = t.Vec(t.tuple_(t.text, t.text))
_REQUEST_FIELDS: dict[str, t.Type] = {
    "method": t.text,
    "url": t.text,
    "headers": _HEADERS,
    "body": t.blob,
    "certificate_version": t.Opt(t.nat16),
}
REQUEST = t.record(_REQUEST_FIELDS)
CERTIFICATE_VERSION = 2
MAX_PIECES = 10_000
"""Of a streamed answer; a canister that never ends is cut off."""
_NOT_FORWARDED = frozenset(
    ("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
_NO_SUCH_METHOD = "IC0536"


@dataclass(slots=True)
class CanisterHttp:
    """Asks canisters for pages."""

    caller: Caller

    async def answer(self, canister_id: CanisterId, request: WebRequest) -> HttpReply:
        """The canister's answer.

        Raises: HttpError when there is none.
        """
        arg = encode([REQUEST], [_request_record(request)])
        try:
            raw = await self.caller.query(canister_id, "http_request", arg)
            response, token_type = _decode_response(raw)
            if response["upgrade"]:
                raw = await self.caller.update(canister_id, "http_request_update", arg)
                response, token_type = _decode_response(raw)
        except CallRejected as rejected:
            if rejected.error_code == _NO_SUCH_METHOD:
                raise HttpError(404, f"Canister {canister_id} serves no pages: {rejected.message}") from rejected
            raise HttpError(502, f"Canister {canister_id} rejected the request: {rejected}") from rejected
        except CandidError as error:
            raise HttpError(502, f"Canister {canister_id} gave no valid HTTP response: {error}") from error
        headers = tuple(_forwarded(response["headers"]))
        strategy = response["streaming_strategy"]
        if strategy is None or token_type is None:
            return HttpReply(response["status_code"], response["body"], headers=headers)
        callback = strategy["Callback"]["callback"]
        if callback.canister != canister_id:
            raise HttpError(502, f"Canister {canister_id} names a callback of another canister, {callback.canister}")
        pieces = self._stream(response["body"], callback, token_type, strategy["Callback"]["token"])
        return HttpReply(response["status_code"], headers=headers, pieces=pieces)

    async def _stream(self, first: bytes, callback: FuncRef, token_type: t.Type, token: Any) -> AsyncIterator[bytes]:
        yield first
        fields: dict[str, t.Type] = {"body": t.blob, "token": t.Opt(token_type)}
        piece_type = t.record(fields)
        for _ in range(MAX_PIECES):
            raw = await self.caller.query(callback.canister, callback.method, encode([token_type], [token]))
            piece = decode(raw, [t.Opt(piece_type)])[0]  # a plain record reads as an optional one
            if piece is None:
                return
            yield piece["body"]
            token = piece["token"]
            if token is None:
                return


def _request_record(request: WebRequest) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.path + (f"?{request.query}" if request.query else ""),
        "headers": list(request.headers),
        "body": request.body,
        "certificate_version": CERTIFICATE_VERSION,
    }


def _decode_response(raw: bytes) -> tuple[Mapping[str, Any], t.Type | None]:
    """The response, and the type of its streaming token, which is the canister's own."""
    kinds = read_head(raw).types
    token_type = _token_type(kinds[0]) if kinds else None
    fields: dict[str, t.Type] = {"status_code": t.nat16, "headers": _HEADERS, "body": t.blob, "upgrade": t.Opt(t.bool_)}
    if token_type is not None:
        names: dict[str, t.Type] = {"callback": t.Func((token_type,), (t.reserved,), ("query",)), "token": token_type}
        callback = t.record(names)
        fields["streaming_strategy"] = t.Opt(t.Variant(t.sorted_fields([t.make_field("Callback", callback)])))
    response = decode(raw, [t.record(fields)])[0]
    status = response["status_code"]
    if not 100 <= status <= 599:
        raise CandidError(f"status code {status}")
    return {"streaming_strategy": None, **response}, token_type


def _token_type(kind: t.Type) -> t.Type | None:
    for name in ("streaming_strategy", None, "Callback", "token"):
        resolved = t.resolve(kind)
        if name is None:
            found = resolved.inner if isinstance(resolved, t.Opt) else None
        elif isinstance(resolved, t.Record | t.Variant):
            found = next((field.type for field in resolved.fields if field.id == t.field_id(name)), None)
        else:
            found = None
        if found is None:
            return None
        kind = found
    return kind


def _forwarded(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    for name, value in headers:
        if not name.isascii() or not name or any(c in name + value for c in "\r\n\0") or not value.isprintable():
            raise HttpError(502, f"The canister's header {name!r:.60} isn't a header of HTTP.")
    return [(name, value.encode("utf-8").decode("latin-1")) for name, value in headers if name.lower() not in _NOT_FORWARDED]
