"""The call under construction, between `call_new` and `call_perform`.

Rule module. Spec: "pending_call" of the execution state.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sandbox.protocol import Closure


@dataclass(slots=True)
class PendingCall:
    """A call that isn't performed yet; `cycles` have already left the balance."""

    callee: bytes
    method: str
    on_reply: Closure
    on_reject: Closure
    arg: bytearray = field(default_factory=bytearray)
    cycles: int = 0
    on_cleanup: Closure | None = None
    timeout_s: int | None = None

    def payload_bytes(self) -> int:
        """Method name and argument, as fees and size limits count them."""
        return len(self.method.encode()) + len(self.arg)
