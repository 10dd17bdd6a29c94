"""Topologies that load: records, defaults, overrides, copies, groups."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from configs.argument import CallPlace, Names
from configs.limits import SubnetType
from configs.loader import load_topology, topology_from_dict
from configs.topology import DEFAULT_GENESIS_NS, key_seed
from configs.wasm_info import read_info
from ic_types.candid import types as t
from ic_types.candid.decoder import decode
from ic_types.errors import ConfigError, InvalidWasm
from ic_types.principal import ANONYMOUS, Principal

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
COUNTER = ROOT / "examples" / "canisters" / "counter.wasm"
NAMES = Names(lambda name: Principal(b"c" + name.encode()), lambda name: Principal(b"i" + name.encode()))
SYSTEM = {"name": "nns", "type": "system", "nodes": 1}


def test_the_quickstart_loads() -> None:
    """Three subnets of four nodes, the first is the root, and more than two thousand calls."""
    topology = load_topology(CONFIGS / "quickstart.toml")
    assert [(s.name, s.kind.value, s.nodes, s.is_root) for s in topology.subnets] == [
        ("nns", "system", 4, True),
        ("app-1", "application", 4, False),
        ("app-2", "application", 4, False),
    ]
    assert topology.profile == "minimal"
    assert topology.root.name == "nns"
    assert topology.subnet("app-1").limits.instructions_per_slice == 20_000_000
    assert topology.subnet("app-1").fees.subnet_size == 4
    assert sum(phase.calls for phase in topology.workload if phase.kind == "update") >= 2000
    assert topology.invariants[0].equal == ("supply", "sum")


def test_every_argument_of_the_quickstart_encodes() -> None:
    """All init arguments and all calls, each at its method's types."""
    topology = load_topology(CONFIGS / "quickstart.toml")
    for canister in topology.canisters:
        assert canister.did is not None
        decode(canister.init.encode(NAMES, CallPlace(number=canister.copy)), canister.did.init)
    for phase in topology.workload:
        for number in range(phase.calls):
            call = phase.call(number)
            place = CallPlace(phase=phase.name, number=number, round=call.round, caller=call.caller, target=call.canister)
            decode(phase.argument.encode(NAMES, place), phase.argument.types)


def test_defaults() -> None:
    """A system subnet of one node is a network."""
    topology = topology_from_dict({"subnet": [SYSTEM]})
    assert topology.name == "topology"
    assert topology.profile == "mainnet"
    assert (topology.seed, topology.identity_seed) == (0, 0)
    assert topology.genesis_time_ns == DEFAULT_GENESIS_NS == 1_735_689_600 * 10**9
    assert topology.block_interval_ns == 10**9
    assert topology.identities == ("user",)
    assert topology.canisters == topology.workload == topology.invariants == ()


def test_the_root_may_be_named() -> None:
    """Otherwise the first system subnet is the root."""
    two = [SYSTEM, {"name": "other", "type": "system", "nodes": 1, "root": True}]
    assert topology_from_dict({"subnet": two}).root.name == "other"
    assert topology_from_dict({"subnet": [SYSTEM]}).root.name == "nns"


def test_limits_come_in_layers() -> None:
    """Profile, then the topology's, then the subnet's own keys."""
    topology = topology_from_dict(
        {
            "profile": "minimal",
            "limits": {"queue_capacity": 7, "checkpoint_interval": 11},
            "fees": {"xnet_call": 1},
            "subnet": [
                SYSTEM,
                {
                    "name": "app",
                    "type": "verified_application",
                    "nodes": 3,
                    "cores": 2,
                    "checkpoint_interval": 13,
                    "fee_nodes": 34,
                }
                | {"limits": {"queue_capacity": 9}, "fees": {"xnet_byte": 2}},
            ],
        }
    )
    nns, app = topology.subnets
    assert (nns.limits.queue_capacity, nns.limits.checkpoint_interval, nns.limits.scheduler_cores) == (7, 11, 4)
    assert (app.limits.queue_capacity, app.limits.checkpoint_interval, app.limits.scheduler_cores) == (9, 13, 2)
    assert (nns.fees.xnet_call, nns.fees.xnet_byte, nns.fees.subnet_size) == (1, 0, 1)
    assert (app.fees.xnet_call, app.fees.xnet_byte, app.fees.subnet_size) == (1, 2, 34)
    assert app.kind is SubnetType.VERIFIED_APPLICATION


