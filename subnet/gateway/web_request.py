"""Requests of browsers, and which canister they are for.

Rule module.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ic_types.errors import InvalidPrincipal
from ic_types.principal import CanisterId, Principal

_DOMAINS = (".localhost", ".raw.localhost")
_PARAMETER = "canisterId"


@dataclass(frozen=True, slots=True)
class WebRequest:
    """A request of a browser."""

    method: str
    host: str
    path: str
    """As it came, still percent-encoded."""
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @classmethod
    def of(cls, scope: MutableMapping[str, Any], body: bytes) -> WebRequest:
        """From ASGI."""
        headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        raw = scope.get("raw_path") or scope["path"].encode()
        request = cls(scope["method"], "", raw.decode("latin-1"), scope["query_string"].decode("latin-1"), headers, body)
        return cls(request.method, request.header("host"), request.path, request.query, headers, body)

    def header(self, name: str) -> str:
        """Its value, or nothing."""
        return next((value for key, value in self.headers if key == name), "")

    @property
    def host_name(self) -> str:
        """The host without its port."""
        return urlsplit(f"//{self.host}").hostname or ""

    @property
    def is_for_this_machine(self) -> bool:
        """Whether the host is an address or `localhost`: names of others may point anywhere."""
        try:
            return self.host_name == "localhost" or bool(ipaddress.ip_address(self.host_name))
        except ValueError:
            return False

    def canister(self, names: Mapping[str, CanisterId]) -> CanisterId | None:
        """The canister that the host, the parameter `canisterId` or the page it comes from names, by id or by name.

        Raises: InvalidPrincipal when it is neither.
        """
        host = self.host_name
        text = ""
        for domain in _DOMAINS:
            if host.endswith(domain):
                text = host.removesuffix(domain)
        text = text or _parameter(self.query) or _parameter(urlsplit(self.header("referer")).query)
        if not text:
            return None
        if text in names:
            return names[text]
        try:
            return Principal.from_text(text)
        except InvalidPrincipal as error:
            raise InvalidPrincipal(f"{error}; canisters with a name: {', '.join(names) or 'none'}") from error


def _parameter(query: str) -> str:
    return parse_qs(query).get(_PARAMETER, [""])[0]
