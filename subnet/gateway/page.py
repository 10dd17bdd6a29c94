"""The network's own page, as it lies beside this module.

Plumbing: reads it once.
"""

from __future__ import annotations

from pathlib import Path

PAGE = (Path(__file__).parent / "page.html").read_bytes()
