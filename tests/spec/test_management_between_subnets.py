"""Every method of the management canister, called by real canisters of other subnets: through `aaaaa-aa`, and by subnet id.

Interface spec, "The IC management canister", "Effective canister id"; abstract behaviour, "Call to the management canister".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ic_types.candid.decoder import decode
from ic_types.candid.encoder import encode
from ic_types.candid.types import principal, record
from ic_types.principal import ANONYMOUS, MANAGEMENT_CANISTER, CanisterId, Principal
from subnet.lab.universal import Program, argument, cycles_refunded, reject_code, reject_message
from subnet.management import bitcoin
from subnet.management.methods import METHODS
from tests.support.lone_node import example
from tests.support.lone_world import LoneWorld, lone_world

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.spec("http-effective-canister-id"),
    pytest.mark.spec("http-effective-subnet-id"),
]
NAMES = ("root", "app", "other")
COUNTER = example("counter")
HASH = hashlib.sha256(COUNTER).digest()
CYCLES = 10**12
UPLOADED: dict[str, Any] = {
    "wasm_module_size": 10,
    "globals": [],
    "wasm_memory_size": 1 << 16,
    "stable_memory_size": 0,
    "certified_data": b"",
}


class Story:
    """A canister of `app` that canisters of all subnets control, and what they are answered."""

    def __init__(self, world: LoneWorld) -> None:
        self.world = world
        self.callers = {name: world.install(name, example("universal"), 10**17) for name in NAMES}
        self.app: Principal = world["app"].record.subnet_id
        self.taken = self.uploaded = b""

    def target(self) -> CanisterId:
        """A fresh one."""
        settings = {"controllers": [ANONYMOUS, *self.callers.values()]}
        value = {"amount": 10**16, "settings": settings}
        create = "provisional_create_canister_with_cycles"
        outcome = self.world.answer("app", self.world.manage("app", create, METHODS[create].arguments[0], value))
        return CanisterId(outcome.reply[-10:])

    def ask(self, subnet: str, to: Principal, method: str, value: Any, cycles: int = 0) -> tuple[Any, int]:
        """Have the canister of a subnet call: the decoded reply or reject code and text, and the cycles that came back."""
        arg = encode((), ()) if value is None else value
        arg = arg if isinstance(arg, bytes) else encode(METHODS[method].arguments, (arg,))
        replied = Program().append(cycles_refunded()).append(b"\0").append(argument()).send_reply()
        rejected = Program().append(cycles_refunded()).append(reject_code().to_blob()).append(reject_message()).send_reply()
        program = Program().call(to, method, arg, cycles=cycles, on_reply=replied, on_reject=rejected)
        caller = self.callers[subnet]
        outcome = self.world.answer(subnet, self.world[subnet].ingress(caller, "update", bytes(program)))
        assert outcome.status == "replied", outcome
        refund, rest = int.from_bytes(outcome.reply[:16], "little"), outcome.reply[16:]
        if rest[0] == 0:
            values = decode(rest[1:], METHODS[method].results)
            return (values[0] if values else None), refund
        return (int.from_bytes(rest[:8], "little"), rest[8:].decode()), refund


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Checked at the end."""
    with lone_world(*NAMES) as world:
        yield Story(world)


Args = Callable[[Story, CanisterId], Any]


def about(**more: Any) -> Args:
    """The canister and these fields."""
    return lambda _, target: {"canister_id": target, **more}


def chunked(_story: Story, target: CanisterId) -> dict[str, Any]:
    """An install from the store."""
    return {
        "target_canister": target,
        "chunk_hashes_list": [{"hash": HASH}],
        "wasm_module_hash": HASH,
        "arg": b"",
        "mode": {"install": None},
    }


