"""The arithmetic of slices, without any Wasm."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types.reject import ErrorCode
from sandbox.slices import Slices
from sandbox.system_api.traps import CanisterTrap


def test_unsliced_message_has_one_slice() -> None:
    """Where slice and message limit are equal, running out ends the message."""
    slices = Slices()
    assert slices.start(1000, 1000) == 1000
    assert slices.executed(400) == 600
    with pytest.raises(CanisterTrap) as caught:
        slices.end_slice(-1)
    assert caught.value.code is ErrorCode.CANISTER_INSTRUCTION_LIMIT_EXCEEDED


def test_overshoot_shortens_the_next_slice() -> None:
    """What a slice takes beyond its limit is carried over."""
    slices = Slices()
    slices.start(1000, 300)
    assert slices.end_slice(-20) == 280
    assert slices.executed_before == 320
    assert slices.end_slice(-1) == 299
    assert slices.end_slice(-1) == 1000 - 320 - 281 - 300


def test_overshoot_of_a_whole_slice_fails() -> None:
    """Nothing would be left of the next slice."""
    slices = Slices()
    slices.start(10_000, 300)
    with pytest.raises(CanisterTrap, match="used 600 instructions and exceeded the slice limit 300"):
        slices.end_slice(-300)


def test_number_of_slices_is_bounded() -> None:
    """At most twice as many slices as fit, between 4 and 400."""
    slices = Slices()
    slices.start(40_000_000_000, 2_000_000_000)
    assert slices.number_left == 40
    slices.start(40_000_000_000, 1_000)
    assert slices.number_left == 400
    slices.start(1000, 999)
    assert slices.number_left == 4


@settings(deadline=None)
@given(
    message_limit=st.integers(1, 10_000),
    slice_limit=st.integers(1, 3000),
    overshoots=st.lists(st.integers(1, 400), min_size=1, max_size=50),
)
def test_executed_never_exceeds_the_limit(message_limit: int, slice_limit: int, overshoots: list[int]) -> None:
    """Slices never begin with more than is left, and the count stays within the message's limit."""
    slices = Slices()
    counter = slices.start(message_limit, slice_limit)
    assert 0 < counter <= message_limit
    executed = 0
    for overshoot in overshoots:
        executed += counter + overshoot
        try:
            counter = slices.end_slice(-overshoot)
        except CanisterTrap:
            assert slices.executed(-overshoot) == min(executed, message_limit)
            return
        assert slices.executed_before == executed
        assert 0 < counter <= min(slice_limit, message_limit - executed)
