"""All scenarios in all cells of the matrix: `python -m tests.scenarios [--seed S]` (make matrix)."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys

import structlog

from tests.scenarios.catalogue import SCENARIOS
from tests.scenarios.expected import EXPECTED
from tests.scenarios.in_process import InProcess, Setting
from tests.scenarios.stage import Stage, played
from tests.support.lone_node import helpers


def main() -> int:
    """Exit code 1 when a scenario looks different somewhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios")
    parser.add_argument("--seed", type=int, default=1, help="of the kills (1)")
    seed = parser.parse_args().seed
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # deaths are meant
    wrong = 0
    with helpers() as folder:
        for spread, nodes, sliced, kills in itertools.product((False, True), (1, 4), (False, True), (False, True)):
            setting = Setting(spread=spread, nodes=nodes, sliced=sliced, kills=kills)
            network = InProcess(folder, setting, seed)
            try:
                found = {name: played(Stage(network), play) for name, play in SCENARIOS.items()}
            finally:
                network.close()
            different = [name for name, notes in found.items() if notes != EXPECTED[name]]
            wrong += len(different)
            print(f"{setting}: {len(found)} scenarios, {network.height} rounds, {network.killed} kills", flush=True)
            for name in different:
                print(f"  {name}\n    expected {EXPECTED[name]}\n    found    {found[name]}", flush=True)
    print(f"{wrong} different" if wrong else "all scenarios look alike in all cells")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
