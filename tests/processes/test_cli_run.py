"""`icsim run` and `icsim replay` as processes: outcome, files, exit codes, determinism, recovery."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path

import pytest

from tests.support.cli_runs import COUNTER, heights, icsim, started, wait_until, wait_until_nothing_is_left, write

pytestmark = pytest.mark.slow
SUMMARY_KEYS = {
    "schema", "version", "profile", "topology_digest", "outcome", "seed", "rounds", "virtual_time_ns", "wall_seconds",
    "messages_executed", "messages_per_second", "ingress", "xnet", "subnets", "canisters", "latency_rounds", "invariants",
}  # fmt: skip
TWO_SUBNETS = """
name = "pair"
profile = "minimal"

[[subnet]]
name = "nns"
type = "system"
nodes = 2

[[subnet]]
name = "app"
type = "application"
nodes = 2

[[canister]]
name = "counter"
wasm = "counter.wasm"
subnet = "app"
count = 2

[[workload]]
canister = "counter"
method = "inc"
arg_hex = "0100000000000000"
calls_per_round = 4
rounds = 5
"""


def test_a_run_prints_tables_and_leaves_a_run_directory(tmp_path: Path) -> None:
    """Exit code 0, every table, and all files of a run directory."""
    done = icsim(tmp_path, "run", write(tmp_path, COUNTER), "--out", "out")
    assert done.returncode == 0, done.stderr
    for word in ("subnets", "canisters", "calls", "invariants", "state hash", "1 of 1 nodes", "counter", "run directory: out"):
        assert word in done.stdout
    assert "BROKEN" not in done.stdout
    out = tmp_path / "out"
    summary = json.loads((out / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["outcome"] == "ok"
    assert all(one["holds"] for one in summary["invariants"])
    assert summary["ingress"] == {"submitted": 20, "replied": 20, "rejected": 0, "pending": 0}
    rows = heights(out)
    assert [row["height"] for row in rows] == list(range(1, summary["rounds"] + 1))
    assert rows[-1]["state_hash"] == summary["subnets"][0]["state_hash"]
    assert {path.name for path in out.iterdir()} >= {"journal.sqlite", "events.sqlite", "logs", "run.json"}
    assert not (out / "owner").exists()
    wait_until_nothing_is_left(tmp_path)


def test_json_is_alone_on_standard_output(tmp_path: Path) -> None:
    """--json prints the summary and nothing else; --quiet prints one line."""
    topology = write(tmp_path, COUNTER)
    done = icsim(tmp_path, "run", topology, "--json", "--rounds", "5")
    summary = json.loads(done.stdout)
    assert done.stderr == ""
    assert (done.returncode, summary["rounds"], summary["outcome"]) == (0, 5, "ok")
    assert summary["ingress"]["pending"] == 0 or summary["ingress"]["submitted"] < 20
    quiet = icsim(tmp_path, "run", topology, "--quiet")
    assert (quiet.returncode, quiet.stderr, len(quiet.stdout.splitlines())) == (0, "", 1)


def test_an_answer_that_the_workload_does_not_expect_is_exit_code_1(tmp_path: Path) -> None:
    """A broken invariant is named, and the run counts as failed."""
    text = COUNTER.replace('method = "inc"', 'method = "inc"\nexpect = "reject"')
    done = icsim(tmp_path, "run", write(tmp_path, text), "--out", "out")
    assert done.returncode == 1
    assert "BROKEN" in done.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["outcome"] == "failed"


def test_ways_of_running_change_no_hash_and_replay_agrees(tmp_path: Path) -> None:
    """Fresh interpreters, one job, batches of one, no reuse: the same hashes; another seed differs; replay agrees."""
    topology = write(tmp_path, TWO_SUBNETS)
    assert icsim(tmp_path, "run", topology, "--out", "plain", "--quiet").returncode == 0
    odd = ("--fresh-interpreters", "--jobs", "1", "--batch-size", "1", "--no-reuse", "--max-sandboxes", "1")
    assert icsim(tmp_path, "run", topology, "--out", "odd", "--quiet", *odd).returncode == 0
    assert heights(tmp_path / "plain") == heights(tmp_path / "odd")
    assert icsim(tmp_path, "run", topology, "--out", "other", "--quiet", "--seed", "9").returncode == 0
    first = [[row["state_hash"] for row in heights(tmp_path / name)] for name in ("plain", "other")]
    assert first[0] != first[1]
    replay = icsim(tmp_path, "replay", "plain", "--batch-size", "2", "--out", "again")
    assert replay.returncode == 0, replay.stderr
    assert "replay agrees" in replay.stdout
    assert heights(tmp_path / "again") == heights(tmp_path / "plain")


def test_a_replay_that_differs_is_exit_code_3(tmp_path: Path) -> None:
    """A state hash in the journal is changed: the replay names subnet and height."""
    assert icsim(tmp_path, "run", write(tmp_path, COUNTER), "--out", "out", "--quiet").returncode == 0
    with sqlite3.connect(tmp_path / "out" / "journal.sqlite") as db:
        db.execute("UPDATE heights SET state_hash = zeroblob(32) WHERE height = 4")
    db.close()
    done = icsim(tmp_path, "replay", "out")
    assert done.returncode == 3
    assert "subnet nns at height 4" in done.stderr
    assert "Traceback" not in done.stderr
    wait_until_nothing_is_left(tmp_path)


def test_a_flipped_byte_is_exit_code_3_and_named(tmp_path: Path) -> None:
    """One node's memory is damaged: the report names subnet, canister and the minority node."""
    text = COUNTER.replace("nodes = 1", "nodes = 4")
    fault = "flip:nns/2,counter,0,0@5"
    done = icsim(tmp_path, "run", write(tmp_path, text), "--out", "out", "--fault", fault, "--rounds", "120")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "divergence on subnet nns" in done.stderr
    assert "minority: node 2" in done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["outcome"] == "divergence"
    wait_until_nothing_is_left(tmp_path)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_ended_run_leaves_nothing_and_resumes_with_equal_hashes(tmp_path: Path, end: signal.Signals) -> None:
    """Ctrl-C, kill and kill -9 of the command: no process, no socket folder; --resume goes on with the same hashes."""
    topology = write(tmp_path, COUNTER.replace("rounds = 6", "rounds = 60"))
    assert icsim(tmp_path, "run", topology, "--out", "whole", "--quiet").returncode == 0
    out = tmp_path / "out"
    with started(tmp_path, "run", topology, "--out", out) as process:
        wait_until(lambda: journaled(out) > 10, "the run has made ten rounds")
        process.send_signal(end)
        code = process.wait(60)
        assert code == (130 if end is signal.SIGINT else -end)
    wait_until_nothing_is_left(tmp_path)
    if end is signal.SIGINT:
        assert json.loads((out / "summary.json").read_text())["outcome"] == "interrupted"
    resumed = icsim(tmp_path, "run", "--resume", out)
    assert resumed.returncode == 0, resumed.stderr
    assert heights(out) == heights(tmp_path / "whole")


