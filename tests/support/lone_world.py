"""Subnets of one node each without a coordinator: the test makes the rounds and carries certified slices between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from ic_types import bls
from ic_types.candid import encoder
from ic_types.candid.types import Type
from ic_types.messages import Ingress
from ic_types.principal import MANAGEMENT_CANISTER, CanisterId
from message_routing.cycles_flow import cycles_of
from subnet.management import candid_types
from subnet.protocol import CertifiedSlice, Certify, IngressOutcome, RoundResult, SliceRequest
from subnet.state.invariants import check_invariants
from tests.support.lone_node import LoneNode, helpers, network_record
from xnet.stream import Stream

MAX_SLICE = 2 << 20
W = TypeVar("W", bound="LoneWorld")


class LoneWorld:
    """Nodes by the name of their subnet."""

    def __init__(self, nodes: Mapping[str, LoneNode]) -> None:
        self.nodes = dict(nodes)
        self.outcomes: dict[bytes, IngressOutcome] = {}

    def __getitem__(self, name: str) -> LoneNode:
        return self.nodes[name]

    def slice(self, source: str, to: str, **changes: Any) -> CertifiedSlice | None:
        """What `source` has for `to` since the last slice; None if there is nothing new."""
        return slice_between(self.nodes[source], self.nodes[to], **changes)

    def slices(self, to: str) -> tuple[CertifiedSlice, ...]:
        """All slices for a subnet."""
        made = (self.slice(source, to) for source in self.nodes if source != to)
        return tuple(one for one in made if one is not None)

    def round(
        self,
        ingress: Mapping[str, Iterable[Ingress]] | None = None,
        *,
        carry: Callable[[str], bool] = lambda _to: True,
        checkpoint: bool = False,
        time_ns: int | None = None,
    ) -> dict[str, RoundResult]:
        """One round of all subnets; slices to a subnet are carried if `carry` says so, from the heights before."""
        slices = {name: self.slices(name) if carry(name) else () for name in self.nodes}
        results = {}
        for name, node in self.nodes.items():
            messages = tuple((ingress or {}).get(name, ()))
            results[name] = node.round(*messages, slices=slices[name], checkpoint=checkpoint, time_ns=time_ns)
            self.outcomes |= {outcome.message_id: outcome for outcome in results[name].outcomes}
        return results

    def answer(self, name: str, message: Ingress, rounds: int = 50) -> IngressOutcome:
        """Submit a message, and run rounds of all subnets until it is answered."""
        self.round({name: [message]})
        for _ in range(rounds):
            if message.message_id in self.outcomes:
                return self.outcomes[message.message_id]
            self.round()
        raise AssertionError(f"no answer to {message.method} within {rounds} rounds")

    def manage(self, name: str, method: str, kind: Type, value: Any) -> Ingress:
        """A message to the management canister."""
        return self.nodes[name].ingress(MANAGEMENT_CANISTER, method, encoder.encode([kind], [value]))

    def install(self, name: str, wasm: bytes, cycles: int = 10**15) -> CanisterId:
        """Create a canister with these cycles and install code."""
        create = self.manage(
            name, "provisional_create_canister_with_cycles", candid_types.PROVISIONAL_CREATE, {"amount": cycles}
        )
        canister_id = CanisterId(self.answer(name, create).reply[-10:])
        value = {"mode": {"install": None}, "canister_id": canister_id, "wasm_module": wasm, "arg": b""}
        outcome = self.answer(name, self.manage(name, "install_code", candid_types.INSTALL_CODE, value))
        assert outcome.status == "replied", outcome
        return canister_id

    # --- cycles

    def travelling(self) -> int:
        """Cycles in messages between subnets that nobody has accepted, or whose refusal the sender doesn't know yet."""
        total = 0
        for source in self.nodes.values():
            for to in self.nodes.values():
                if source is not to:
                    total += travelling_cycles(stream_to(source, to), stream_to(to, source))
        return total

    def check(self) -> None:
        """Every cycle is somewhere, on each subnet and between them; every canister's invariants hold."""
        breaches = check_invariants([node.replica.state for node in self.nodes.values()])
        assert not breaches, "\n".join(one.text() for one in breaches)

    def close(self) -> None:
        """End all sandboxes."""
        for node in self.nodes.values():
            node.close()


def stream_to(node: LoneNode, to: LoneNode) -> Stream:
    """The stream of one subnet to another."""
    return node.replica.state.streams.get(to.record.subnet_id) or Stream()


def travelling_cycles(stream: Stream, reverse: Stream) -> int:
    """Cycles in the messages of a stream that the other side hasn't taken, or refused; `reverse` has its signals."""
    refused = {signal.index for signal in reverse.reject_signals}
    numbered = enumerate(stream.iter_messages(), stream.begin)
    return sum(cycles_of(message) for k, message in numbered if k >= reverse.signals_end or k in refused)


def slice_between(source: LoneNode, to: LoneNode, **changes: Any) -> CertifiedSlice | None:
    """A slice of what `to` hasn't got from `source`, under the certification of the source's last height."""
    ours, theirs = stream_to(to, source), stream_to(source, to)
    if not changes and theirs.end <= ours.signals_end and theirs.signals_end <= ours.begin:
        return None
    wanted = {
        "peer": to.record.subnet_id,
        "message_begin": ours.signals_end,
        "signals_begin": ours.begin,
        "max_bytes": MAX_SLICE,
    }
    replica = source.replica
    request = Certify(
        height=replica.state.height, signature=replica.certified.signature, slices=(SliceRequest(**{**wanted, **changes}),)
    )
    (made,) = replica.certify(request).slices
    return made


def signature_by(node: LoneNode, root: bytes) -> bytes:
    """The signature of a subnet of one node over a state root."""
    share = bls.sign(node.config.key_share, bls.with_domain(bls.STATE_ROOT, root))
    return bls.combine(1, [(1, share)])


@contextmanager
def lone_world(*names: str, kind: type[W] = LoneWorld, **options: Any) -> Iterator[W]:  # type: ignore[assignment]
    """Subnets with these names; at the end all invariants hold."""
    network, shares = network_record(names)
    with helpers() as folder:
        world = kind({name: LoneNode(folder, network, name, shares[name][0], **options) for name in names})
        try:
            yield world
            world.check()
        finally:
            world.close()
