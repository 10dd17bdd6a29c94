"""All System API functions by name.

Rule module. Spec: System imports.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox.system_api import calls, certified, costs, cycles, debug, environment, message, timers
from sandbox.system_api.availability import SYSTEM_CALLS

_FAMILIES = (message, calls, cycles, certified, timers, debug, environment, costs)

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    function.__name__: function for family in _FAMILIES for function in family.FUNCTIONS
}
assert FUNCTIONS.keys() == SYSTEM_CALLS.keys(), "availability table and functions differ"
