"""Rights that a sandbox gives up once its canister is loaded.

Plumbing.
"""

from __future__ import annotations


def confine() -> tuple[str, ...]:
    """Give up every right; returns what this kernel doesn't offer."""
    return ("not yet",)