def test_overrides_reach_every_level() -> None:
    """Dotted keys, tables of lists by name, values as TOML or plain text."""
    topology = load_topology(
        CONFIGS / "quickstart.toml",
        [
            "subnet.app-1.nodes=7",
            "limits.instructions_per_slice=10_000_000",
            "subnet.nns.limits.queue_capacity=3",
            "workload.swap.rounds=2",
            "canister.gold.cycles=5T",
            "name=other",
            'profile="mainnet"',
            "genesis_time=2026-02-03T04:05:06Z",
        ],
        seed=9,
    )
    assert topology.name == "other"
    assert topology.seed == 9
    assert topology.subnet("app-1").nodes == 7
    assert {s.limits.instructions_per_slice for s in topology.subnets} == {10_000_000}
    assert topology.subnet("nns").limits.queue_capacity == 3
    assert next(p for p in topology.workload if p.name == "swap").rounds == 2
    assert topology.canister("gold").cycles == 5 * 10**12
    assert topology.genesis_time_ns == 1_770_091_506 * 10**9


def test_nodes_hold_for_every_subnet() -> None:
    """As `--nodes` gives them."""
    assert [s.nodes for s in load_topology(CONFIGS / "quickstart.toml", nodes=1).subnets] == [1, 1, 1]


def test_identities_may_be_numbered() -> None:
    """Names of their own come first; the prefix means all numbered ones."""
    data = {
        "identities": {"names": ["boss"], "count": 3, "prefix": "worker"},
        "subnet": [SYSTEM],
        "canister": [{"name": "c", "wasm": COUNTER, "subnet": "nns"}],
        "workload": [
            {"caller": ["boss", "worker"], "canister": "c", "method": "inc"},
            {"caller": "each", "canister": "c", "method": "inc"},
            {"canister": "c", "method": "inc"},
            {"caller": "anonymous", "canister": "c", "method": "inc"},
        ],
    }
    topology = topology_from_dict(data)
    assert topology.identities == ("boss", "worker-0", "worker-1", "worker-2")
    everyone = topology.identities
    assert [phase.callers for phase in topology.workload] == [everyone, everyone, ("boss",), ("anonymous",)]
    assert [phase.name for phase in topology.workload] == ["phase-0", "phase-1", "phase-2", "phase-3"]
    assert topology.canister("c").controllers == ("boss",)


def test_copies_are_canisters_of_their_own(tmp_path: Path) -> None:
    """Each with its number in the init argument; the name without number means all."""
    (tmp_path / "c.wasm").write_bytes(COUNTER.read_bytes())
    (tmp_path / "c.did").write_text("service : (nat8) -> { inc : (nat) -> () }")
    data = {
        "subnet": [SYSTEM],
        "canister": [
            {"name": "c", "wasm": "c.wasm", "subnet": "nns", "count": 3, "init": "({i})", "cycles": 7}
            | {"controllers": ["user", "c-0", "aaaaa-aa"], "settings": {"compute_allocation": 1, "log_visibility": "public"}},
        ],
        "workload": [{"canister": "c", "method": "inc", "arg": "({i})", "calls_per_round": 2, "rounds": 3}],
    }
    topology = topology_from_dict(data, base=tmp_path)
    assert [(c.name, c.copy, c.group, c.cycles) for c in topology.canisters] == [
        ("c-0", 0, "c", 7),
        ("c-1", 1, "c", 7),
        ("c-2", 2, "c", 7),
    ]
    assert [decode(c.init.encode(NAMES, CallPlace(number=c.copy)), [t.nat8]) for c in topology.canisters] == [[0], [1], [2]]
    assert topology.canisters[0].controllers == ("user", "c-0", Principal(b""))
    assert topology.canisters[0].settings.compute_allocation == 1
    assert topology.canisters[0].settings.log_visibility == "public"
    (phase,) = topology.workload
    assert [phase.call(n).canister for n in range(6)] == ["c-0", "c-1", "c-2", "c-0", "c-1", "c-2"]
    assert [phase.call(n).round for n in range(6)] == [0, 0, 1, 1, 2, 2]


