"""`icsim run`: a topology's canisters, its workload, and what came out of it.

Plumbing.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from configs.estimate import available_bytes, check_fits
from configs.loader import load_topology
from ic_types.errors import BadInput, DivergenceError, IcsimError, NetworkError
from subnet.cli.options import counted, execution_options, fault_options, run_options, topology_options
from subnet.cli.progress import Watch
from subnet.cli.resuming import resumed
from subnet.lab import run_dir
from subnet.lab.report import Report, make_report, write_summary
from subnet.lab.run_dir import RunFile
from subnet.lab.start import new_config, running
from subnet.network_config import CoordinatorConfig
from subnet.process_tools import start_time


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be run."""

    config: CoordinatorConfig
    folder: Path
    about: RunFile
    rounds: int | None
    quiet: bool
    as_json: bool

    @property
    def is_new(self) -> bool:
        return self.config.mode == "new"


@click.command()
@click.argument("topology", required=False)
@topology_options
@click.option("--rounds", type=int, metavar="N", help="End at height N (default: when no work is left).")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Run directory (default: a new one in .icsim/runs)."
)
@execution_options
@fault_options
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="DIR", help="Continue the run in DIR; TOPOLOGY may be left out."
)
@click.option("--quiet", is_flag=True, help="No progress, no tables; one line at the end.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON, alone on standard output.")
def run(**options: Any) -> int:
    """Run a topology's workload until no work is left, then check the invariants.

    TOPOLOGY is a file, see docs/topology.md. The run directory holds summary.json, heights.jsonl, the journal, events and logs.
    """
    if options["quiet"] and options["as_json"]:
        raise BadInput("--quiet and --json exclude each other")
    if options["rounds"] is not None and options["rounds"] < 1:
        raise BadInput(f"--rounds {options['rounds']}: allowed is 1 and more")
    plan = _resumed(options) if options["resume"] is not None else _new(options)
    try:
        report = _execute(plan)
    except BadInput:
        if plan.is_new:  # it never became a run
            shutil.rmtree(plan.folder, ignore_errors=True)
        raise
    _tell(plan, report)
    return report.exit_code


def _new(options: dict[str, Any]) -> _Plan:
    if options["topology"] is None:
        raise BadInput("which topology? e.g. `icsim run configs/quickstart.toml`; or continue a run with --resume DIR")
    topology = load_topology(options["topology"], options["overrides"], nodes=options["nodes"], seed=options["seed"])
    check_fits(topology, available_bytes())
    config = new_config(topology, run_options(options), None)
    out = options["out"]
    about = run_dir.run_file(topology, options["topology"])
    folder = run_dir.default_directory(topology.name, topology.seed) if out is None else run_dir.new_directory(out)
    run_dir.write_run_file(folder, about)
    return _plan(replace(config, out_dir=str(folder)), folder, about, options)


def _resumed(options: dict[str, Any]) -> _Plan:
    config, folder, about = resumed(options)
    return _plan(config, folder, about, options)


def _plan(config: CoordinatorConfig, folder: Path, about: RunFile, options: dict[str, Any]) -> _Plan:
    return _Plan(
        config=config,
        folder=folder,
        about=about,
        rounds=options["rounds"],
        quiet=options["quiet"] or options["as_json"],
        as_json=options["as_json"],
    )


def _execute(plan: _Plan) -> Report:
    with running(plan.config) as network:
        client = network.client
        failure: IcsimError | None = None
        interrupted = False
        first_round: float | None = None
        try:
            with Watch(client, total=plan.rounds, quiet=plan.quiet) as watch:
                if plan.is_new:
                    watch.advance(to_height=1)
                    first_round = seconds_since_start()
                watch.advance(**({"until_idle": True} if plan.rounds is None else {"to_height": plan.rounds}))
        except KeyboardInterrupt:
            interrupted = True
        except BadInput as error:
            raise BadInput(f"{plan.about.topology}: {error}") from None
        except DivergenceError as error:
            failure = error
        except NetworkError as error:
            failure = network.call_failed(error)
            if failure is not error:  # the network is gone, so there is nobody to ask
                raise failure from None
        report = make_report(
            client, plan.about.invariants, may_be_open=plan.rounds is not None, failure=failure, interrupted=interrupted
        )
        if first_round is not None:
            report.summary["first_round_seconds"] = round(first_round, 3)
        write_summary(plan.folder, report.summary)
        return report


def seconds_since_start() -> float:
    """Since this process was started, its interpreter's start included."""
    ticks = start_time(os.getpid()) or 0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _tell(plan: _Plan, report: Report) -> None:
    if plan.as_json:
        click.echo(json.dumps(report.summary, indent=1))
    elif plan.quiet:
        summary = report.summary
        broken = [one.name for one in report.invariants if not one.holds]
        done = f"{counted(summary['rounds'], 'round')}, {counted(summary['messages_executed'], 'message')}"
        text = f"{summary['topology']}: {summary['outcome']}, {done}"
        click.echo(text + (f"; broken: {', '.join(broken)}" if broken else ""))
    else:
        from subnet.cli.tables import print_summary

        print_summary(report.summary, report.invariants)
        click.echo(f"run directory: {shown_path(plan.folder)}")
    if report.problem:
        click.echo(f"icsim: {report.problem}", err=True)
    elif report.exit_code == 130:
        shown = shown_path(plan.folder)
        click.echo(f"icsim: interrupted; `icsim run --resume {shown}` goes on from here", err=True)


def shown_path(path: Path) -> str:
    """A path relative to here if it lies below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
