"""Three subnets with a universal canister each, and what its calls of the management canister come to.

`root` is the root subnet, whose canisters pay nothing for signatures; `app` has no chain keys, `signer` has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.candid.types import text, variant
from ic_types.consensus_calls import OutcallRequest
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.coordinator import outcall_rounds as one_call
from subnet.coordinator.outcall_rounds import Failed, Vote, WebResponse
from subnet.lab.universal import Program, argument, cycles_refunded, reject_code, reject_message
from subnet.management import chain_key_types as types
from subnet.management import outcall_types
from subnet.management.methods import METHODS
from subnet.protocol import QueryReply, QueryRequest, RoundResult
from tests.support.lone_node import LoneNode, example
from tests.support.lone_world import LoneWorld, lone_world

NAMES = ("root", "app", "signer")
RESULTS = {
    "ecdsa_public_key": types.EXTENDED_KEY_RESULT,
    "schnorr_public_key": types.EXTENDED_KEY_RESULT,
    "vetkd_public_key": types.PUBLIC_KEY_RESULT,
    "sign_with_ecdsa": types.SIGNATURE_RESULT,
    "sign_with_schnorr": types.SIGNATURE_RESULT,
    "vetkd_derive_key": types.ENCRYPTED_KEY_RESULT,
    "http_request": outcall_types.RESULT,
}

FETCHED = variant({"ok": outcall_types.RESULT, "err": text})


class Answer(NamedTuple):
    """What a canister got."""

    value: Any
    """The decoded result; None for a reject."""
    refund: int
    code: int = 0
    text: str = ""

    @property
    def rejected(self) -> tuple[int, str]:
        """Reject code and text."""
        assert self.value is None, f"replied {self.value}"
        return self.code, self.text


class AnsweringWorld(LoneWorld):
    """Subnets whose single nodes get responses to their outcalls."""

    def __init__(self, nodes: Mapping[str, LoneNode]) -> None:
        super().__init__(nodes)
        self.responses: list[tuple[str, WebResponse | Failed]] = []
        """URL and what a web server answers; outcalls to other URLs wait."""

    def round(self, *args: Any, **named: Any) -> dict[str, RoundResult]:
        """First the nodes get responses, then a round."""
        known = dict(self.responses)
        for node in self.nodes.values():
            for request in list(node.desk.desks[0].outcalls.values()):
                problem = one_call.request_problem(request)
                if problem is not None or request.url in known:
                    vote = self._vote(node, request, problem or known[request.url])
                    decided = one_call.agreed(request, {1: vote}, 1)
                    assert decided is not None
                    node.desk.answer(0, decided)
        return super().round(*args, **named)

    @staticmethod
    def _vote(node: LoneNode, request: OutcallRequest, response: WebResponse | Failed) -> Vote:
        if isinstance(response, Failed):
            return response
        problem = one_call.response_problem(request, response)
        if problem is not None or request.transform is None:
            return problem or one_call.encoded(response)
        question = QueryRequest(
            cookie=0,
            sender=MANAGEMENT_CANISTER,
            receiver=request.caller,
            method=request.transform,
            arg=one_call.transform_argument(request, response),
        )
        replies: list[QueryReply] = []
        node.driver.start_query(node.replica.query(question), replies.append)
        while not replies:
            node.driver.step(50)
        return one_call.transformed(request, replies[0])


class ConsensusWorld:
    """The subnets and their callers."""

    def __init__(self, world: AnsweringWorld) -> None:
        self.world = world
        wasm = example("universal")
        self.callers: dict[str, CanisterId] = {name: world.install(name, wasm, 10**16) for name in NAMES}

    def fetch(self, canister: CanisterId, url: str, what: str) -> Any:
        """What tests/canisters/motoko_outcalls.mo on subnet `app` makes of an outcall with this transform function."""
        message = self.world["app"].ingress(canister, "fetch", encode((text, text), (url, what)))
        outcome = self.world.answer("app", message)
        assert outcome.status == "replied", outcome
        return decode(outcome.reply, [FETCHED])[0]

    def program(self, method: str, args: Any, *, cycles: int, raw: bytes | None = None) -> Program:
        """Call the management canister; answer with the refund, the reject code and what came."""
        arg = encode((METHODS[method].argument,), (args,)) if raw is None else raw  # type: ignore[arg-type]
        replied = Program().append(cycles_refunded()).append(b"\0").append(argument()).send_reply()
        rejected = Program().append(cycles_refunded()).append(reject_code().to_blob()).append(reject_message()).send_reply()
        return Program().call(MANAGEMENT_CANISTER, method, arg, cycles=cycles, on_reply=replied, on_reject=rejected)

    def ask(self, subnet: str, method: str, args: Any = None, *, cycles: int = 0, raw: bytes | None = None) -> Answer:
        """Have the subnet's canister call, and run rounds until it is answered."""
        program = self.program(method, args, cycles=cycles, raw=raw)
        message = self.world[subnet].ingress(self.callers[subnet], "update", bytes(program))
        outcome = self.world.answer(subnet, message)
        assert outcome.status == "replied", outcome
        return read_answer(method, outcome.reply)


def read_answer(method: str, raw: bytes) -> Answer:
    """What the program answered."""
    refund, rest = int.from_bytes(raw[:16], "little"), raw[16:]
    if rest[0] == 0:
        return Answer(decode(rest[1:], [RESULTS[method]])[0], refund)
    width = len(bytes(8))
    return Answer(None, refund, int.from_bytes(rest[:width], "little"), rest[width:].decode())


@contextmanager
def consensus_world(**options: Any) -> Iterator[ConsensusWorld]:
    """The subnets, checked at the end."""
    with lone_world(*NAMES, kind=AnsweringWorld, **options) as world:
        yield ConsensusWorld(world)
