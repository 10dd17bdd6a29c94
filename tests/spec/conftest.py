"""Fixtures for tests on real canisters: one node per module, checked after every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lone_node import helpers
from tests.support.spec_node import SpecNode


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """Launcher and compiler."""
    with helpers() as folder:
        yield folder


@pytest.fixture(scope="module")
def module_node(sockets: Path, request: pytest.FixtureRequest) -> Iterator[SpecNode]:
    """The module's node, with the keyword arguments in its NODE_OPTIONS."""
    node = SpecNode(sockets, **getattr(request.module, "NODE_OPTIONS", {}))
    yield node
    node.close()


@pytest.fixture
def node(module_node: SpecNode) -> Iterator[SpecNode]:
    """The module's node; after the test its invariants hold and no cycle is missing."""
    yield module_node
    module_node.check()
