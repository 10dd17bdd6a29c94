"""From a Wasm import to a Python function: one unchecked callback per import, generated as straight-line code.

Plumbing. Wasmtime passes arguments as 16-byte slots, whose first 8 bytes hold the value; the result goes into slot 0. A
callback returns 0, or the pointer of a new trap. Whatever a function raises is kept for the engine, which finds it after the
Wasm stack is unwound.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

from sandbox import profiling
from sandbox.system_api import debug, stable
from sandbox.system_api.availability import CONTEXT_NAMES, EVERYWHERE, SYSTEM_CALLS, SystemCall
from sandbox.system_api.functions import FUNCTIONS
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import CanisterTrap, contract_violation

HOST_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_SLOTS = ctypes.c_uint64 * 16
_CACHED_ADDRESSES = 4096
INJECTED_MODULE = "__"
_INJECTED = (
    SystemCall("out_of_instructions", "", "", EVERYWHERE),
    SystemCall("try_grow_wasm_memory", "pp", "p", EVERYWHERE),
    SystemCall("try_grow_stable_memory", "lli", "l", EVERYWHERE),
    SystemCall("internal_trap", "i", "", EVERYWHERE),
    SystemCall("charge_log", "li", "l", EVERYWHERE),
    SystemCall("profile", "il", "", EVERYWHERE),
)
"""What instrumentation adds to a module's imports."""
_HELPERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        stable.try_grow_wasm_memory,
        stable.try_grow_stable_memory,
        stable.internal_trap,
        debug.charge_log,
        profiling.profile,
    )
}


class SlotArrays(dict[int, Any]):
    """Arrays over argument slots by address: a call site uses the same stack address again and again."""

    def __missing__(self, address: int) -> Any:
        if len(self) >= _CACHED_ADDRESSES:
            self.clear()
        array = self[address] = _SLOTS.from_address(address)
        return array


class HostFunctions:
    """The imports of one sandbox. `failure` is what the last host function raised."""

    def __init__(
        self, state: MessageState, new_trap: Callable[[], int], engine_functions: dict[str, Callable[..., Any]]
    ) -> None:
        self.state = state
        self.failure: BaseException | None = None
        self._new_trap = new_trap
        self._engine_functions = engine_functions
        self._slots = SlotArrays()
        self._kept: list[Any] = []

    def fail(self, error: BaseException) -> int:
        """Remember the error and make the trap that unwinds Wasm."""
        self.failure = error
        return self._new_trap()

    def imports(self, wanted: set[tuple[str, str]]) -> list[tuple[str, SystemCall, Any]]:
        """(Wasm module, call, callback) for those imports that exist."""
        width = 64 if self.state.wasm64 else 32
        system = [("ic0", c) for c in SYSTEM_CALLS.values() if not (c.only_32_bit and width == 64)]
        every = system + [(INJECTED_MODULE, c) for c in _INJECTED]
        return [
            (module, c, self._callback(c, self._function(module, c.name))) for module, c in every if (module, c.name) in wanted
        ]

    def _function(self, module: str, name: str) -> Callable[..., Any]:
        if module == "ic0":
            return FUNCTIONS[name]
        return self._engine_functions.get(name) or _HELPERS[name]

    def _callback(self, call: SystemCall, function: Callable[..., Any]) -> Any:
        params, results = signature(call, wide=self.state.wasm64)
        make = _maker(tuple(params), bool(results), call.contexts != EVERYWHERE)
        host = make(self.state, function, self.fail, self._slots, call.contexts, call.name, _forbidden)
        callback = HOST_CALLBACK(host)
        self._kept.append(callback)
        return callback


def signature(call: SystemCall, *, wide: bool) -> tuple[list[str], list[str]]:
    """Wasm types of parameters and results."""
    types = {"p": "i64" if wide else "i32", "i": "i32", "l": "i64"}
    return [types[letter] for letter in call.params], [types[letter] for letter in call.result]


@cache
def _maker(params: tuple[str, ...], has_result: bool, checked: bool) -> Callable[..., Any]:
    """Makes callbacks of this form; compiled once, in the parent of all sandboxes for the forms that exist."""
    arguments = [f"a[{2 * k}]" if kind == "i64" else f"a[{2 * k}] & 0xFFFFFFFF" for k, kind in enumerate(params)]
    invocation = f"f({', '.join(['s', *arguments])})"
    lines = [
        "def make(s, f, fail, slots_at, contexts, name, forbidden):",
        " def host(_environment, _caller, slots, _number):",
        "  try:",
        "   if not s.mode & contexts: raise forbidden(name, s.mode)" if checked else "",
        "   a = slots_at[slots]" if params or has_result else "",
        f"   a[0] = {invocation}" if has_result else f"   {invocation}",
        "   return 0",
        "  except BaseException as error: return fail(error)",
        " return host",
    ]
    scope: dict[str, Any] = {}
    exec("\n".join(line for line in lines if line), scope)
    make: Callable[..., Any] = scope["make"]
    return make


def _forbidden(name: str, mode: int) -> CanisterTrap:
    return contract_violation(f'"ic0_{name}" cannot be executed in {CONTEXT_NAMES[mode]} mode')


for _call in (*SYSTEM_CALLS.values(), *_INJECTED):
    _params, _results = signature(_call, wide=False)
    _maker(tuple(_params), bool(_results), _call.contexts != EVERYWHERE)
