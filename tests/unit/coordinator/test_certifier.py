"""Threshold signatures of a round: one verification for all, single shares only when that fails."""

from __future__ import annotations

import pytest

from ic_types import bls
from ic_types.errors import CertificationError
from subnet.coordinator import certifier
from subnet.coordinator.certifier import SigningTask, root_message, sign_all

KEY, SHARES = bls.deal(b"seed", 4, 3)
SHARE_KEYS = {index: bls.public_key(share) for index, share in enumerate(SHARES, 1)}


def task(message: bytes, wrong: tuple[int, ...] = (), *, count: int = 4) -> SigningTask:
    """A signing in which some nodes sign something else."""
    signed = [(index, bls.sign(share, b"else" if index in wrong else message)) for index, share in enumerate(SHARES[:count], 1)]
    return SigningTask(
        what="state root of subnet app", key=KEY, message=message, threshold=3, shares=signed, share_keys=lambda: SHARE_KEYS
    )


def test_good_shares_make_signatures_without_being_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """All signatures are verified in one go."""
    monkeypatch.setattr(bls, "verify", None)
    made = sign_all([task(b"one"), task(b"two")])
    monkeypatch.undo()
    for message, one in zip((b"one", b"two"), made, strict=True):
        assert bls.verify(KEY, message, one.signature)
        assert one.wrong == ()


def test_a_wrong_share_is_found_and_left_out() -> None:
    """The other tasks' signatures are the same as ever."""
    made = sign_all([task(b"one"), task(b"two", wrong=(2,))])
    assert made[0] == sign_all([task(b"one")])[0]
    assert made[1].wrong == (2,)
    assert bls.verify(KEY, b"two", made[1].signature)


def test_everybodys_share_has_its_turn() -> None:
    """The fourth node's wrong share isn't needed for a signature, but it is found when the turn comes to it."""
    found = [sign_all([task(b"one", wrong=(4,))], turn)[0] for turn in range(8)]
    assert [one.wrong for one in found] == 2 * [(), (4,), (4,), (4,)]
    assert len({one.signature for one in found}) == 1


def test_a_share_that_is_no_point_is_found_and_left_out() -> None:
    """Garbage of a node doesn't stop its subnet."""
    good = task(b"one")
    shares = [(1, bytes(48)), *good.shares[1:]]
    (made,) = sign_all([SigningTask(what="x", key=KEY, message=b"one", threshold=3, shares=shares, share_keys=good.share_keys)])
    assert made.wrong == (1,)
    assert bls.verify(KEY, b"one", made.signature)


def test_too_few_good_shares_are_an_error_that_names_the_task_and_the_nodes() -> None:
    """Two wrong ones of four leave two, three are needed."""
    with pytest.raises(
        CertificationError, match=r"state root of subnet app: .*\[1, 3\] are wrong; 2 good ones are left, 3 are needed"
    ):
        sign_all([task(b"one", wrong=(1, 3))])
    with pytest.raises(CertificationError, match="2 signature shares, 3 are needed"):
        sign_all([task(b"one", count=2)])


def test_roots_are_signed_in_the_domain_of_certificates() -> None:
    """Spec: interface spec, "Certificate"."""
    assert root_message(b"root") == b"\x0dic-state-rootroot"
    assert certifier.ROOT_DOMAIN == "ic-state-root"
