"""The model for longer: `python -m tests.spec_model --minutes N [--seed S]` (make model).

Runs of 20 sequences of actions each with seeds counted up from the first, until the time is over or one differs.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time

import structlog

from tests.spec_model.machine import TwoSubnets, compare
from tests.support.lone_node import helpers


def main() -> int:
    """Exit code 1 when the rules did something that the model doesn't allow."""
    parser = argparse.ArgumentParser(prog="python -m tests.spec_model")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to go on beginning runs (10)")
    parser.add_argument("--seed", type=int, default=None, help="the first seed (a random one)")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # deaths are meant
    first = random.randrange(10**6) if options.seed is None else options.seed
    end, run = time.monotonic() + options.minutes * 60, 0
    with helpers() as folder:
        TwoSubnets.sockets = folder
        while run == 0 or time.monotonic() < end:
            compare(first + run, shrink=True)
            run += 1
    for kind, count in sorted(TwoSubnets.seen.items()):
        print(f"{count:9,}  {kind}")
    print(f"{run} runs of 20 sequences agree with the model, seeds {first} to {first + run - 1}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
