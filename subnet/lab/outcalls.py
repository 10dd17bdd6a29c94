"""HTTPS outcalls of a network under test: who answers them, and which wait for an answer.

Plumbing, over the control socket. No request ever leaves the machine unless a test forwards it to an address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ic_types.consensus_calls import OutcallRequest
from ic_types.errors import BadInput
from ic_types.outcall_rule import METHODS, OutcallRule
from ic_types.principal import SubnetId
from ic_types.reject import RejectCode

if TYPE_CHECKING:
    from subnet.lab.network import Network

Body: TypeAlias = bytes | str
Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class OpenOutcall:
    """An outcall that nobody has answered."""

    network: Network
    subnet: str
    request: OutcallRequest

    def answer(self, body: Body | Iterable[Body] = b"", *, status: int = 200, headers: Headers = ()) -> None:
        """Answer it; a list of bodies gives node 1 the first, and all further nodes the last.

        Raises: NetworkError when it isn't open any more.
        """
        self._answer(OutcallRule(status=status, headers=_headers(headers), bodies=_bodies(body)))

    def reject(self, message: str, code: RejectCode = RejectCode.SYS_TRANSIENT) -> None:
        """Let it fail on every node, as if no web server answered."""
        self._answer(OutcallRule(reject_code=int(code), reject_message=message))

    def _answer(self, rule: OutcallRule) -> None:
        record = self.network.caller.subnet(self.subnet)
        self.network.caller.client.answer_outcall(record.subnet_id, self.request.call_id, rule)


class Outcalls:
    """`network.outcalls`."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def mock(
        self,
        url: str = "*",
        body: Body | Iterable[Body] = b"",
        *,
        status: int = 200,
        headers: Headers = (),
        method: str | None = None,
        node: int | None = None,
        times: int | None = None,
    ) -> None:
        """Answer outcalls whose URL fits (`*` stands for any letters) from now on; what was mocked last is looked at first.

        A list of bodies gives node 1 the first, and all further nodes the last. `node`: that node alone. `times`: so many
        outcalls. Raises: BadInput.
        """
        answer = OutcallRule(status=status, headers=_headers(headers), bodies=_bodies(body))
        self._add(answer, url, method, node, times)

    def fail(
        self,
        url: str = "*",
        message: str = "Connection refused",
        *,
        code: RejectCode = RejectCode.SYS_TRANSIENT,
        method: str | None = None,
        node: int | None = None,
        times: int | None = None,
    ) -> None:
        """Let outcalls fail, as if no web server answered. Raises: BadInput."""
        self._add(OutcallRule(reject_code=int(code), reject_message=message), url, method, node, times)

    def forward(self, url: str, address: str, *, method: str | None = None, node: int | None = None) -> None:
        """Ask a web server at this address (http://127.0.0.1:8000) in place of the URL's own. Raises: BadInput."""
        if not address.startswith(("http://", "https://")):
            raise BadInput(f"{address!r} is no address; addresses begin with http:// or https://")
        self._add(OutcallRule(forward=address), url, method, node, None)

    def clear(self) -> None:
        """Forget what was mocked, failed and forwarded; the topology's rules stay."""
        self._network.caller.client.set_outcall_rules(clear=True)

    def pending(self) -> list[OpenOutcall]:
        """Outcalls without an answer, in the order in which they were made."""
        names: dict[SubnetId, str] = {one.subnet_id: one.name for one in self._network.caller.description.registry.subnets}
        found = self._network.caller.client.outcalls()
        return [OpenOutcall(self._network, names[one.subnet], one.request) for one in found]

    def _add(self, answer: OutcallRule, url: str, method: str | None, node: int | None, times: int | None) -> None:
        self._network.caller.client.set_outcall_rules(aimed(answer, url, method, node, times))


def aimed(answer: OutcallRule, url: str, method: str | None, node: int | None, times: int | None) -> OutcallRule:
    """The rule that gives this answer to these outcalls. Raises: BadInput."""
    if method is not None and method.upper() not in METHODS:
        raise BadInput(f"method {method!r} is none of {', '.join(METHODS)}")
    for name, number in (("node", node), ("times", times)):
        if number is not None and number < 1:
            raise BadInput(f"{name} {number}: allowed is 1 or more")
    return OutcallRule(
        url=url,
        method=(method or "").upper(),
        node=node or 0,
        times=times or 0,
        status=answer.status,
        headers=answer.headers,
        bodies=answer.bodies,
        reject_code=answer.reject_code,
        reject_message=answer.reject_message,
        forward=answer.forward,
    )


def _headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return tuple((name, value) for name, value in pairs)


def _bodies(body: Body | Iterable[Body]) -> tuple[bytes, ...]:
    given = [body] if isinstance(body, bytes | str) else list(body)
    if not given:
        raise BadInput("no body; give at least one")
    return tuple(one.encode() if isinstance(one, str) else one for one in given)
