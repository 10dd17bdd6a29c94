"""A node without its coordinator is given forged slices: each is refused, changes nothing, and the log says why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import pytest
from structlog.testing import capture_logs

from ic_types import hash_tree
from ic_types.hash_tree import Fork, HashTree, Labeled, Leaf, Pruned
from ic_types.messages import Request
from ic_types.principal import CanisterId
from ic_types.units import Cycles
from subnet.lab import universal as u
from subnet.lab.universal import Program
from subnet.protocol import CertifiedSlice, RoundResult
from tests.support.lone_node import LoneNode, example, helpers, network_record
from tests.support.lone_world import LoneWorld, signature_by, slice_between
from xnet.encoding import decode_header, decode_message, encode_header, encode_message
from xnet.slice import HEADER, MESSAGES, STREAMS
from xnet.stream import index_label

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
Forgery: TypeAlias = Callable[["Scene"], tuple[CertifiedSlice, ...]]


@dataclass
class Scene:
    """Subnet `left` sends to `right`, of which there is a twin that gets the same batches without what is forged."""

    world: LoneWorld
    twin: LoneNode
    caller: CanisterId
    callee: CanisterId
    bystander: CanisterId
    """Canisters of left, right and third."""
    old: CertifiedSlice
    """Of left to right, inducted before."""
    old_signature: bytes
    """Of left's height before the last."""

    @property
    def left(self) -> LoneNode:
        """The sender."""
        return self.world["left"]

    @property
    def right(self) -> LoneNode:
        """The receiver."""
        return self.world["right"]

    @property
    def third(self) -> LoneNode:
        """A bystander, whose keys are good for its own state only."""
        return self.world["third"]

    def good(self) -> CertifiedSlice:
        """An honest slice of left to right with several messages and signals."""
        made = self.world.slice("left", "right")
        assert made is not None
        return made

    def send(self) -> None:
        """A round of left in which messages with cycles go out to right and third; nothing is carried."""
        there = Program().reply(u.cycles_accept(7))
        program = Program()
        for _ in range(3):
            program = program.call(self.callee, "update", there, cycles=100, on_reply=Program().reply())
        program = program.call(self.bystander, "update", there, on_reply=Program())
        self.old_signature = self.left.replica.certified.signature
        self.left.round(*(self.left.ingress(self.caller, "update", bytes(program)) for _ in range(2)))

    def both(self, *slices: CertifiedSlice, forged: tuple[CertifiedSlice, ...] = ()) -> tuple[RoundResult, list[str]]:
        """A round of right with forged slices among the good ones, and one of its twin without; they end in the same state."""
        message = self.right.ingress(self.callee, "update", bytes(Program().set_page_byte(1, u.time()).reply(b"ok")))
        with capture_logs() as logs:
            result = self.right.round(message, slices=(*forged, *slices))
        reasons = [entry["reason"] for entry in logs if entry["event"] == "xnet.slice_refused"]
        expected = self.twin.round(message, slices=slices)
        assert expected.stats["refused_slices"] == 0
        assert result.stats["refused_slices"] == len(forged) == len(reasons)
        assert result.state_hash == expected.state_hash
        assert result.root_hash == expected.root_hash
        assert result.heads == expected.heads
        assert [outcome.status for outcome in result.outcomes] == [outcome.status for outcome in expected.outcomes]
        return result, reasons


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Subnets that have exchanged messages before."""
    network, shares = network_record(("left", "right", "third"))
    with helpers() as folder:
        nodes = {name: LoneNode(folder, network, name, shares[name][0]) for name in ("left", "right", "third")}
        twin = LoneNode(folder, network, "right", shares["right"][0])
        try:
            wasm = example("universal")
            caller, callee, other = (nodes[name].install(wasm) for name in ("left", "right", "third"))
            assert twin.install(wasm) == callee
            nothing = CertifiedSlice(source=nodes["left"].record.subnet_id, witness=b"", certificate_signature=b"")
            made = Scene(LoneWorld(nodes), twin, caller, callee, other, nothing, b"")
            made.send()
            made.old = made.good()
            made.both(made.old)
            back = made.world.slice("right", "left")
            assert back is not None
            made.left.round(slices=(back,))
            yield made
            for node in (*nodes.values(), twin):
                node.check()
        finally:
            for node in (*nodes.values(), twin):
                node.close()


# --- forgeries


def edit(tree: HashTree, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> HashTree:
    """The tree with another value in the leaf at a path."""
    match tree:
        case Fork(left, right):
            return Fork(edit(left, path, change), edit(right, path, change))
        case Labeled(label, inner) if path and label == path[0]:
            return Labeled(label, edit(inner, path[1:], change))
        case Leaf(value) if not path:
            return Leaf(change(value))
        case _:
            return tree


def tampered(piece: CertifiedSlice, scene: Scene, path: tuple[bytes, ...], change: Callable[[bytes], bytes]) -> CertifiedSlice:
    """The slice with another leaf in its witness."""
    place = (STREAMS, bytes(scene.right.record.subnet_id), *path)
    witness = hash_tree.encode(edit(hash_tree.decode(piece.witness), place, change))
    assert witness != piece.witness
    return replace(piece, witness=witness)


def without(tree: HashTree, label: bytes) -> HashTree:
    """The tree with one labelled part pruned; its root stays the same."""
    match tree:
        case Fork(left, right):
            return Fork(without(left, label), without(right, label))
        case Labeled(found, _) if found == label:
            return Pruned(hash_tree.reconstruct(tree))
        case Labeled(found, inner):
            return Labeled(found, without(inner, label))
        case _:
            return tree


def first_index(scene: Scene) -> int:
    """Index of the first message that right expects of left."""
    return scene.right.replica.state.streams[scene.left.record.subnet_id].signals_end


def message_changed(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """A thousand cycles more in one message."""

    def more(raw: bytes) -> bytes:
        message = decode_message(raw)
        assert isinstance(message, Request)
        return encode_message(replace(message, payment=Cycles(1100)))

    return (tampered(scene.good(), scene, (MESSAGES, index_label(first_index(scene) + 1)), more),)


def signals_altered(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """One signal less than was certified."""

    def fewer(raw: bytes) -> bytes:
        header = decode_header(raw)
        return encode_header(replace(header, signals_end=type(header.end)(header.signals_end - 1)))

    return (tampered(scene.good(), scene, (HEADER,), fewer),)


def signed_by_another_subnet(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """The root of left's state, signed by the third subnet, by us, and left's signature over another root."""
    good = scene.good()
    root = hash_tree.reconstruct(hash_tree.decode(good.witness))
    by_third, by_us = (signature_by(node, root) for node in (scene.third, scene.right))
    over_other = signature_by(scene.left, bytes(32))
    return tuple(replace(good, certificate_signature=one) for one in (by_third, by_us, over_other))


def state_of_another_subnet(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """A good slice of left that the third subnet claims to be its own."""
    return (replace(scene.good(), source=scene.third.record.subnet_id),)


def replayed(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """A slice that was inducted before."""
    return (scene.old,)


def older_certificate(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """A valid witness of this height under the certificate of the height before."""
    return (replace(scene.good(), certificate_signature=scene.old_signature),)


def gap_before(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """A certified slice that begins one message too late."""
    made = slice_between(scene.left, scene.right, message_begin=first_index(scene) + 1)
    assert made is not None
    return (made,)


def gap_inside(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """A certified slice out of which one message was pruned: the root and its signature are still good."""
    good = scene.good()
    witness = hash_tree.encode(without(hash_tree.decode(good.witness), index_label(first_index(scene) + 1)))
    return (replace(good, witness=witness),)


def own_slice(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """Our own certified stream to left comes back, under our name and under left's."""
    ours = scene.world.slice("right", "left", signals_begin=0, message_begin=0)
    assert ours is not None
    return ours, replace(ours, source=scene.left.record.subnet_id)