def journaled(folder: Path) -> int:
    """How many heights a journal has, as far as one can see from outside."""
    path = folder / "journal.sqlite"
    if not path.exists():
        return 0
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return int(db.execute("SELECT COUNT(*) FROM heights").fetchone()[0])
        finally:
            db.close()
    except sqlite3.Error:
        return 0


def test_heartbeats_and_timers_do_not_keep_a_run_going(tmp_path: Path) -> None:
    """When the workload is over, what canisters do by themselves is no work that is left."""
    text = COUNTER + "".join(
        f'[[canister]]\nname = "{name}"\nwasm = "{name}.wasm"\nsubnet = "nns"\n' for name in ("universal_heartbeat", "timer")
    )
    done = icsim(tmp_path, "run", write(tmp_path, text), "--quiet")
    assert (done.returncode, done.stdout.startswith("tiny: ok")) == (0, True), done.stderr


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    """A second network can't write where one is running; the message names the culprit and the remedy."""
    topology = write(tmp_path, COUNTER)
    assert icsim(tmp_path, "up", topology, "--background", "--virtual-time", "--out", "out", "--quiet").returncode == 0
    try:
        for arguments in (("run", topology, "--out", "out"), ("replay", "out"), ("run", "--resume", "out")):
            done = icsim(tmp_path, *arguments)
            assert done.returncode == 2
            assert "in use by a running network" in done.stderr
            assert "icsim down" in done.stderr
    finally:
        assert icsim(tmp_path, "down").returncode == 0
    wait_until_nothing_is_left(tmp_path)


def test_a_module_that_the_subnet_refuses_is_bad_input(tmp_path: Path) -> None:
    """A module that looks right from outside and isn't: exit code 2, one line, no run directory, no process."""
    module = bytearray((Path(__file__).parents[2] / "examples/canisters/counter.wasm").read_bytes())
    module[module.rindex(b"\x0b")] = 0xFF
    (tmp_path / "bad.wasm").write_bytes(module)
    topology = write(tmp_path, COUNTER.replace("counter.wasm", "bad.wasm"))
    done = icsim(tmp_path, "run", topology, "--quiet", "--out", "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "canister counter can't be installed" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    wait_until_nothing_is_left(tmp_path)


def test_a_broken_invariant_ends_the_run_with_exit_code_1(tmp_path: Path) -> None:
    """Cycles out of nothing: with --check-invariants the run ends in that very round and says what, where and how much."""
    arguments = ("run", write(tmp_path, COUNTER), "--check-invariants", "--out")
    sound = icsim(tmp_path, *arguments, "sound")
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert "every invariant after every round" in sound.stdout
    done = icsim(tmp_path, *arguments, "out", "--fault", "forge:nns,counter,1234@5")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "icsim: an invariant is broken at height 5: subnet nns: minted - burned - lost = " in done.stderr
    assert "+1,234 cycles" in done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["outcome"] == "failed"
    assert {"name": "every invariant after every round", "holds": False, "detail": ""} in summary["invariants"]
    assert heights(tmp_path / "out") == [row for row in heights(tmp_path / "sound") if row["height"] < 5]
    wait_until_nothing_is_left(tmp_path)