QUERIES_ONLY = (4, "API is only accessible in non-replicated mode")
NOT_FROM_THERE = (5, "Incorrect sender subnet id: ")
STEPS: list[tuple[str, Args, object]] = [
    ("update_settings", about(settings={"freezing_threshold": 5}), None),
    ("upload_chunk", about(chunk=COUNTER), None),
    ("stored_chunks", about(), None),
    ("install_chunked_code", chunked, None),
    ("clear_chunk_store", about(), None),
    ("canister_status", about(), None),
    ("canister_metrics", about(), None),
    ("canister_info", about(num_requested_changes=20), None),
    (
        "canister_metadata",
        about(name="nothing of this name"),
        (4, "has no metadata section with the name nothing of this name"),
    ),
    ("take_canister_snapshot", about(), None),
    ("list_canister_snapshots", about(), None),
    ("read_canister_snapshot_metadata", lambda s, t: {"canister_id": t, "snapshot_id": s.taken}, None),
    (
        "read_canister_snapshot_data",
        lambda s, t: {"canister_id": t, "snapshot_id": s.taken, "kind": {"wasm_module": {"offset": 0, "size": 4}}},
        None,
    ),
    ("upload_canister_snapshot_metadata", about(**UPLOADED), None),
    (
        "upload_canister_snapshot_data",
        lambda s, t: {"canister_id": t, "snapshot_id": s.uploaded, "kind": {"wasm_module": {"offset": 0}}, "chunk": b"x"},
        None,
    ),
    ("load_canister_snapshot", lambda s, t: {"canister_id": t, "snapshot_id": s.taken}, None),
    ("delete_canister_snapshot", lambda s, t: {"canister_id": t, "snapshot_id": s.taken}, None),
    ("fetch_canister_logs", about(), QUERIES_ONLY),
    ("list_canisters", lambda _s, _t: None, QUERIES_ONLY),
    ("node_metrics_history", lambda s, _: {"subnet_id": s.app, "start_at_timestamp_nanos": 0}, None),
    ("subnet_info", lambda s, _: {"subnet_id": s.app}, None),
    ("deposit_cycles", about(), None),
    ("provisional_top_up_canister", about(amount=5), None),
    ("install_code", about(mode={"reinstall": None}, wasm_module=COUNTER, arg=b""), None),
    ("uninstall_code", about(), None),
    ("stop_canister", about(), None),
    ("start_canister", about(), None),
    ("delete_canister", about(), (5, "must be stopped before it is deleted")),
    ("stop_canister", about(), None),
    ("delete_canister", about(), None),
    ("delete_canister", about(), (3, " not found")),
    ("provisional_create_canister_with_cycles", lambda _s, _t: {"amount": 5}, None),
    ("create_canister", lambda _s, _t: {}, NOT_FROM_THERE),
    ("raw_rand", lambda _s, _t: None, NOT_FROM_THERE),
]
"""In this order: method, argument, and the reject code and a part of its text, or None for a reply."""
OWN = {"provisional_create_canister_with_cycles", "create_canister", "raw_rand", "list_canisters"}
"""Addressed by `aaaaa-aa`, these are about the caller's own subnet."""
KEPT = {"deposit_cycles", "create_canister"}
"""They accept cycles."""


def test_every_method_has_a_step() -> None:
    """But those of other tests: chain keys, outcalls, Bitcoin."""
    others = {name for name, one in METHODS.items() if one.signing is not None} | {"http_request", *bitcoin.ARGUMENTS}
    assert {method for method, *_ in STEPS} == set(METHODS) - others


@pytest.mark.parametrize("by_id", [False, True], ids=["aaaaa-aa", "subnet id"])
def test_every_method_from_another_subnet(story: Story, by_id: bool) -> None:
    """Answered, or refused with the right code; cycles that aren't accepted come back."""
    target = story.target()
    created = 0
    for method, args, expected in STEPS:
        to = story.app if by_id else MANAGEMENT_CANISTER
        if not by_id and method in ("create_canister", "raw_rand"):
            expected = None  # the caller's own subnet answers
        answer, refund = story.ask("other", to, method, args(story, target), CYCLES)
        refused = answer if isinstance(answer, tuple) else None
        if expected is None:
            assert refused is None, (method, answer)
        else:
            assert isinstance(expected, tuple)
            assert refused is not None, (method, answer)
            assert refused[0] == expected[0], (method, answer)
            assert expected[1] in refused[1], (method, answer)
        assert refund == (0 if method in KEPT and expected is None else CYCLES), method
        if method == "take_canister_snapshot":
            story.taken = answer["id"]
        if method == "upload_canister_snapshot_metadata":
            story.uploaded = answer["snapshot_id"]
        if method == "provisional_create_canister_with_cycles":
            created += 1
            on = "app" if by_id else "other"
            assert answer["canister_id"] in story.world[on].replica.state.canisters
    assert created == 1


def test_only_the_root_subnet_creates_elsewhere(story: Story) -> None:
    """Canisters of the root subnet create canisters on any subnet, by its id; what they send goes to the new one."""
    answer, refund = story.ask("root", story.app, "create_canister", {}, 3 * CYCLES)
    made = story.world["app"].replica.state.canisters[answer["canister_id"]]
    assert (refund, made.settings.controllers) == (0, (story.callers["root"],))
    assert CYCLES < made.balance < 3 * CYCLES


def test_a_subnet_that_does_not_have_the_canister(story: Story) -> None:
    """Addressed by an id, a call stays with that subnet."""
    target = story.target()
    for subnet in ("other", "root"):
        (code, text), refund = story.ask(
            "other", story.world[subnet].record.subnet_id, "canister_status", {"canister_id": target}, 7
        )
        assert (code, refund) == (3, 7)
        assert text.startswith(f"Canister {target} not found")


@pytest.mark.parametrize("whom", [{}, {"canister_id": None}], ids=["nothing", "no chunk"])
@pytest.mark.parametrize("by_id", [False, True], ids=["aaaaa-aa", "subnet id"])
def test_bad_arguments(story: Story, whom: dict[str, Any], by_id: bool) -> None:
    """Through `aaaaa-aa` it must say whom it is about to go anywhere; all else the subnet looks at. All cycles come back."""
    value = dict.fromkeys(whom, story.callers["app"])
    arg = encode((record(dict.fromkeys(whom, principal)),), (value,))
    to = story.app if by_id else MANAGEMENT_CANISTER
    (code, text), refund = story.ask("other", to, "upload_chunk", arg, 9)
    assert refund == 9
    if whom or by_id:
        assert code == 4
        assert text.startswith("Error decoding candid: "), text
    else:
        assert code == 3
        assert text.startswith("Unable to route management canister request upload_chunk: "), text
