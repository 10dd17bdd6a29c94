"""What a person sees: tables at their widths, progress lines, rates."""

from __future__ import annotations

import pytest

from subnet.cli import tables
from subnet.cli.progress import Lines, Rates, describe, fraction
from subnet.cli.steer import rounds_for
from subnet.control_protocol import NetworkStatus
from subnet.lab.invariants import Invariant


def status(**fields: object) -> NetworkStatus:
    """A network that runs its workload."""
    plain = {
        "phase": "running", "height": 12, "time_ns": 0, "wall_ns": 0, "subnets": (), "submitted": 0, "replied": 0,
        "rejected": 0, "pending": 0, "workload_rounds": 20, "workload_start": 3, "installed": 2, "workload_done": False,
    }  # fmt: skip
    return NetworkStatus(**(plain | fields))  # type: ignore[arg-type]


def summary(canisters: int = 2) -> dict[str, object]:
    """The figures of a run."""
    row = {"subnet": "nns", "pid": 7, "messages": 1234, "instructions": 1_056_730_889, "cycles": 99_995_396_187_829}
    return {
        "topology": "demo", "profile": "minimal", "seed": 1, "rounds": 10, "wall_seconds": 2.0, "virtual_time_ns": 10**10,
        "messages_per_second": 617.0,
        "subnets": [
            {"name": "nns", "type": "system", "nodes": 4, "height": 10, "state_hash": "ab" * 32, "agreed": True,
             "messages": 1234, "xnet_in_requests": 5, "xnet_in_responses": 6, "instructions": 1_056_730_889,
             "total_cycles_burned": 4_603_812_171},
            {"name": "app", "type": "application", "nodes": 4, "height": 10, "state_hash": "cd" * 32, "agreed": False},
        ],
        "canisters": [{"id": "rwlgt-iiaaa-aaaaa-aaaaa-cai", "name": f"c-{k}", **row} for k in range(canisters)],
        "ingress": {"submitted": 3, "replied": 2, "rejected": 1, "pending": 0},
        "xnet": {"requests": 5, "responses": 6, "rejected": 0},
        "latency_rounds": {"p50": 1, "p95": 5, "max": 9},
    }  # fmt: skip


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, canisters: int = 2) -> str:
    """What the tables look like in so many columns."""
    monkeypatch.setattr(tables, "_PLAIN_WIDTH", width)
    tables.print_summary(summary(canisters), [Invariant("tokens conserved", False, "gold: 3 of 4")])  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_wide_tables_have_every_digit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut off where there is room."""
    shown = printed(capsys, monkeypatch, 200)
    for text in (
        "abababababababab",
        "4 of 4 nodes",
        "DIVERGED",
        "1,056,730,889",
        "99,995,396,187,829",
        "1 / 5 / 9",
        "BROKEN",
        "11",
    ):
        assert text in shown
    assert "10 rounds, 10 s of network time in 2.0 s (5.0 rounds/s, 617 messages/s)" in shown


def test_narrow_tables_fit_a_terminal_of_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers are rounded, every canister keeps its line."""
    shown = printed(capsys, monkeypatch, 80)
    assert max(map(len, shown.splitlines()[1:])) <= 80
    assert "1.06 B" in shown
    assert "100.00 T" in shown
    assert sum("rwlgt-iiaaa-aaaaa-aaaaa-cai" in line for line in shown.splitlines()) == 2


def test_many_canisters_are_cut_to_the_busiest(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand rows help nobody; where the rest is, is said."""
    shown = printed(capsys, monkeypatch, 200, canisters=2000)
    assert shown.count("rwlgt") == tables.MAX_CANISTERS
    assert "30 busiest of 2,000; summary.json has all" in shown


def test_rates_are_those_of_the_last_seconds() -> None:
    """An early burst is forgotten."""
    rates = Rates()
    rates._seen[0] = (0.0, 0, 0)
    assert rates.add(2.0, status(height=100))[0] == pytest.approx(50)
    rates.add(4.0, status(height=100))
    assert rates.add(8.0, status(height=100))[0] == pytest.approx(0)


def test_progress_is_measured_by_the_target_or_the_workload() -> None:
    """--rounds, then the workload's rounds, then nothing."""
    assert fraction(status(), 24) == (12, 24)
    assert fraction(status(), None) == (10, 20)
    assert fraction(status(workload_start=0), None) == (0, None)
    assert describe(status(phase="installing")) == "installing canisters, 2 done"


def test_lines_come_when_the_phase_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """Not at every look."""
    lines = Lines(None)
    for phase in ("installing", "installing", "running", "running"):
        lines.show(status(phase=phase), 1.0, 2.0)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["installing canisters, 2 done", "running"]


@pytest.mark.parametrize(("seconds", "rounds"), [(10, 10), (0.5, 1), (2.1, 3), (0.0000001, 1)])
def test_seconds_become_rounds_that_cover_them(seconds: float, rounds: int) -> None:
    """Never less time than was asked for."""
    assert rounds_for(seconds, 10**9) == rounds
