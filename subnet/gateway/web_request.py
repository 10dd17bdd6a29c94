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
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Where browsers on this machine find `localhost` and every name below it."""


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
        """The host without its port; nothing if it is malformed."""
        return self._split_host[0]

    @property
    def _split_host(self) -> tuple[str, int | None]:
        try:
            parts = urlsplit(f"//{self.host}")
            return parts.hostname or "", parts.port
        except ValueError:
            return "", None

    @property
    def own_host(self) -> str:
        """The canister that the host names, or nothing: the host is the network's."""
        domain = next((one for one in reversed(_DOMAINS) if self.host_name.endswith(one)), "")
        return self.host_name.removesuffix(domain) if domain else ""

    def moved_to(self, canister_id: CanisterId) -> str | None:
        """Where the canister's own host has the same page, if a browser on this machine opens it as a page."""
        if self.own_host or self.host_name not in _LOOPBACK or self.header("sec-fetch-mode") != "navigate":
            return None
        port = self._split_host[1]
        end = f"?{self.query}" if self.query else ""
        return f"http://{canister_id}{_DOMAINS[0]}{f':{port}' if port else ''}{self.path}{end}"

    @property
    def is_foreign(self) -> bool:
        """Whether a page of another origin, or of none, sends it; browsers tell, other clients needn't."""
        origin, site = self.header("origin"), self.header("sec-fetch-site")
        return (bool(origin) and origin.partition("://")[2] != self.host) or site not in ("", "none", "same-origin")

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
        text = self.own_host or _parameter(self.query) or _parameter(urlsplit(self.header("referer")).query)
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
