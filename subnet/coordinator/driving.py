"""The drivers in a row: first the installs, then the workload; and which message belongs to whom.

Rule module.
"""

from __future__ import annotations

from collections.abc import Callable

from subnet.coordinator.bootstrap import Bootstrap
from subnet.coordinator.driver import Driver, DriverCall, DriverQuery
from subnet.coordinator.workload import Workload
from subnet.protocol import IngressOutcome, QueryReply


class Driving:
    """What the network does by itself."""

    def __init__(self, bootstrap: Bootstrap, workload: Workload) -> None:
        self.bootstrap = bootstrap
        self.workload = workload
        self._by_message: dict[bytes, tuple[Driver, int]] = {}
        self.open_queries = 0

    @property
    def installed(self) -> bool:
        """The topology's canisters are there."""
        return self.bootstrap.finished

    @property
    def finished(self) -> bool:
        """Installs and workload are over."""
        return self.bootstrap.finished and self.workload.finished

    @property
    def will_send(self) -> bool:
        """More will be sent even if nothing is answered."""
        return self.bootstrap.will_send or (self.bootstrap.finished and self.workload.will_send)

    @property
    def problem(self) -> str | None:
        """Why the network can't become what the topology says."""
        return self.bootstrap.problem

    def send(
        self, height: int, now: int, submit: Callable[[DriverCall], bytes], ask: Callable[[DriverQuery, int], None]
    ) -> None:
        """Submit what is due before the batch of this height, when it is `now`; `submit` gives the message id."""
        driver: Driver = self.workload if self.bootstrap.finished else self.bootstrap
        if driver.finished:
            return
        calls, queries = driver.calls(height, now)
        for call in calls:
            self._by_message[submit(call)] = (driver, call.token)
        self.open_queries += len(queries)
        for query in queries:
            ask(query, height)

    def sending(self) -> str:
        """What is being sent, for messages about what went wrong."""
        return "the workload's call is refused" if self.bootstrap.finished else self.bootstrap.sending()

    def prepare(self, height: int, now: int) -> None:
        """Do ahead what can be done ahead for this height, while the nodes are busy; it will be `now` then."""
        if self.bootstrap.finished:
            self.workload.prepare(height, now)

    def answered(self, outcome: IngressOutcome, height: int) -> None:
        """A message has an outcome; those of other senders are passed over."""
        found = self._by_message.pop(outcome.message_id, None)
        if found is not None:
            found[0].answered(found[1], outcome, height)

    def expired(self, message_id: bytes, height: int) -> None:
        """A message expired before a batch took it."""
        text = "the call expired before a batch took it"
        self.answered(IngressOutcome(message_id=message_id, status="rejected", reject_code=2, reject_message=text), height)

    def query_answered(self, token: int, reply: QueryReply, height: int) -> None:
        """A query of the workload has an outcome."""
        self.open_queries -= 1
        self.workload.answered(token, reply, height)
