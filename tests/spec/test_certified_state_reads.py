"""Abstract behaviour, "Certified state reads": `may_read_path_for_canister` and `may_read_path_for_subnet`."""

from __future__ import annotations

from typing import Any

import pytest

from ic_types.principal import MANAGEMENT_CANISTER, Principal
from subnet.certification.read_state import KnownState, ReadRefused, readable_paths
from subnet.protocol import ReadState

HERE, OTHER = Principal.canister(1), Principal.canister(2)
ROOT, APP = Principal(b"root subnet\x02"), Principal(b"app subnet\x02")
USER, STRANGER, CONTROLLER = Principal(b"\x01user\x02"), Principal(b"\x01stranger\x02"), Principal(b"\x01controller\x02")
ASKED, UNKNOWN, MANAGED, CREATED = bytes(32), bytes(31) + b"\1", bytes(31) + b"\2", bytes(31) + b"\3"
OWNERS = {ASKED: (USER, HERE, None), MANAGED: (USER, MANAGEMENT_CANISTER, HERE), CREATED: (USER, MANAGEMENT_CANISTER, None)}

KNOWN = KnownState(
    root=ROOT,
    subnets=(ROOT, APP),
    request_owner=OWNERS.get,
    is_hidden=lambda canister, name, user: canister == HERE and name == "private" and user != CONTROLLER,
)


def read(*paths: tuple[bytes, ...], sender: Principal = USER, **fields: Any) -> list[tuple[bytes, ...]]:
    """What is revealed of these paths at HERE."""
    given = {"cookie": 0, "effective_id": HERE, "at_subnet": False, "version": 3, "targets": None, **fields}
    return readable_paths(ReadState(sender=sender, paths=paths, **given), KNOWN)


def refused(*paths: tuple[bytes, ...], **fields: Any) -> int:
    """The HTTP status of the refusal."""
    with pytest.raises(ReadRefused) as caught:
        read(*paths, **fields)
    return caught.value.http_status


@pytest.mark.spec("certified-state-reads", condition=1)
def test_everybody_may_read() -> None:
    """Time, subnets, their keys, types and nodes."""
    fields = (b"public_key", b"type", b"node")
    open_ = [(b"subnet", APP, name) for name in fields] + [(b"subnet", APP, b"node", b"n", b"public_key")]
    assert read((b"time",), *open_, sender=STRANGER) == [(b"time",), *open_]
    assert [path[2] for path in read((b"subnet", APP), sender=STRANGER)] == [b"public_key", b"type", b"node", b"metrics"]
    for odd in ((b"secret",), (b"canister", HERE), (b"canister", HERE, b"balance"), (b"subnet", APP, b"keys"), ()):
        assert refused(odd) == 404


@pytest.mark.spec("certified-state-reads", condition=2)
def test_request_status_is_for_its_sender() -> None:
    """Others learn nothing; of a request that isn't known everybody may prove just that."""
    assert read((b"request_status", ASKED, b"reply")) == [(b"request_status", ASKED)]
    assert refused((b"request_status", ASKED), sender=STRANGER) == 403
    assert read((b"request_status", UNKNOWN), sender=STRANGER) == [(b"request_status", UNKNOWN)]
    assert refused((b"request_status", bytes(31))) == 400
    assert refused((b"request_status", ASKED), (b"request_status", UNKNOWN)) == 400


@pytest.mark.spec("certified-state-reads", condition=3)
def test_request_status_at_its_own_place() -> None:
    """ECID = ECID': the canister that the request was sent to, or that a call of the management canister is about, if any."""
    for asked in (ASKED, MANAGED):
        assert read((b"request_status", asked), effective_id=HERE)
        assert refused((b"request_status", asked), effective_id=OTHER) == 403
    assert read((b"request_status", CREATED), effective_id=OTHER)


@pytest.mark.spec("certified-state-reads", condition=4)
def test_delegation_targets() -> None:
    """A delegation reads what its targets were asked."""
    assert read((b"request_status", ASKED), targets=(HERE, OTHER))
    assert refused((b"request_status", ASKED), targets=(OTHER,)) == 403


@pytest.mark.spec("certified-state-reads", condition=5)
def test_canister_of_the_url() -> None:
    """cid = ECID for everything below /canister; none of it at a subnet."""
    for field in (b"module_hash", b"controllers", b"canister_creation_timestamp", b"last_install_timestamp"):
        assert read((b"canister", HERE, field), sender=STRANGER) == [(b"canister", HERE, field)]
        assert refused((b"canister", OTHER, field)) == 400
        assert refused((b"canister", HERE, field), effective_id=APP, at_subnet=True) == 404


@pytest.mark.spec("certified-state-reads", condition=6)
def test_private_sections_are_for_controllers() -> None:
    """Public ones, and those that don't exist, are for everyone; a name is UTF-8."""
    for name in (b"public", b"none"):
        assert read((b"canister", HERE, b"metadata", name), sender=STRANGER)
    assert read((b"canister", HERE, b"metadata", b"private"), sender=CONTROLLER)
    assert refused((b"canister", HERE, b"metadata", b"private")) == 403
    assert refused((b"canister", HERE, b"metadata", b"\xff")) == 400


@pytest.mark.spec("certified-state-reads", condition=7)
def test_ranges_below_subnet() -> None:
    """Only those of the root subnet are shown there; version 2 shows all."""
    paths = [(b"subnet", subnet, b"canister_ranges") for subnet in (ROOT, APP)]
    assert read(*paths) == paths[:1]
    assert read(*paths, version=2) == paths
    shown = [path for path in read((b"subnet",)) if path[-1] == b"canister_ranges"]
    assert shown == paths[:1]


@pytest.mark.spec("certified-state-reads", condition=8)
def test_metrics_and_ranges_at_a_subnet() -> None:
    """Metrics of the subnet in the URL, and ranges in their own tree, at subnet endpoints only."""
    at = {"effective_id": APP, "at_subnet": True}
    assert read((b"subnet", APP, b"metrics"), **at) == [(b"subnet", APP, b"metrics")]
    assert refused((b"subnet", ROOT, b"metrics"), **at) == 404
    assert refused((b"subnet", APP, b"metrics")) == 404
    assert read((b"canister_ranges", APP), **at) == [(b"canister_ranges", APP)]
    assert refused((b"canister_ranges", APP)) == 404
    assert refused((b"canister_ranges", APP), (b"canister_ranges", ROOT), **at) == 400
