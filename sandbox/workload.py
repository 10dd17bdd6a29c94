"""Which sandboxes compute now, which may, and which have to wait.

Rule module. Not in the spec: `--jobs` bounds how many sandboxes of a node compute at once. One computes while a message is
asked of it, and while it runs messages ahead that nobody has asked for yet.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sandbox.line import Line


@dataclass(slots=True)
class Workload:
    """The lines of a node, by what they are at."""

    most: int
    """Sandboxes that may compute at once."""
    waiting: deque[Line] = field(default_factory=deque)
    """Something is asked of them, but there is no room."""
    queries: deque[Line] = field(default_factory=deque)
    """The same of queries, which go last and leave rounds one sandbox, if there may be several."""
    asked: dict[Line, None] = field(default_factory=dict)
    """Something is asked of them, and under way."""
    _ahead: dict[Line, None] = field(default_factory=dict)
    """Were sent messages ahead, and perhaps have answered them by now."""

    def wait(self, line: Line) -> None:
        """Something is asked of this line."""
        (self.queries if line.query else self.waiting).append(line)

    def next(self) -> Line | None:
        """The line that may begin now; one that computes already needs no further room."""
        if self.waiting:
            return self.waiting.popleft() if self.waiting[0] in self._ahead or self._has_room() else None
        if self.queries and self._has_room() and sum(line.query for line in self.asked) < max(self.most - 1, 1):
            return self.queries.popleft()
        return None

    def may_run_ahead(self, line: Line) -> bool:
        """Whether its sandbox may be sent messages that nobody has asked for yet: never at the cost of others."""
        return not self.waiting and not self.queries and (line in self._ahead or line in self.asked or self._has_room())

    def sent_ahead(self, line: Line) -> None:
        """Messages were sent ahead."""
        self._ahead[line] = None

    def computing(self) -> list[Line]:
        """Lines whose sandboxes owe replies."""
        return [line for line in {**self.asked, **self._ahead} if line.expected]

    def _has_room(self) -> bool:
        if not self._ahead:
            return len(self.asked) < self.most
        for line in [line for line in self._ahead if line.process is None or not line.conversation.flights]:
            del self._ahead[line]
        return len({**self.asked, **self._ahead}) < self.most