def stream_to_another(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """What left certified for the third subnet."""
    made = scene.world.slice("left", "third")
    assert made is not None
    return (made,)


def unknown_source(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """A subnet that isn't in the registry."""
    return (replace(scene.good(), source=type(scene.good().source)(b"nobody")),)


def nonsense(scene: Scene) -> tuple[CertifiedSlice, ...]:
    """Bytes that are no witness, and no signature."""
    good = scene.good()
    return replace(good, witness=b"\x83\x01"), replace(good, certificate_signature=bytes(48))


FORGERIES: dict[Forgery, str] = {
    message_changed: "isn't over its root",
    signals_altered: "isn't over its root",
    signed_by_another_subnet: "isn't over its root",
    state_of_another_subnet: "isn't over its root",
    replayed: "we expect message",
    older_certificate: "isn't over its root",
    gap_before: "we expect message",
    gap_inside: "slice has a gap",
    own_slice: "our own subnet|reveals the stream to subnet",
    stream_to_another: "reveals the stream to subnet",
    unknown_source: "unknown subnet",
    nonsense: "hash tree|isn't over its root",
}


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_forged_slices_are_refused(scene: Scene, forge: Forgery) -> None:
    """State and certified root are a twin's that never saw the forgery; an honest slice is still taken afterwards."""
    scene.send()
    before = first_index(scene)
    forged = forge(scene)
    for one in forged:
        _, (reason,) = scene.both(forged=(one,))
        assert re.search(FORGERIES[forge], reason), reason
    assert first_index(scene) == before
    result, _ = scene.both(scene.good())
    assert first_index(scene) == before + 6
    assert result.stats["xnet_in_requests"] == 6
    back = scene.world.slice("right", "left")
    assert back is not None
    scene.left.round(slices=(back,))


def test_forged_and_honest_slices_in_one_batch(scene: Scene) -> None:
    """Of several slices of one source the first good one counts; forged ones before it don't stand in its way."""
    scene.send()
    good = scene.good()
    _, reasons = scene.both(good, forged=(message_changed(scene)[0],))
    assert len(reasons) == 1
    scene.send()
    good, message = scene.good(), scene.right.ingress(scene.callee, "update", bytes(Program().reply()))
    with capture_logs() as logs:
        result = scene.right.round(message, slices=(good, good, message_changed(scene)[0]))
    assert result.state_hash == scene.twin.round(message, slices=(good,)).state_hash
    assert result.stats["refused_slices"] == 2
    reasons = [entry["reason"] for entry in logs if entry["event"] == "xnet.slice_refused"]
    assert reasons == ["second slice of the same subnet in one batch"] * 2
