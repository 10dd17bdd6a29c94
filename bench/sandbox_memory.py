"""Part of the sandbox benchmark: private memory of an idle sandbox, and its share of everything with 48 of them.

Measured in running networks, since what a sandbox shares it shares with the zygote and its siblings there.
"""

from __future__ import annotations

from bench.memory import MEBIBYTE, measure
from bench.report import Figure
from bench.sandbox_kit import emit, median

COUNTS = (1, 48)


def figures() -> list[Figure]:
    """MiB by number of sandboxes."""
    made = []
    for count in COUNTS:
        sizes = measure(count)["sandbox"]
        for what, k, aim in (("private", 0, "<= 5 MB" if count > 1 else ""), ("PSS", 1, "")):
            value = median([size[k] for size in sizes]) / MEBIBYTE
            made.append(Figure(name=f"idle sandbox, {what}, of {count}", value=value, unit="MiB", aim=aim))
    return made


if __name__ == "__main__":
    emit(figures())
