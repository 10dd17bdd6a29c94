"""docs/management.md says what the table of methods says."""

from __future__ import annotations

from tools.management_table import TARGET, table


def test_the_page_is_up_to_date() -> None:
    """After a change of the methods: python tools/management_table.py."""
    assert TARGET.read_text(encoding="utf-8") == table()
