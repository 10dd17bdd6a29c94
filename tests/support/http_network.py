"""A live network with a gateway, for tests of the HTTP interface."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cli_runs import icsim, wait_until_nothing_is_left, write
from tests.support.raw_http import RawClient

TOPOLOGY = """
name = "web"
profile = "minimal"
identities = ["minter", "alice"]

[[subnet]]
name = "nns"
type = "system"
nodes = 1

[[subnet]]
name = "app"
type = "application"
nodes = 2

[[canister]]
name = "counter"
wasm = "counter.wasm"
subnet = "nns"

[[canister]]
name = "ledger"
wasm = "ledger.wasm"
subnet = "app"
init = '(record { symbol = "GOLD"; minter = {identity:minter} })'

[[canister]]
name = "assets"
wasm = "assets.wasm"
subnet = "app"

[[canister]]
name = "universal"
wasm = "universal.wasm"
subnet = "app"
"""
"""The root subnet and another one."""


@dataclass(frozen=True, slots=True)
class HttpNetwork:
    """Where it is."""

    home: Path
    ready: dict[str, Any]

    @property
    def url(self) -> str:
        """Of the gateway."""
        return str(self.ready["url"])

    @property
    def root_key(self) -> bytes:
        """In DER."""
        return bytes.fromhex(self.ready["root_key"])

    def client(self) -> RawClient:
        """A connection of the test's own."""
        return RawClient(self.url)


@contextmanager
def http_network(home: Path, *options: str, topology: str = TOPOLOGY) -> Iterator[HttpNetwork]:
    """`icsim up` until the end of the block; nothing is left afterwards."""
    path = write(home, topology, "web.toml")
    up = icsim(
        home, "up", path, "--background", "--quiet", "--port", "0", "--ready-file", "ready.json", "--out", "out", *options
    )
    assert up.returncode == 0, up.stderr
    try:
        yield HttpNetwork(home, json.loads((home / "ready.json").read_text()))
    finally:
        icsim(home, "down", "--all")
        wait_until_nothing_is_left(home)


def now() -> int:
    """Nanoseconds since 1970, as live networks and agents have them."""
    return time.time_ns()
