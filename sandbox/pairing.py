"""Which reply belongs to which request.

Rule module. Each request is answered by one reply of its kind; anything else is no honest sandbox's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from ic_types.errors import SandboxFailure
from sandbox.requests import Abort, Aborted, Execute, Executed, Open, Opened, Reset, ResetDone, Resume, Settled

Request: TypeAlias = Open | Execute | Settled | Resume | Abort | Reset
Reply: TypeAlias = Opened | Executed | Aborted | ResetDone
_REPLY_TO: Final[dict[type, type]] = {
    Open: Opened,
    Reset: ResetDone,
    Execute: Executed,
    Settled: Executed,
    Resume: Executed,
    Abort: Aborted,
}


def the_one(kind: type[Reply], replies: Sequence[Reply]) -> Reply:
    """The only reply, which is of this kind.

    Raises: SandboxFailure.
    """
    if type(replies[0]) is not kind:
        raise SandboxFailure(f"impossible answer: {type(replies[0]).__name__} instead of {kind.__name__}")
    return replies[0]


def the_last(requests: Sequence[Request], replies: Sequence[Reply]) -> Reply:
    """The reply to the last of these requests, all of which were answered by their kind.

    Raises: SandboxFailure.
    """
    for request, reply in zip(requests, replies, strict=True):
        if type(reply) is not _REPLY_TO[type(request)]:
            raise SandboxFailure(f"impossible answer: {type(reply).__name__} to {type(request).__name__}")
    return replies[-1]
