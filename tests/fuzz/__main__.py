"""`make fuzz`: modules and replies of sandboxes for as many minutes as wanted; prints its seed, and how to run a case again."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.fuzz import module_cases, reply_cases

STEP = 500


def main() -> int:
    """Fuzz until the time is over; 1 when a case fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="number of the first case (default: random)")
    parser.add_argument("--cases", type=int, default=None, help="stop after this many instead of by time")
    parser.add_argument("--replies", action="store_true", help="replies of sandboxes only")
    options = parser.parse_args()
    seed = secrets.randbelow(1 << 48) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    modules, replies = module_cases.Tally(), reply_cases.Tally()
    end, done = time.monotonic() + 60 * options.minutes, 0
    try:
        while (done < options.cases) if options.cases is not None else (time.monotonic() < end):
            count = STEP if options.cases is None else min(STEP, options.cases - done)
            if not options.replies:
                module_cases.run(seed + done, count, modules)
            if options.cases is None or options.replies:
                reply_cases.run(seed + done, count, replies)
            done += count
            if done % (40 * STEP) == 0:
                print(f"{done:,} cases", flush=True)
    except AssertionError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"modules: {modules.accepted:,} accepted {modules.by_kind}, {modules.refused:,} refused")
    print(f"replies: {replies.accepted:,} accepted, {replies.refused:,} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main())
