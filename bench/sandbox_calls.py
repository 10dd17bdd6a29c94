"""Part of the sandbox benchmark: CPU time of one System API call from Wasm and back, charges and checks included.

One message calls a function many times in a loop; the same loop without the call is taken off. The reference is the cheapest
thing that could be called a host call: the bare loop's copy of 64 bytes, which neither charges nor checks.
"""

from __future__ import annotations

from typing import Any

from bench.report import Figure
from bench.sandbox_kit import Box, cpu_ns, emit, launcher, median, thread_cpu
from sandbox.system_api.availability import SYSTEM_CALLS, U

CALLS, REPEATS, BYTES = 20_000, 7, 64
AIM = "<= 1.5"
ARGUMENT = bytes(BYTES)
COPIES = {
    "msg_arg_data_copy": (1024, 0, BYTES),
    "msg_caller_copy": (1024, 0, 29),
    "canister_self_copy": (1024, 0, 10),
    "subnet_self_copy": (1024, 0, 10),
    "msg_reply_data_append": (0, BYTES),
    "certified_data_set": (0, 32),
    "debug_print": (0, BYTES),
    "is_controller": (0, 10),
    "canister_cycle_balance128": (1024,),
    "canister_liquid_cycle_balance128": (1024,),
    "msg_cycles_available128": (1024,),
    "msg_cycles_accept128": (0, 0, 1024),
    "cycles_burn128": (0, 0, 1024),
    "cost_call": (10, 100, 1024),
    "cost_create_canister": (1024,),
    "cost_http_request": (10, 100, 1024),
    "env_var_name_exists": (0, 3),
}
"""Arguments of calls that copy up to 64 bytes into or out of the heap."""
OTHERS = {"global_timer_set": (0,), "performance_counter": (0,), "msg_cycles_accept": (0,)}
LEFT_OUT = ("msg_reply", "call_perform")
"""They can't be called again and again."""
STABLE = {"stable64_write": (0, 0, BYTES), "stable64_read": (0, 0, BYTES), "stable64_size": ()}
"""Served inside the module."""
WRITING = {"call_new": (0, 10, 0, 4, 0, 0, 0, 0), "call_data_append": (0, BYTES)}


def arguments() -> dict[str, tuple[int, ...]]:
    """Every function of the host that an update message can call in a loop, with what it is given."""
    plain: dict[str, tuple[int, ...]] = {
        name: () for name, call in SYSTEM_CALLS.items() if not call.params and call.contexts & U and name not in LEFT_OUT
    }
    return {**COPIES, **plain, **OTHERS}


def _signature(name: str) -> tuple[str, list[str]]:
    wide = "l" * len(STABLE[name]) if name in STABLE else SYSTEM_CALLS[name].params
    kinds = ["i64" if letter == "l" else "i32" for letter in wide]
    result = ("" if STABLE[name] else "l") if name in STABLE else SYSTEM_CALLS[name].result
    results = "(result {})".format("i64" if result == "l" else "i32") if result else ""
    return f"(param {' '.join(kinds)}) {results}", kinds


def _loop(name: str, body: str) -> str:
    return f"""(func (export "canister_update {name}") (local $n i32)
   {"(call $call_new " + " ".join(f"(i32.const {v})" for v in WRITING["call_new"]) + ")" if name == "call_data_append" else ""}
   (loop $again {body}
    (br_if $again (i32.ne (i32.const {CALLS}) (local.tee $n (i32.add (local.get $n) (i32.const 1)))))))"""


def module(calls: dict[str, tuple[int, ...]]) -> str:
    """A canister with an update method per function, which calls it over and over; `empty` calls nothing."""
    imports, methods = ['(import "ic0" "stable64_grow" (func $grow (param i64) (result i64)))'], [_loop("empty", "")]
    for name, values in calls.items():
        signature, kinds = _signature(name)
        imports.append(f'(import "ic0" "{name}" (func ${name} {signature}))')
        call = f"(call ${name} {' '.join(f'({k}.const {v})' for k, v in zip(kinds, values, strict=True))})"
        methods.append(_loop(name, f"(drop {call})" if "result" in signature else call))
    heap = '(memory (export "memory") 4) (func (export "canister_init") (drop (call $grow (i64.const 1))))'
    return "\n".join(["(module", *imports, heap, *methods, ")"])


def bare_copy_us() -> float:
    """The reference: a loop of copies in the bare loop's sandbox, in this process."""
    import bench.bare_loop as bare

    copy = f"(call $copy (i32.const 1024) (i32.const 0) (i32.const {BYTES}))"
    loop = _loop("inc", copy).replace("local $n i32)", "local $n i32) (call $append (i32.const 0) (i32.const 0))")
    opened = bare.WAT[: bare.WAT.index("(func (export")]
    bare.WAT = opened + loop + ")"
    box: Any = bare.BareSandbox()
    box.run(ARGUMENT)
    return median([thread_cpu(lambda: box.run(ARGUMENT)) for _ in range(REPEATS)]) * 1e6 / CALLS


def figures() -> list[Figure]:
    """Microseconds by function."""
    calls = {**arguments(), **STABLE, **WRITING}
    box = Box(launcher(), module(calls))
    box.run(box.message("", entry=_init()))
    spent: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for name in ("empty", *calls):
            before = cpu_ns(box.pid)
            answer = box.run(box.message(name, ARGUMENT))
            assert hasattr(answer, "heap_pages"), (name, answer)
            spent.setdefault(name, []).append((cpu_ns(box.pid) - before) / 1e3 / CALLS)
    box.controller.close()
    empty, reference = median(spent.pop("empty")), bare_copy_us()
    cost = {name: max(median(times) - empty, 0.0) for name, times in spent.items()}
    copying = [cost[name] for name in COPIES]
    common = {"unit": "us CPU", "reference_name": f"bare loop's copy of {BYTES} bytes", "reference": reference}
    made = [
        Figure(
            name=f"System API call that copies up to {BYTES} bytes, median of {len(copying)}",
            value=median(copying),
            aim=AIM,
            **common,
        ),
        Figure(name="the dearest of them", value=max(copying), **common),
    ]
    return made + [Figure(name=f"ic0.{name}", value=us, **common) for name, us in sorted(cost.items(), key=lambda one: -one[1])]


def _init() -> Any:
    from sandbox.protocol import EntryPoint

    return EntryPoint.INIT


if __name__ == "__main__":
    emit(figures())
