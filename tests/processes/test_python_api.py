"""The Python API on real networks: the documentation's examples, and what they don't show."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import icsim
from subnet.lab.universal import Program, caller

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PAGES = "\n".join((ROOT / page).read_text() for page in ("README.md", "docs/python_api.md"))
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGES, re.DOTALL)
TWO_SUBNETS: dict[str, Any] = {
    "profile": "minimal",
    "identities": ["alice", "bob"],
    "subnet": [
        {"name": "nns", "type": "system", "nodes": 1},
        {"name": "app", "type": "application", "nodes": 1},
    ],
    "canister": [
        {"name": "here", "wasm": "universal", "subnet": "nns"},
        {"name": "there", "wasm": "universal", "subnet": "app"},
    ],
}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_examples_of_the_documentation_run(
    number: int, monkeypatch: pytest.MonkeyPatch, icsim_network: Callable[..., icsim.Network]
) -> None:
    """Every Python block of README.md and docs/python_api.md does what it says."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[number], f"documentation, example {number + 1}", "exec"), names)
    for name, function in names.items():
        if name.startswith("test_"):
            function(icsim_network)


def test_calls_across_subnets_and_what_can_be_looked_at(icsim_network: Callable[..., icsim.Network]) -> None:
    """A canister on one subnet calls one on another; subnets, hashes, processes, info and audit tell of it."""
    net = icsim_network(TWO_SUBNETS)
    here, there = net.canisters["here"], net.canisters["there"]
    program = Program().call(bytes(there.id), "update", Program().reply(caller()), on_reply=Program().reply(b"done"))
    assert here.call_raw("update", bytes(program), as_="bob") == b"done"
    assert list(net.subnets) == ["nns", "app"]
    assert there.subnet == "app"
    assert net.subnets["app"].height == net.height
    assert net.state_hashes()["app"] == net.subnets["app"].state_hash
    assert there.info()["messages"] == 1
    assert any(title.startswith("sandbox app/1") for title in net.processes())
    audit = net.cycles_audit()
    assert audit.holds
    assert audit.minted == 2 * 10**14
    assert net.summary()["xnet"]["requests"] == 1
    with pytest.raises(KeyError, match="canisters: here, there"):
        net.canisters["nowhere"]
    with pytest.raises(icsim.BadInput, match="there is no identity 'eve'"):
        here.call_raw("update", as_="eve")
    with pytest.raises(icsim.BadInput, match="has nns/1 to nns/1"):
        net.kill_node("nns/2")


def test_cycles_are_conserved_while_they_travel(icsim_network: Callable[..., icsim.Network]) -> None:
    """Cut off at any height, what is sent and not received is found in streams, message by message."""
    net = icsim_network(TWO_SUBNETS)
    here, there = net.canisters["here"], net.canisters["there"]
    program = Program().call(bytes(there.id), "update", Program().reply(b""), on_reply=Program().reply(b"x"), cycles=5 * 10**12)
    travelling = []
    pending = here.submit_raw("update", bytes(program))
    while pending.status() in ("received", "processing"):
        net.tick()
        audit = net.cycles_audit()
        assert audit.holds
        travelling.append(audit.travelling)
    assert max(travelling) == 5 * 10**12
    assert travelling[-1] == 0
    assert pending.raw_result() == b"x"


def test_rejections_say_what_and_why(icsim_network: Callable[..., icsim.Network]) -> None:
    """Code, error code and message of a call and of a query; a call that is never answered is given up."""
    net = icsim_network(TWO_SUBNETS)
    here = net.canisters["here"]
    with pytest.raises(icsim.CallRejected, match="no update method 'absent'") as found:
        here.call_raw("absent")
    assert (found.value.code, found.value.error_code) == (5, "IC0536")
    with pytest.raises(icsim.CallRejected) as trapped:
        here.query_raw("query", bytes(Program().trap("no!")))
    assert trapped.value.code == 5
    slow = bytes(Program().call(bytes(net.canisters["there"].id), "update", Program().reply(b"late")))
    with pytest.raises(icsim.NetworkError, match="is not answered after 1 round"):
        here.call_raw("update", slow, max_rounds=1)
    pending = here.submit_raw("update", slow)
    with pytest.raises(icsim.NetworkError, match="is not answered yet"):
        pending.raw_result()


def test_logs_tell_what_was_printed_and_what_trapped(icsim_network: Callable[..., icsim.Network]) -> None:
    """Each line with its index and network time."""
    net = icsim_network(TWO_SUBNETS)
    here = net.canisters["here"]
    here.call_raw("update", bytes(Program().print("hello").reply(b"")))
    with pytest.raises(icsim.CallRejected):
        here.call_raw("update", bytes(Program().trap("oh no")))
    first, second = net.logs("here")
    assert (first.index, first.text) == (0, "hello")
    assert "oh no" in second.text
    assert second.time_ns == net.time


def test_the_same_script_gives_the_same_hashes(tmp_path: Path) -> None:
    """Counted nonces: what a script sends depends on nothing but the script; its run directory replays."""

    def script(**options: Any) -> dict[str, str]:
        with icsim.network(TWO_SUBNETS, **options) as net:
            for _ in range(3):
                net.canisters["here"].call_raw("update", bytes(Program().reply(b"a")))
            fresh = net.create_canister("app")
            fresh.install("counter")
            fresh.call_raw("inc", (4).to_bytes(8, "little"))
            return net.state_hashes()

    first = script(out=tmp_path / "out")
    assert script() == first
    assert script(seed=8) != first
    assert (tmp_path / "out" / "journal.sqlite").is_file()


def test_asynchronous_calls_go_on_side_by_side() -> None:
    """Two coroutines wait for rounds at once; errors reach the one that they belong to."""

    async def main() -> None:
        async with icsim.network(TWO_SUBNETS) as net:
            here = net.canisters["here"]
            good = here.call_raw("update", bytes(Program().reply(b"good")))
            bad = here.call_raw("absent")
            answers = await asyncio.gather(good, bad, return_exceptions=True)
            assert answers[0] == b"good"
            assert isinstance(answers[1], icsim.CallRejected)
            assert await net.tick(2) == net.height
            assert (await net.cycles_audit()).holds
            created = await net.create_canister("app")
            await created.install("counter")
            assert (await created.info())["status"] == "running"

    asyncio.run(main())


def test_bad_topologies_raise_before_anything_starts(tmp_path: Path) -> None:
    """Errors name the key; a directory in use is refused."""
    with pytest.raises(icsim.ConfigError, match="there is no root"):
        icsim.network({"subnet": [{"name": "a", "type": "application", "nodes": 1}]})
    with pytest.raises(icsim.ConfigError, match="no such file"):
        icsim.network(tmp_path / "missing.toml")
    (tmp_path / "file").write_text("")
    with pytest.raises(icsim.BadInput, match="not empty"):
        icsim.network(out=tmp_path).start()


def test_invariants_checked_after_every_round(icsim_network: Callable[..., icsim.Network]) -> None:
    """Sound rounds pass; forged cycles end the network with a report, in the round in which they appear."""
    net = icsim_network(TWO_SUBNETS, check_invariants=True, faults=["forge:app,there,55@12"])
    net.tick(11 - net.height)
    with pytest.raises(icsim.NetworkError, match=r"an invariant is broken at height 12: subnet app: minted .* \+55 cycles"):
        net.tick()
    broken = [one.name for one in net.invariants() if not one.holds]
    assert "every invariant after every round" in broken
