"""What clients ask of a running network about HTTPS outcalls; a part of the control protocol.

Rule module. See `control_protocol` for how requests travel.
"""

from __future__ import annotations

from dataclasses import dataclass

from ic_types import wire
from ic_types.consensus_calls import OutcallRequest
from ic_types.outcall_rule import OutcallRule
from ic_types.principal import SubnetId


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class SetOutcallRules:
    """Add rules for HTTPS outcalls, which stand before all others; answered by Done."""

    rules: tuple[OutcallRule, ...] = ()
    clear: bool = False
    """Drop the rules that were added before."""


@wire.message
@dataclass(frozen=True, slots=True)
class GetOutcalls:
    """Which HTTPS outcalls wait for a response; answered by OpenOutcalls."""


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOutcall:
    """An outcall without a response."""

    subnet: SubnetId
    request: OutcallRequest


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOutcalls:
    """Answer to GetOutcalls."""

    outcalls: tuple[OpenOutcall, ...]


@wire.message
@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOutcall:
    """Give the nodes responses to one open outcall, by rules for this one alone; answered by Done."""

    subnet: SubnetId
    call_id: int
    rules: tuple[OutcallRule, ...]
