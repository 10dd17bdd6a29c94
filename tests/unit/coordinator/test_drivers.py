"""Installing a topology's canisters and driving its workload."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.loader import topology_from_dict
from configs.topology import Topology
from ic_types import wire
from ic_types.candid.decoder import decode
from ic_types.candid.text import encode_text
from ic_types.errors import BadInput, ConfigError
from ic_types.messages import Ingress
from ic_types.principal import Principal
from subnet.authentication.requests import open_call
from subnet.coordinator.bootstrap import Bootstrap
from subnet.coordinator.driver import DriverCall
from subnet.coordinator.driving import Driving
from subnet.coordinator.faults import resolve_faults
from subnet.coordinator.network_plan import NetworkPlan
from subnet.coordinator.plan_reader import decode_phases, encode_phases, read_plan
from subnet.coordinator.workload import Workload
from subnet.identities import identity_named
from subnet.management.candid_types import INSTALL_CODE, PROVISIONAL_CREATE, UPDATE_SETTINGS
from subnet.protocol import IngressOutcome

ROOT = Path(__file__).resolve().parents[3]
FIRST, SECOND = Principal.canister(0), Principal.canister(1 << 20)


def topology(**more: Any) -> Topology:
    """Two subnets, a ledger on the first, two counters on the second."""
    data: dict[str, Any] = {
        "name": "drivers",
        "profile": "minimal",
        "seed": 3,
        "identity_seed": 4,
        "identities": {"names": ["alice", "bob"]},
        "subnet": [{"name": "nns", "type": "system", "nodes": 1}, {"name": "app", "type": "application", "nodes": 1}],
        "canister": [
            {
                "name": "ledger",
                "wasm": "ledger",
                "subnet": "nns",
                "init": '(record { symbol = "GOLD"; minter = {identity:bob} })',
                "controllers": ["bob", "count-1"],
                "cycles": "7T",
                "settings": {"freezing_threshold": 9, "log_visibility": "public"},
            },
            {"name": "count", "wasm": "counter", "subnet": "app", "count": 2, "controllers": ["ledger"]},
        ],
    }
    return topology_from_dict(data | more, base=ROOT)


def plan(**more: Any) -> NetworkPlan:
    """Its plan, as the coordinator gets it."""
    found: NetworkPlan = wire.decode(wire.encode(read_plan(topology(**more))), NetworkPlan)
    return found


def opened(calls: list[DriverCall]) -> list[Ingress]:
    """The calls, verified."""
    return [open_call(call.envelope, call.effective) for call in calls]


def replied(message: Ingress) -> IngressOutcome:
    """An outcome."""
    return IngressOutcome(message_id=message.message_id, status="replied")


def test_ids_are_known_before_anything_runs() -> None:
    """The k-th canister of a subnet has the k-th id of its range."""
    assert [(one.name, one.canister_id) for one in plan().canisters] == [
        ("ledger", FIRST),
        ("count-0", SECOND),
        ("count-1", Principal.canister((1 << 20) + 1)),
    ]


def test_canisters_are_created_as_the_topology_says() -> None:
    """Amount, settings, controllers, and the id asked for; signed by the first identity that controls."""
    made = Bootstrap(plan())
    calls, queries = made.calls(1)
    assert not queries
    messages = opened(calls)
    assert [one.method for one in messages] == ["provisional_create_canister_with_cycles"] * 3
    assert [one.effective_canister_id for one in messages] == [one.canister_id for one in plan().canisters]
    assert messages[0].sender == identity_named(4, "bob").principal
    (argument,) = decode(messages[0].arg, [PROVISIONAL_CREATE])
    assert (argument["amount"], argument["specified_id"]) == (7 * 10**12, FIRST)
    assert argument["settings"]["controllers"] == [messages[0].sender, Principal.canister((1 << 20) + 1)]
    assert argument["settings"]["freezing_threshold"] == 9
    assert argument["settings"]["log_visibility"] == {"public": None}


def test_installs_follow_creation_and_controllers_come_last() -> None:
    """Who installs but is to control nothing afterwards gives the control away."""
    made = Bootstrap(plan())
    assert made.will_send
    seen = []
    for height in range(1, 5):
        calls, _ = made.calls(height)
        assert not made.will_send
        for call, message in zip(calls, opened(calls), strict=True):
            seen.append((height, message.method, message.effective_canister_id))
            made.answered(call.token, replied(message), height)
            if message.method == "install_code":
                (argument,) = decode(message.arg, [INSTALL_CODE])
                assert argument["wasm_module"][:4] in (b"\0asm", b"\x1f\x8b\x08\0")
            if message.method == "update_settings":
                (argument,) = decode(message.arg, [UPDATE_SETTINGS])
                assert argument["settings"]["controllers"] == [FIRST]
    methods = ["provisional_create_canister_with_cycles"] * 3 + ["install_code"] * 3 + ["update_settings"] * 2
    assert [method for _, method, _ in seen] == methods
    assert [height for height, _, _ in seen] == [1, 1, 1, 2, 2, 2, 3, 3]
    assert made.finished


def test_a_failed_install_is_a_problem_with_a_name() -> None:
    """Name, step and reject are told."""
    made = Bootstrap(plan())
    calls, _ = made.calls(1)
    outcome = IngressOutcome(message_id=b"", status="rejected", reject_message="no room", error_code="IC0101")
    made.answered(calls[1].token, outcome, 1)
    assert made.problem == "canister count-0 can't be created: no room (IC0101)"


def test_envelopes_repeat_and_never_collide() -> None:
    """The same plan and height give the same bytes; no two calls have the same request id."""
    one, two = Bootstrap(plan()), Bootstrap(plan())
    assert [c.envelope for c in one.calls(1)[0]] == [c.envelope for c in two.calls(1)[0]]
    phases = [{"canister": "count", "method": "inc", "calls_per_round": 50, "rounds": 2}]
    work = workload(phases)
    ids = [message.message_id for height in (1, 2) for message in opened(work.calls(height)[0])]
    assert len(set(ids)) == 100


def workload(phases: list[dict[str, Any]]) -> Workload:
    """A workload as the coordinator gets it."""
    made = topology(workload=phases)
    return Workload(read_plan(made), decode_phases(encode_phases(made.workload)))


def test_phases_call_in_turns_with_their_arguments() -> None:
    """Callers and canisters take turns; placeholders are filled in."""
    work = workload(
        [
            {
                "name": "mint",
                "caller": ["alice", "bob"],
                "canister": "ledger",
                "method": "mint",
                "arg": "({caller}, {i})",
                "calls_per_round": 3,
                "rounds": 2,
                "start_round": 1,
            }
        ]
    )
    assert work.calls(5) == ([], [])
    assert work.will_send
    messages = opened(work.calls(6)[0])
    alice, bob = (identity_named(4, name).principal for name in ("alice", "bob"))
    assert [one.sender for one in messages] == [alice, bob, alice]
    assert messages[1].arg == encode_text(f'(principal "{bob}", 1 : nat)')
    assert len(work.calls(7)[0]) == 3
    assert work.calls(8) == ([], [])
    assert not work.will_send
    assert not work.finished


def test_calls_signed_ahead_are_the_same_calls() -> None:
    """Preparing changes nothing but when the work is done."""
    phases = [{"canister": "count", "method": "inc", "calls_per_round": 2, "rounds": 3}]
    plain, ahead = workload(phases), workload(phases)
    for height in (4, 5, 6):
        assert [c.envelope for c in plain.calls(height)[0]] == [c.envelope for c in ahead.calls(height)[0]]
        ahead.prepare(height + 1)
    assert not ahead._ahead


def test_a_phase_waits_for_the_answers_of_another() -> None:
    """It starts with the batch after the round that answered the last call."""
    work = workload(
        [
            {"name": "one", "canister": "count", "method": "inc"},
            {"name": "two", "canister": "count", "method": "inc", "after": "one"},
        ]
    )
    (call,), _ = work.calls(1)
    assert work.calls(2) == ([], [])
    work.answered(call.token, IngressOutcome(message_id=b"", status="replied"), 2)
    assert work.will_send
    (second,), _ = work.calls(3)
    work.answered(second.token, IngressOutcome(message_id=b"", status="replied"), 3)
    assert work.finished


@pytest.mark.parametrize(
    ("expect", "status", "unexpected"),
    [
        ("reply", "replied", 0),
        ("reply", "rejected", 1),
        ("reject", "replied", 1),
        ("reject", "rejected", 0),
        ("any", "rejected", 0),
    ],
)
def test_answers_are_held_against_what_is_expected(expect: str, status: str, unexpected: int) -> None:
    """The first that differs is told."""
    work = workload([{"name": "p", "canister": "count", "method": "inc", "expect": expect}])
    (call,), _ = work.calls(1)
    work.answered(
        call.token,
        IngressOutcome(
            message_id=b"", status=status, reject_message="why", error_code="IC0503" if status == "rejected" else ""
        ),
        1,
    )
    progress = work.progress["p"]
    assert (progress.unexpected, progress.done) == (unexpected, True)
    assert progress.first_unexpected == ("" if not unexpected else "replied" if status == "replied" else "why IC0503")


def test_queries_are_no_messages() -> None:
    """A query phase asks the nodes; nothing of it enters a batch."""
    work = workload([{"canister": "count", "method": "read", "kind": "query", "calls_per_round": 2}])
    calls, queries = work.calls(1)
    assert not calls
    assert [(one.receiver, one.method) for one in queries] == [(SECOND, "read"), (Principal.canister((1 << 20) + 1), "read")]


def test_installs_come_before_the_workload() -> None:
    """The first height of the workload is the one after the last install was answered."""
    made = topology(workload=[{"canister": "count", "method": "inc"}])
    driving = Driving(Bootstrap(read_plan(made)), Workload(read_plan(made), made.workload))
    sent: list[str] = []

    def submit(call: DriverCall) -> bytes:
        message = open_call(call.envelope, call.effective)
        sent.append(message.method)
        waiting.append(message)
        return message.message_id

    for height in range(1, 6):
        waiting: list[Ingress] = []
        driving.send(height, 0, submit, lambda *_: None)
        for message in waiting:
            driving.answered(replied(message), height)
    assert sent[-1] == "inc"
    assert driving.workload.start_height == 4
    assert driving.finished
    assert not driving.will_send


def test_phases_with_recursive_and_primitive_types_survive_the_way() -> None:
    """Primitive types stay the objects that they are compared with."""
    made = topology(workload=[{"canister": "ledger", "method": "mint", "arg": "({identity:alice}, 5)"}])
    (phase,) = decode_phases(encode_phases(made.workload))
    assert phase == made.workload[0]
    assert phase.argument.types == made.workload[0].argument.types


@pytest.mark.parametrize(
    "raw", [b"x", b"cos\nsystem\n(S'true'\ntR.", b"\x80\x05c" + b"subnet.coordinator.workload\nWorkload\n."]
)
def test_a_recorded_workload_brings_no_code(raw: bytes) -> None:
    """Only records of ours are made from it."""
    with pytest.raises(BadInput, match="the recorded workload is malformed"):
        decode_phases(raw)


def test_faults_name_canisters_by_name_or_id() -> None:
    """They are passed on with ids."""
    found = resolve_faults(["flip:nns/1,ledger,0,17@40", f"flip:app/1,{SECOND},3,4095@1"], plan())
    assert found == (f"flip:nns/1,{FIRST},0,17@40", f"flip:app/1,{SECOND},3,4095@1")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("flip", "has not the form flip:NODE,CANISTER,PAGE,BYTE@HEIGHT, e.g. "),
        ("flip:x/1,ledger,0,1@4", "'x/1' is no node; write SUBNET/NUMBER, where the subnets are nns, app"),
        ("flip:nns/2,ledger,0,1@4", "subnet nns has nodes nns/1 to nns/1, no 'nns/2'"),
        ("flip:nns/1,count-0,0,1@4", "canister count-0 is on subnet app, not on the node's subnet"),
        ("flip:nns/1,silver,0,1@4", "'silver' is neither a canister's name nor an id; canisters of the node's subnet: ledger"),
        ("flip:nns/1,ledger,0,4096@4", "byte 4096 is outside a page; allowed are 0 to 4095"),
        ("crash:nns/2,load.paid@4", "subnet nns has nodes nns/1 to nns/1, no 'nns/2'"),
        ("crash:nns/1,load@4", "'load' is no step; steps: install. with paid, compiled, start, init, slice, settled, "),
        ("crash:nns/1,load.paid@0", "height 0 is before the first round; allowed are 1 and more"),
        ("flip:nns/1,ledger,0,1@0", "height 0 is before the first round; allowed are 1 and more"),
    ],
)
def test_bad_faults_are_refused_with_what_is_allowed(fault: str, said: str) -> None:
    """Each names the fault and the remedy."""
    with pytest.raises(ConfigError) as error:
        resolve_faults([fault], plan())
    assert str(error.value).startswith(f"fault {fault!r}")
    assert said in str(error.value)
