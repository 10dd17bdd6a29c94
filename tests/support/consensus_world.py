"""Three subnets with a universal canister each, and what its calls of the management canister come to.

`root` is the root subnet, whose canisters pay nothing for signatures; `app` has no chain keys, `signer` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from subnet.lab.universal import Program, argument, cycles_refunded, reject_code, reject_message
from subnet.management import chain_key_types as types
from subnet.management import outcall_types
from subnet.management.methods import METHODS
from tests.support.lone_node import example
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


class ConsensusWorld:
    """The subnets and their callers."""

    def __init__(self, world: LoneWorld) -> None:
        self.world = world
        wasm = example("universal")
        self.callers: dict[str, CanisterId] = {name: world.install(name, wasm, 10**16) for name in NAMES}

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
    with lone_world(*NAMES, **options) as world:
        yield ConsensusWorld(world)
        world.check()
