"""The twelve steps of ARCHITECTURE.md, read from the page."""

from __future__ import annotations

import re
from pathlib import Path

_PAGE = (Path(__file__).resolve().parents[2] / "ARCHITECTURE.md").read_text()
STEPS: list[tuple[str, str]] = re.findall(r"^\d+\. \[`([^`]+)`\]\([^)]+\) `(\w+)`", _PAGE, re.MULTILINE)
"""File and function of each step."""
TRACE_NAMES = [path.removesuffix(".py").replace("/", ".") + "." + function for path, function in STEPS]
"""How the steps are called in traces."""
