"""A paused message, and how a new sandbox catches up with it.

Rule module. Spec: not in the spec; slices are the replica's deterministic time slicing. A sandbox that died with a paused
message is replaced by one that runs the finished slices again at once. That is no abort: nothing in the state tells it from the
first.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types.errors import SandboxFailure
from sandbox.protocol import Answer, ExecutionContext, ExecutionInput, Paused


@dataclass(slots=True)
class PausedWork:
    """What is needed to bring a new sandbox to where the old one was."""

    message: ExecutionInput
    context: ExecutionContext
    """Of the first slice; later slices run with it too."""
    slices: list[int]
    """Instructions of the message after each finished slice."""

    def check_slice(self, index: int, answer: Answer) -> None:
        """A slice that is run again must end where it ended before.

        Raises: SandboxFailure when it doesn't: the sandbox isn't deterministic, or lied one of the two times.
        """
        if not isinstance(answer, Paused) or answer.instructions != self.slices[index]:
            raise SandboxFailure(
                f"slice {index + 1} run again ended with {type(answer).__name__} after {answer.instructions} instructions; "
                f"the first time it paused after {self.slices[index]}"
            )
