"""Reading canister logs.

Rule module. Spec: interface spec, "IC method fetch_canister_logs".
"""

from __future__ import annotations

from ic_types.candid.values import Value
from scheduler.canister import Canister
from scheduler.canister_log import LogRecord
from subnet.management.context import QueryView


def query_logs(_view: QueryView, canister: Canister | None, args: Value) -> Value:
    """The lines that are left, oldest first; only those in a range of numbers or times, if one is given (without its end)."""
    assert canister is not None
    wanted = args["filter"]
    lines = [line for line in canister.logs if wanted is None or _within(line, wanted)]
    records = [{"idx": line.index, "timestamp_nanos": line.time, "content": line.content} for line in lines]
    return {"canister_log_records": records}


def _within(line: LogRecord, wanted: Value) -> bool:
    ((by, bounds),) = wanted.items()
    at: int = line.index if by == "by_idx" else line.time
    return bool(bounds["start"] <= at < bounds["end"])
