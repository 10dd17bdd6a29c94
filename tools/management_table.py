"""Writes docs/management.md: the methods of the management canister, as `subnet.management.methods` has them."""

from __future__ import annotations

import sys
from pathlib import Path

from subnet.management.methods import METHODS, Method, Users

TARGET = Path(__file__).resolve().parents[1] / "docs" / "management.md"
_HEAD = """# The management canister, method by method

Made by `python tools/management_table.py` from [`subnet/management/methods.py`](../subnet/management/methods.py); edit that.

*users*: by an ingress message. *canisters*: in replicated mode; "here" are those of the same subnet and of the root subnet.
*query*: by users, and by composite queries of canisters of the same subnet. *waits*: "budget" for a round that has budget left
for management calls, "aborted" while a message of the canister was aborted and has to start again; every call waits while its
canister is paused. *price*: beside induction of a user's call and transmission of a canister's.

| method | who | users | canisters | query | waits | price |
| --- | --- | --- | --- | --- | --- | --- |
"""


def table() -> str:
    """The document."""
    return _HEAD + "".join(_row(name, method) for name, method in METHODS.items())


def _row(name: str, method: Method) -> str:
    canisters = "no" if not method.canisters else "everywhere" if method.elsewhere else "here"
    waits = ", ".join(word for word, is_so in (("budget", method.heavy), ("aborted", method.exclusive)) if is_so)
    who = "anyone" if method.users is Users.ADMINS else method.access.value
    cells = (f"`{name}`", who, method.users.value, canisters, "yes" if method.query else "no", waits, method.fee)
    return f"| {' | '.join(cells)} |\n"


if __name__ == "__main__":
    sys.exit(TARGET.write_text(table(), encoding="utf-8") and None)