def test_every_caller_comes_to_every_canister() -> None:
    """Also where the numbers of callers and canisters have a common divisor."""
    data = {
        "identities": ["a", "b", "c", "d"],
        "subnet": [SYSTEM],
        "canister": [{"name": "k", "wasm": COUNTER, "subnet": "nns", "count": 6}],
        "workload": [{"caller": "each", "canister": "k", "method": "inc", "calls_per_round": 24}],
    }
    (phase,) = topology_from_dict(data).workload
    assert len({(phase.call(n).caller, phase.call(n).canister) for n in range(24)}) == 24


def test_a_gzipped_module_is_read(tmp_path: Path) -> None:
    """Its hash is that of the file as it is."""
    raw = gzip.compress(COUNTER.read_bytes())
    (tmp_path / "c.wasm.gz").write_bytes(raw)
    data = {"subnet": [SYSTEM], "canister": [{"name": "c", "wasm": "c.wasm.gz", "subnet": "nns"}]}
    info = topology_from_dict(data, base=tmp_path).canister("c").info
    assert info.methods == {"inc": "update", "read": "query"}
    assert info.sha256 == read_info(raw).sha256 != read_info(COUNTER.read_bytes()).sha256
    assert info.heap_bytes == 4 * 65536


def test_an_embedded_service_file_types_the_arguments(tmp_path: Path) -> None:
    """When there is none beside the module."""
    module = (ROOT / "examples" / "canisters" / "ledger.wasm").read_bytes()
    (tmp_path / "other.wasm").write_bytes(module)
    data = {
        "subnet": [SYSTEM],
        "canister": [{"name": "l", "wasm": "other.wasm", "subnet": "nns"}],
    }
    data["canister"][0]["init"] = '(record { symbol = "A"; minter = {identity:user} })'
    canister = topology_from_dict(data, base=tmp_path).canister("l")
    assert canister.did is not None
    assert canister.argument("transfer", "()").types == (t.principal, t.nat)


WRONG_MODULES = [
    (b"", "it starts with b''"),
    (b"\x7fELF", "it starts with b'\\x7fELF'"),
    (b"\0asm\1\0\0\0\1\x05ab", "section 1 at byte 10 is cut off"),
    (b"\0asm\1\0\0\0\1\x80", "a section is cut off or malformed"),
    (b"\0asm\1\0\0\0\7\x02\x05\x01", "a section is cut off or malformed"),
    (b"\x1f\x8bxx", "its gzip data are broken"),
]


@pytest.mark.parametrize(("raw", "message"), WRONG_MODULES)
def test_what_is_no_module_is_refused(raw: bytes, message: str) -> None:
    """The outline tells what is wrong."""
    with pytest.raises(InvalidWasm) as caught:
        read_info(raw)
    assert message in str(caught.value)


def test_keys_derive_from_the_identity_seed_alone() -> None:
    """One purpose, one key; another seed, another key."""
    assert key_seed(1, "identity alice") == key_seed(1, "identity alice")
    assert len({key_seed(1, "a"), key_seed(1, "b"), key_seed(2, "a")}) == 3


def test_subnet_admins_make_a_subnet_free() -> None:
    """Identities or principals; anything else is named; no fee is charged where there are admins."""
    rented = {"name": "rented", "type": "application", "nodes": 3, "admins": ["user", "2vxsx-fae"]}
    rented_subnet = topology_from_dict({"subnet": [SYSTEM, rented]}).subnet("rented")
    assert rented_subnet.admins == ("user", ANONYMOUS)
    assert (rented_subnet.fees.execution(10**9), rented_subnet.fees.canister_creation, rented_subnet.fees.subnet_size) == (
        0,
        0,
        3,
    )
    with pytest.raises(ConfigError, match="'nobody' is neither an identity nor a principal; identities are user"):
        topology_from_dict({"subnet": [SYSTEM, {**rented, "admins": ["nobody"]}]})
