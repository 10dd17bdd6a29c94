"""Threshold signatures from the shares of the nodes: over state roots and for the random tape.

Rule module. All of a round's signatures are combined without looking at single shares and verified together; only when that
fails are the shares checked one by one, and nodes with wrong ones are named. Spec: interface spec, "Certificate".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ic_types import bls, trace
from ic_types.errors import CertificationError

ROOT_DOMAIN = bls.STATE_ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningTask:
    """One signature to be made."""

    what: str
    """For messages: subnet and purpose."""
    key: bytes
    message: bytes
    threshold: int
    shares: Sequence[tuple[int, bytes]]
    """Node index (from 1) and share."""
    share_keys: Callable[[], Mapping[int, bytes]]
    """Public keys of the shares; computed only when shares have to be checked."""


def root_message(root_hash: bytes) -> bytes:
    """What nodes sign to certify a state."""
    return bls.with_domain(ROOT_DOMAIN, root_hash)


def sign_all(tasks: Sequence[SigningTask], turn: int = 0) -> list[bls.Combined]:
    """The signatures of all tasks, verified, and per task the nodes whose shares were wrong.

    Only as many shares as are needed are looked at. `turn` says with whose they begin, so that in time everybody's are.

    Raises: CertificationError when a task has too few good shares.
    """
    trace.emit("subnet.coordinator.certifier.sign_all", b"", f"{len(tasks)} signatures")
    try:
        signatures = [bls.combine(task.threshold, _in_turn(task, turn)) for task in tasks]
    except CertificationError:
        return [_sign_carefully(task, turn) for task in tasks]
    if bls.verify_many([(task.key, task.message, made) for task, made in zip(tasks, signatures, strict=True)]):
        return [bls.Combined(signature) for signature in signatures]
    return [_sign_carefully(task, turn) for task in tasks]


def _in_turn(task: SigningTask, turn: int) -> Sequence[tuple[int, bytes]]:
    start = turn % max(1, len(task.shares))
    return (*task.shares[start:], *task.shares[:start])[: task.threshold]


def _sign_carefully(task: SigningTask, turn: int) -> bls.Combined:
    try:
        return bls.combine_and_verify(
            task.key, task.message, task.threshold, task.shares, task.share_keys(), _in_turn(task, turn)
        )
    except CertificationError as error:
        raise CertificationError(f"{task.what}: {error}") from error
