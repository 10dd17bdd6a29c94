"""The running network that a command acts on.

Plumbing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from subnet.control import Advertised, ControlClient, find_network
from subnet.lab.calls import Caller
from subnet.lab.run_dir import home, read_run_file


@dataclass(frozen=True, slots=True)
class Connection:
    """A network and the line to it."""

    entry: Advertised
    client: ControlClient

    def caller(self) -> Caller:
        """For calls to its canisters."""
        return Caller(self.client, read_run_file(Path(self.entry.out_dir) if self.entry.out_dir else None))


@contextlib.contextmanager
def connected(which: str | None) -> Iterator[Connection]:
    """The network that --dir names, or the only one running.

    Raises: NetworkError when there is none, or several.
    """
    entry = find_network(home(), which)
    with ControlClient(entry.socket_dir) as client:
        yield Connection(entry, client)
