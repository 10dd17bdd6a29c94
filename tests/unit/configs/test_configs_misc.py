"""Profiles, schema, memory estimate, digest and logs."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest
import structlog

from configs.digest import digest
from configs.estimate import available_bytes, check_fits, estimate_memory
from configs.fees import CyclesCostSchedule
from configs.limits import SubnetLimits, SubnetType
from configs.loader import load_topology, topology_from_dict
from configs.log_setup import configure
from configs.profiles import ProfileType, load_profile
from configs.schema import topology_schema
from ic_types.errors import ConfigError

ROOT = Path(__file__).parents[3]
CONFIGS = ROOT / "configs"
TOPOLOGIES = sorted(p for p in CONFIGS.glob("*.toml") if p.stem not in ("mainnet", "minimal"))
COUNTER = str(ROOT / "examples" / "canisters" / "counter.wasm")
SYSTEM = {"name": "nns", "type": "system", "nodes": 1}


def test_mainnet_application_subnets_have_the_defaults() -> None:
    """Verified application subnets too."""
    profile = load_profile("mainnet")
    assert profile[SubnetType.APPLICATION] == profile[SubnetType.VERIFIED_APPLICATION] == ProfileType()


def test_mainnet_system_subnets_are_large_and_free() -> None:
    """The figures of the replica's configuration for system subnets."""
    system = load_profile("mainnet")[SubnetType.SYSTEM]
    assert system.limits.instructions_per_round == 7_000_000_000
    assert system.limits.instructions_per_message == 50_000_000_000
    assert system.limits.instructions_per_install == 1_000_000_000_000
    assert system.limits.heap_delta_initial_reserve == system.limits.subnet_heap_delta_capacity
    assert system.fees.execution(10**9) == system.fees.ingress(100) == system.fees.storage(1 << 40, 1) == 0
    assert system.fees.call(1000, 10**9, 1 << 21) == system.fees.http_request(10, 10) == 0
    assert system.fees.signature > 0


def test_minimal_departs_only_where_it_says_so() -> None:
    """Each changed line is marked, and each marked line changes something."""
    text = (CONFIGS / "minimal.toml").read_text()
    for line in text.splitlines():
        if re.match(r"\w+ = \d", line):
            assert "# [customized]" in line, line
    changes = tomllib.loads(text)
    mainnet, minimal = load_profile("mainnet"), load_profile("minimal")
    for kind in (SubnetType.APPLICATION, SubnetType.SYSTEM):
        for part in fields(SubnetLimits):
            differs = getattr(mainnet[kind].limits, part.name) != getattr(minimal[kind].limits, part.name)
            assert differs == (part.name in changes[kind.value]["limits"]), part.name
        assert mainnet[kind].fees == minimal[kind].fees


@pytest.mark.parametrize("name", ["mainnet", "minimal"])
@pytest.mark.parametrize("kind", list(SubnetType))
def test_profiles_hang_together(name: str, kind: SubnetType) -> None:
    """A round holds a slice, a message fits between checkpoints, a real module's compilation fits the install limit."""
    limits = load_profile(name)[kind].limits
    assert limits.instructions_per_round > max(limits.instructions_per_slice, limits.instructions_per_install_slice)
    slices = limits.instructions_per_message // limits.instructions_per_slice
    assert slices < limits.checkpoint_interval
    assert slices <= 400
    assert 200_000 * limits.compile_cost_per_operator < limits.instructions_per_install
    assert limits.instruction_overhead_per_execution * 100 < limits.instructions_per_round


def _jsonable(value: object) -> object:
    return json.loads(json.dumps(value, default=lambda v: v.isoformat()))


@pytest.mark.parametrize("path", TOPOLOGIES, ids=[p.stem for p in TOPOLOGIES])
def test_shipped_topologies_fit_the_schema(path: Path) -> None:
    """And they load."""
    schema = topology_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(_jsonable(tomllib.loads(path.read_text())), schema)
    load_topology(path)


WRONG_DATA = [
    {},
    {"subnet": []},
    {"subnet": [SYSTEM], "nam": "x"},
    {"subnet": [SYSTEM | {"nodes": 0}]},
    {"subnet": [SYSTEM | {"type": "other"}]},
    {"subnet": [SYSTEM | {"limits": {"unknown": 5}}]},
    {"subnet": [SYSTEM | {"name": "a b"}]},
    {"subnet": [SYSTEM], "profile": "tiny"},
    {"subnet": [SYSTEM], "seed": -1},
    {"subnet": [SYSTEM], "identities": []},
    {"subnet": [SYSTEM], "canister": [{"name": "c", "wasm": COUNTER}]},
    {"subnet": [SYSTEM], "canister": [{"name": "c", "wasm": COUNTER, "subnet": "nns", "init_hex": "0"}]},
    {"subnet": [SYSTEM], "workload": [{"canister": "c"}]},
]


