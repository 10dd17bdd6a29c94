"""What browsers ask for: canisters' own pages, and the network's page with what its script needs.

Rule module, in coroutines.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2

from ic_types.candid.did import DidFile, parse_did
from ic_types.candid.text import encode_text, to_text
from ic_types.errors import BadInput, CandidError, InvalidPrincipal
from ic_types.principal import CanisterId, Principal
from subnet import control_protocol as cp
from subnet.gateway.boundary import Boundary
from subnet.gateway.caller import Caller, CallRejected
from subnet.gateway.canister_http import CanisterHttp
from subnet.gateway.page import PAGE
from subnet.gateway.replies import HTML, HttpError, HttpReply, json_reply
from subnet.gateway.web_request import WebRequest
from subnet.identities import identity_named
from subnet.protocol import Inspected

ANONYMOUS_NAME = "anonymous"
_SHOWN_IDENTITIES = 50
_CONTROLS = "/_/"
_SANDBOX = ("content-security-policy", "sandbox allow-scripts allow-forms allow-popups")
"""Beside the canister's own policy: a browser obeys both."""
_PAGE_HEADERS = (
    (
        "content-security-policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
)


@dataclass(slots=True)
class Web:
    """Answers browsers."""

    boundary: Boundary
    caller: Caller
    canisters: CanisterHttp
    _services: dict[str, DidFile | None] = field(default_factory=dict)
    """By their text."""

    async def answer(self, request: WebRequest) -> HttpReply:
        """Raises: HttpError when there is nothing to show."""
        names = {one.name: one.canister_id for one in self.boundary.description.canisters}
        try:
            canister_id = request.canister(names)
        except InvalidPrincipal as error:
            raise HttpError(400, f"There is no such canister: {error}") from error
        if canister_id is not None:
            return await self._canister_page(canister_id, request)
        if request.path.startswith(_CONTROLS) and request.is_foreign:
            raise HttpError(403, "Only this network's own page may ask here.")
        match (request.method, request.path):
            case ("GET" | "HEAD", "/"):
                return HttpReply(200, PAGE, HTML, _PAGE_HEADERS)
            case ("GET", "/_/status"):
                return json_reply(await self._status())
            case ("GET", "/_/canisters"):
                return json_reply(await self._canisters())
            case ("POST", "/_/call"):
                return await self._call(request)
            case _:
                raise HttpError(404, "There is no such page.")

    async def _canister_page(self, canister_id: CanisterId, request: WebRequest) -> HttpReply:
        """Of the canister's own origin, or of none: the network's page acts as the network's identities."""
        moved = request.moved_to(canister_id)
        if moved is not None:
            return HttpReply(307, headers=(("location", moved), ("cache-control", "no-store")))
        reply = await self.canisters.answer(canister_id, request)
        return reply if request.own_host else replace(reply, headers=(*reply.headers, _SANDBOX))

    async def _status(self) -> dict[str, Any]:
        """Heights and nodes: what changes all the time."""
        status = await self.boundary.line.ask(cp.GetStatus(), cp.NetworkStatus)
        return {
            "name": self.boundary.description.name,
            "live": self.boundary.description.live,
            "phase": status.phase,
            "problem": status.problem,
            "time_ns": str(status.time_ns),
            "calls": {"submitted": status.submitted, "replied": status.replied, "rejected": status.rejected},
            "identities": [ANONYMOUS_NAME, *self.boundary.description.identities[:_SHOWN_IDENTITIES]],
            "subnets": [
                {
                    "name": one.name,
                    "id": str(one.subnet_id),
                    "type": one.subnet_type,
                    "height": one.height,
                    "state_hash": one.state_hash.hex(),
                    "messages": one.totals.get("messages", 0),
                    "nodes": [{"index": n.index, "phase": n.phase, "height": n.height, "pid": n.pid} for n in one.nodes],
                }
                for one in status.subnets
            ],
        }

    async def _canisters(self) -> list[dict[str, Any]]:
        """Every canister with its methods."""
        names = {one.canister_id: one.name for one in self.boundary.description.canisters}
        found = []
        for subnet in self.boundary.description.registry.subnets:
            for row in await self._rows(subnet.subnet_id):
                canister_id = Principal(row["id"])
                found.append(
                    {
                        "id": str(canister_id),
                        "name": names.get(canister_id, ""),
                        "subnet": subnet.name,
                        "status": row["status"],
                        "cycles": str(row["cycles"]),
                        "methods": self._methods(row["candid"]),
                    }
                )
        return found

    async def _rows(self, subnet_id: Principal) -> list[dict[str, Any]]:
        answer = await self.boundary.line.ask(cp.InspectNode(subnet=subnet_id, what="canisters"), Inspected)
        rows: list[dict[str, Any]] = cbor2.loads(answer.body)
        return rows

    def _methods(self, candid: str) -> list[dict[str, str]]:
        did = self._service(candid)
        if did is None or did.service is None:
            return []
        methods = []
        for name, _ in did.service.methods:
            function = did.method(name)
            query = "query" in function.annotations or "composite_query" in function.annotations
            methods.append({"name": name, "type": function.signature(), "kind": "query" if query else "update"})
        return methods

    def _service(self, candid: str) -> DidFile | None:
        if candid not in self._services:
            try:
                self._services[candid] = parse_did(candid) if candid else None
            except CandidError:
                self._services[candid] = None
        return self._services[candid]

    async def _call(self, request: WebRequest) -> HttpReply:
        """A call from the page's form, with Candid text both ways."""
        _refuse_others(request)
        wanted = _form(request.body)
        try:
            canister_id = Principal.from_text(wanted["canister"])
            subnet = self.boundary.of_canister(canister_id)
            row = next((one for one in await self._rows(subnet.subnet_id) if one["id"] == canister_id), None)
            did = None if row is None else self._service(row["candid"])
            function = None if did is None else did.method(wanted["method"])
            text = wanted["arg"].strip() or "()"
            arg = encode_text(text if text.startswith("(") else f"({text})", None if function is None else function.args)
            identity = identity_named(self.boundary.description.identity_seed, self._known(wanted["as"]))
            ask = self.caller.query if wanted["kind"] == "query" else self.caller.update
            raw = await ask(canister_id, wanted["method"], arg, identity)
            return json_reply({"reply": _answer_text(raw, None if function is None else function.results)})
        except CallRejected as rejected:
            return json_reply({"reject": str(rejected)})
        except BadInput as error:
            return json_reply({"problem": str(error)}, 400)

    def _known(self, name: str) -> str:
        if name not in (ANONYMOUS_NAME, *self.boundary.description.identities):
            raise BadInput(f"there is no identity {name!r}")
        return name


def _answer_text(raw: bytes, types: Any) -> str:
    for kinds in (types, None):
        try:
            return to_text(raw, kinds)
        except CandidError:
            continue
    return f"0x{raw.hex()}"


def _form(body: bytes) -> dict[str, str]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"The request isn't JSON: {error}") from error
    names = ("canister", "method", "arg", "as", "kind")
    if not isinstance(found, dict) or not all(isinstance(found.get(name), str) for name in names):
        raise HttpError(400, f"The request must have the texts {', '.join(names)}.")
    return found


def _refuse_others(request: WebRequest) -> None:
    """Nobody else's page may call as this network's identities, in old browsers either: they ask before they send JSON."""
    if request.header("content-type").split(";")[0].strip().lower() != "application/json":
        raise HttpError(400, "Unexpected content-type, expected application/json.")
    if not request.is_for_this_machine:  # a name that an attacker lets point here would pass for the page's own origin
        raise HttpError(403, "The network's own page is at localhost or an address, not at a name.")
