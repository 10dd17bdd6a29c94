"""The pytest plugin: `icsim_network` gives a test its own small network and ends it with the test.

Plumbing. Registered as the entry point `pytest11: icsim`; imports nothing heavy until the fixture is used.
"""

from __future__ import annotations

import pytest


@pytest.fixture
def icsim_network() -> None:
    """A factory of networks; the first version only says that there will be one."""
    pytest.skip("networks can't be started from tests yet")
