"""The state hash keeps encoded calls from round to round; what it hashes must not depend on that."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ic_types import canonical
from ic_types.canonical import Encoded
from ic_types.principal import Principal
from ic_types.units import Cycles, NumInstructions, TimeNs
from scheduler.canister import CallContext, IngressOrigin
from subnet.state.encoded_records import EncodedRecords

ORIGIN = IngressOrigin(b"m" * 32, Principal(b"\x04"))
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(["new", "gone", "responded", "spent", "called", "nothing"]), st.integers(0, 9)
    ),
    max_size=40,
)


def test_encoded_bytes_stand_for_their_value() -> None:
    """A value and its encoded form hash alike, in sequences and as values of maps."""
    plain = {1: (b"a", 2), 2: (b"b", 3)}
    assert canonical.encode({key: Encoded(canonical.encode(value)) for key, value in plain.items()}) == canonical.encode(plain)
    assert canonical.digest(Encoded(canonical.encode("x")), 1) == canonical.digest("x", 1)


@settings(deadline=None)
@given(CHANGES)
def test_kept_encodings_are_those_of_the_records_as_they_are(changes: list[tuple[int, str, int]]) -> None:
    """Whatever changes, comes and goes between two looks, the bytes are those of the records encoded anew."""
    kept, records = EncodedRecords(CallContext), dict[int, CallContext]()
    for key, change, amount in changes:
        record = records.get(key)
        if change == "new" or record is None:
            records[key] = CallContext(key, ORIGIN, Cycles(amount), TimeNs(amount))  # type: ignore[arg-type]
        elif change == "gone":
            del records[key]
        elif change == "responded":
            record.responded, record.available_cycles = True, Cycles(0)
        elif change == "spent":
            record.instructions = NumInstructions(record.instructions + amount)
        elif change == "called":
            record.outstanding_calls += 1
        assert canonical.encode(kept.of(records)) == canonical.encode(records)
        assert list(kept.of(records)) == list(records)


def test_a_record_that_stays_is_not_encoded_again() -> None:
    """The same bytes object is given as long as no field differs."""
    kept, record = EncodedRecords(CallContext), CallContext(1, ORIGIN, Cycles(5), TimeNs(0))  # type: ignore[arg-type]
    first = kept.of({1: record})[1]
    assert kept.of({1: record})[1] is first
    record.outstanding_calls = 2
    assert kept.of({1: record})[1] is not first
