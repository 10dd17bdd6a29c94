"""Local functions that charge for a System API call and then make it.

Rule module. Each does exactly what the replica's host helper does before an API runs: if the counter is already negative, the
exhaustion handler runs first; the whole charge is subtracted at once; if the counter is negative now, the handler runs again.
Being code of the module, this costs a few nanoseconds instead of a look into the instance from the host.
"""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.wasm.assembler import function_body
from sandbox.wasm.charges import Charge

_CHECK = "global.get $counter; i64.const 0; i64.lt_s; if; call $out_of_instructions; end"
_SIZE_CAP = 1 << 55
"""No memory is that large; sizes are capped so that 50 x size can't wrap around and enrich the caller."""


def shim(charge: Charge, parameters: int, target: int, names: Mapping[str, int], wasm64: bool) -> bytes:
    """Body of the function that charges and calls the import with index `target`."""
    lines = [_CHECK, f"global.get $counter; i64.const {charge.fixed}; i64.sub"]
    for parameter, factor in charge.sizes:
        lines.append(f"{_size(parameter, wasm64)}; i64.const {factor}; i64.mul; i64.sub")
    if charge.log is not None:
        lines.append(f"{_size(1, wasm64)}; i32.const {charge.log}; call $charge_log; i64.sub")
    lines += ["global.set $counter", _CHECK]
    lines += [f"local.get {index}" for index in range(parameters)]
    lines.append(f"call {target}")
    return function_body("\n".join(lines), names)


def _size(parameter: int, wasm64: bool) -> str:
    """The size parameter as an i64 that can safely be multiplied."""
    if not wasm64:
        return f"local.get {parameter}; i64.extend_i32_u"
    take = f"local.get {parameter}; i64.const {_SIZE_CAP}"
    return f"{take}; {take}; i64.lt_u; select"
