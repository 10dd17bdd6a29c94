"""Disables every condition of the specification in turn and sees whether a test that names it fails.

Plumbing. For each mutant of `tools.conditions` the snippet is replaced in a scratch copy of the project, and the tests marked
`spec(rule, condition=n)` run there: one has to fail ("killed"). A mutant that all of them pass has survived: the condition is
untested. First the same tests must pass unchanged.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.conditions import ROOT, Condition, Mutant, conditions
from tools.spec_coverage import marked_tests

COPIED = ("ic_types", "configs", "sandbox", "xnet", "message_routing", "scheduler", "subnet", "tests", "tools")
LINKED = ("examples", "docs")
FILES = ("icsim.py", "pyproject.toml", "ARCHITECTURE.md", "README.md")
TEST_TIMEOUT_S = 60
"""Of a single test; a mutant that makes one hang is killed by that."""
PROGRESS_EVERY = 50
RUN_TIMEOUT_S = 240
QUICK = ("-p", "no:hypothesispytest", "-p", "no:icsim")
"""Plugins that these tests don't need: half of the time that pytest takes to start."""
VERDICTS = {0: "survived", 1: "killed"}


@dataclass(frozen=True, slots=True)
class Job:
    """One mutant and the tests that should notice it."""

    condition: Condition
    number: int
    """Among the condition's mutants."""
    mutant: Mutant
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """For tables."""
        return self.condition.name + ("abcdefghij"[self.number] if len(self.condition.mutants) > 1 else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: killed, survived or broken (its run was no test run at all)."""

    job: Job
    verdict: str
    output: str


class Scratch:
    """A copy of the project in which modules are mutated and tests run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stamp = time.time_ns()
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        for name in FILES:
            shutil.copy2(ROOT / name, folder / name)

    def write(self, path: str, text: str) -> None:
        """Replace a module; its time differs from all before, so that no stale bytecode is used."""
        target = self.folder / path
        target.write_text(text)
        self._stamp += 2_000_000_000
        os.utime(target, ns=(self._stamp, self._stamp))

    def pytest(self, tests: Sequence[str], *options: str, timeout: int = RUN_TIMEOUT_S) -> tuple[int, str]:
        """Run these tests; exit code of pytest (1 if the run takes too long) and what it said."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            *QUICK,
            "-q",
            "--timeout",
            str(TEST_TIMEOUT_S),
            "--tb=short",
            *options,
            *tests,
        ]
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            output, _ = process.communicate()
            return 1, output.decode(errors="replace") + "\ntimed out"
        return process.returncode, output.decode(errors="replace")

    def judge(self, job: Job) -> Verdict:
        """Run the tests of one mutant."""
        original = (self.folder / job.mutant.path).read_text()
        self.write(job.mutant.path, job.mutant.apply(original))
        try:
            code, output = self.pytest(job.tests, "-x", "-p", "no:xdist")
        finally:
            self.write(job.mutant.path, original)
        return Verdict(job, VERDICTS.get(code, "broken"), output)


def plan(rules: Sequence[str] = (), condition: int | None = None) -> list[Job]:
    """All mutants, or those of some rules or with one number, each with its tests.

    Raises: ValueError naming the conditions that have no test.
    """
    tests: dict[tuple[str, int], list[str]] = {}
    for marked in marked_tests():
        for number in marked.conditions:
            tests.setdefault((marked.rule, number), []).append(marked.node_id)
    jobs, untested = [], []
    for one in conditions():
        if (rules and one.rule not in rules) or (condition and one.n != condition):
            continue
        found = tuple(tests.get((one.rule, one.n), ()))
        if one.mutants and not found:
            untested.append(f"spec({one.rule!r}, condition={one.n})")
        jobs += [Job(one, number, mutant, found) for number, mutant in enumerate(one.mutants)]
    if untested:
        raise ValueError("no test is marked " + ", nor ".join(untested))
    return jobs


@contextmanager
def scratches(count: int) -> Iterator[list[Scratch]]:
    """Copies of the project that go away afterwards."""
    with tempfile.TemporaryDirectory(prefix="icsim-mutants-") as folder:
        yield [Scratch(Path(folder) / str(number)) for number in range(count)]


def run(jobs: Sequence[Job], workers: int, console: Console) -> list[Verdict]:
    """Judge all mutants, several at a time.

    Raises: ValueError when the tests fail without any mutant.
    """
    tests = sorted({test for job in jobs for test in job.tests})
    with scratches(workers) as copies:
        code, output = copies[0].pytest(tests, "-n", str(workers), "--dist", "loadfile", timeout=1800)
        if code:
            raise ValueError(f"the tests fail without any mutant:\n{output[-3000:]}")
        console.print(f"{len(tests)} tests pass unchanged; {len(jobs)} mutants follow")
        for copy in copies[1:]:
            cache = copies[0].folder / ".icsim"
            if cache.exists():
                shutil.copytree(cache, copy.folder / ".icsim")
        idle: queue.SimpleQueue[Scratch] = queue.SimpleQueue()
        done: list[Job] = []
        for copy in copies:
            idle.put(copy)

        def judge(job: Job) -> Verdict:
            copy = idle.get()
            try:
                verdict = copy.judge(job)
            finally:
                idle.put(copy)
            if verdict.verdict != "killed":
                console.print(f"{job.name}: {verdict.verdict} ({job.condition.says})", style="red", highlight=False)
            done.append(job)
            if len(done) % PROGRESS_EVERY == 0:
                console.print(f"{len(done)} done")
            return verdict

        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(judge, jobs))


def table_of(verdicts: Sequence[Verdict]) -> Table:
    """Counts by rule."""
    table = Table("rule", "mutants", "killed", "survived", "broken")
    rules = dict.fromkeys(verdict.job.condition.rule for verdict in verdicts)
    for rule in rules:
        table.add_row(rule, *_counts([verdict for verdict in verdicts if verdict.job.condition.rule == rule]))
    table.add_section()
    table.add_row("all", *_counts(verdicts))
    return table


def _counts(verdicts: Sequence[Verdict]) -> list[str]:
    found = [verdict.verdict for verdict in verdicts]
    return [str(len(found)), *(str(found.count(kind)) for kind in ("killed", "survived", "broken"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 1 if a mutant survived or broke, 2 if the run couldn't start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rule", nargs="+", default=(), help="only these rules' conditions")
    parser.add_argument("--condition", type=int, help="only conditions with this number")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--verbose", action="store_true", help="show what pytest said of mutants that weren't killed")
    options = parser.parse_args(arguments)
    console, started = Console(), time.monotonic()
    try:
        jobs = plan(options.rule, options.condition)
        if not jobs:
            raise ValueError("there are no mutants of that rule and condition; see tests/spec/conditions")
        verdicts = run(jobs, options.jobs, console)
    except ValueError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 2
    console.print(table_of(verdicts))
    bad = [verdict for verdict in verdicts if verdict.verdict != "killed"]
    for verdict in bad:
        job = verdict.job
        console.print(f"{job.name} {verdict.verdict}: {job.mutant.path}; {', '.join(job.tests)}", markup=False)
        if options.verbose:
            console.print(verdict.output, markup=False, highlight=False)
    minutes = (time.monotonic() - started) / 60
    console.print(f"{len(verdicts) - len(bad)} of {len(verdicts)} mutants killed in {minutes:.1f} minutes")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