@pytest.mark.parametrize("data", WRONG_DATA)
def test_schema_and_reader_refuse_the_same(data: dict[str, object]) -> None:
    """What the schema calls wrong, the reader refuses too."""
    assert list(jsonschema.Draft202012Validator(topology_schema()).iter_errors(data))
    with pytest.raises(ConfigError):
        topology_from_dict(data)


def test_memory_grows_with_nodes_and_canisters() -> None:
    """Nodes times state; the heap counts for the node and for the sandbox."""
    one = {"subnet": [SYSTEM], "canister": [{"name": "c", "wasm": COUNTER, "subnet": "nns", "count": 10}]}
    small = estimate_memory(topology_from_dict(one))
    large = estimate_memory(topology_from_dict(one, nodes=4))
    assert large.subnets[0].per_node == small.subnets[0].per_node
    assert large.total - large.shared == 4 * (small.total - small.shared)
    assert small.subnets[0].canisters == 10
    assert small.subnets[0].per_node > 10 * (6 << 20)


def test_what_cannot_fit_is_refused() -> None:
    """With the culprit and the remedy."""
    topology = load_topology(CONFIGS / "quickstart.toml")
    needed = estimate_memory(topology).total
    assert check_fits(topology, needed).total == needed
    with pytest.raises(ConfigError, match=r"needs about .* of memory, 64 MiB are available; the most by subnet app-2: 4 nodes"):
        check_fits(topology, 64 << 20)
    assert available_bytes() > 0


def test_the_digest_follows_what_is_resolved(tmp_path: Path) -> None:
    """Equal files in other places have equal digests; any change of a record or a module shows."""
    data = {"subnet": [SYSTEM], "canister": [{"name": "c", "wasm": "c.wasm", "subnet": "nns"}]}
    module = Path(COUNTER).read_bytes()
    digests = []
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.wasm").write_bytes(module + (b"\0\2\1x" if folder == "c" else b""))
        digests.append(digest(topology_from_dict(data, base=tmp_path / folder)))
    assert digests[0] == digests[1] != digests[2]
    others = [digest(topology_from_dict(data, base=tmp_path / "a", overrides=[o])) for o in ("seed=1", "canister.c.cycles=1")]
    others.append(digest(topology_from_dict(data, base=tmp_path / "a", overrides=["limits.queue_capacity=1"])))
    assert len({digests[0], *others}) == 4
    assert re.fullmatch("[0-9a-f]{64}", digests[0])


def test_the_digest_of_the_quickstart_includes_arguments() -> None:
    """Service files and Candid arguments enter it."""
    path = CONFIGS / "quickstart.toml"
    assert digest(load_topology(path)) == digest(load_topology(path))
    assert digest(load_topology(path)) != digest(load_topology(path, ["workload.swap.arg=({rand:999})"]))


def test_logs_are_json_lines(tmp_path: Path) -> None:
    """One object per line with the process's title; bytes are hexadecimal; below the level nothing."""
    path = tmp_path / "node.log"
    try:
        configure("icsim node app-1/2", path, "info")
        log = structlog.get_logger()
        log.debug("scheduler.round_started", height=1)
        log.info("scheduler.round_finished", height=1, state_hash=b"\xab\xcd")
    finally:
        structlog.reset_defaults()
    (line,) = path.read_text().splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "scheduler.round_finished",
        "height": 1,
        "level": "info",
        "process": "icsim node app-1/2",
        "state_hash": "abcd",
    }


def test_logs_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    """Wrong level, wrong place."""
    with pytest.raises(ConfigError, match="log level 'loud': allowed are debug, info, warning, error, critical"):
        configure("x", None, "loud")
    with pytest.raises(ConfigError, match="can't be written"):
        configure("x", tmp_path / "gone" / "x.log")


def test_fees_scale_with_the_subnet() -> None:
    """A third of the nodes, a third of the fee, rounded down."""
    assert CyclesCostSchedule(subnet_size=4).execution(0) == 5_000_000 * 4 // 13
