"""What the scenarios of the catalogue must note, by the specification, on every network.

A user's call is noted as ("reply", bytes) or ("reject", code, error code, first line of the text); numbers in replies are
reject codes and cycles of eight bytes each, little-endian.
"""

from __future__ import annotations

EXPECTED: dict[str, list[tuple[str, object]]] = {
    "echo": [("answer", ("reply", b"from b"))],
    "rejected": [
        ("answer", ("reply", b"\x04\x00\x00\x00\x00\x00\x00\x00not now")),
        ("passed on", ("reject", 4, "IC0406", "not now")),
    ],
    "nobody_and_nothing": [
        ("no canister", ("reply", b"\x03\x00\x00\x00\x00\x00\x00\x00\x84\x03\x00\x00\x00\x00\x00\x00")),
        ("no method", ("reply", b"\x05\x00\x00\x00\x00\x00\x00\x00\x84\x03\x00\x00\x00\x00\x00\x00")),
        ("user", ("reject", 5, "IC0536", "Error from Canister b: Canister has no update method 'nothing'.")),
    ],
    "no_answer": [
        ("caller", ("reply", b"\x05\x00\x00\x00\x00\x00\x00\x002\x00\x00\x00\x00\x00\x00\x00")),
        ("user", ("reject", 5, "IC0506", "Error from Canister b: Canister did not reply to the call")),
        ("passed on", ("reject", 4, "IC0406", "No response")),
    ],
    "answer_first": [
        ("answer", ("reply", b"at once")),
        ("kept", ("reply", b"later")),
        ("first", ("reply", b"first")),
        ("rolled back", ("reply", b"later")),
    ],
    "call_of_a_query": [("answer", ("reply", b"asked")), ("unchanged", ("reply", b""))],
    "composite_query_is_refused": [
        ("answer", ("reject", 4, "IC0406", "IC0527: Composite query cannot be called in replicated mode"))
    ],
    "self_calls": [("answer", ("reply", b"\x05\x00\x00\x00\x00\x00\x00\x00 end"))],
    "deep_chain": [("answer", ("reply", b"0123456789abc"))],
    "many_calls_keep_their_order": [
        ("answer", ("reply", b"sent")),
        ("a", ("reply", b"rrrrrrrrrrrrrrrrrrrr")),
        ("b", ("reply", b"0123456789")),
        ("c", ("reply", b"0123456789")),
    ],
    "cycles_accepted": [
        ("a part", ("reply", b",\x01\x00\x00\x00\x00\x00\x00\xbc\x02\x00\x00\x00\x00\x00\x00\xbc\x02\x00\x00\x00\x00\x00\x00")),
        ("all", ("reply", b"\xe8\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")),
    ],
    "cycles_of_rejects_and_traps": [
        ("reject", ("reply", b"\xbc\x02\x00\x00\x00\x00\x00\x00")),
        ("trap", ("reply", b"\xe8\x03\x00\x00\x00\x00\x00\x00")),
    ],
    "cycles_in_callbacks": [
        ("answer", ("reply", b"\x90\x01\x00\x00\x00\x00\x00\x00X\x02\x00\x00\x00\x00\x00\x00")),
        ("trap", ("reply", b"\xe8\x03\x00\x00\x00\x00\x00\x00")),
    ],
    "cycles_that_are_not_there": [
        ("answer", ("reject", 5, "IC0504", "Error from Canister a: Canister a is out of cycles")),
        ("rolled back", ("reply", b"")),
    ],
    "deposits_and_statuses": [
        ("deposit", ("reply", b"\x00\x00\x00\x00\x00\x00\x00\x00")),
        ("to nobody", ("reply", b"\x03\x00\x00\x00\x00\x00\x00\x00\xbc\x02\x00\x00\x00\x00\x00\x00")),
    ],
    "trap_before_the_call_is_made": [
        ("answer", ("reject", 5, "IC0503", "Error from Canister a: Canister called `ic0.trap` with message: 'too late'.")),
        ("a", ("reply", b"")),
        ("b", ("reply", b"")),
    ],
    "trap_in_a_callback": [
        (
            "answer",
            ("reject", 5, "IC0503", "Error from Canister a: Canister called `ic0.trap` with message: 'after the call'."),
        ),
        ("a", ("reply", b"before")),
        ("b", ("reply", b"called")),
    ],
    "cleanup": [
        ("answer", ("reject", 5, "IC0503", "Error from Canister a: Canister called `ic0.trap` with message: 'oh'.")),
        ("a", ("reply", b"before cleaned")),
        ("no trap", ("reply", b"fine")),
        ("not cleaned", ("reply", b"calm")),
    ],
    "cleanup_that_fails": [
        ("answer", ("reject", 5, "IC0503", "Error from Canister a: Canister called `ic0.trap` with message: 'first'.")),
        ("a", ("reply", b"before")),
        ("answer", ("reject", 5, "IC0503", "Error from Canister a: Canister called `ic0.trap` with message: 'first'.")),
        ("a", ("reply", b"before")),
    ],
    "trap_below": [
        ("answer", ("reject", 4, "IC0406", "IC0503: Error from Canister c: Canister called `ic0.trap` with message: 'below'."))
    ],
    "best_effort_in_time": [("answer", ("reply", b"\x00\x00\x00\x00\x00\x00\x00\x00Z\x00\x00\x00\x00\x00\x00\x00"))],
    "best_effort_expires": [
        ("answer", ("reply", b"\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")),
        ("started", ("reply", b"DIDL\x00\x00")),
        ("callee goes on", ("reply", b"here")),
    ],
    "best_effort_chain": [
        ("answer", ("reply", b"\x06\x00\x00\x00\x00\x00\x00\x00")),
        ("still open", True),
        ("started", ("reply", b"DIDL\x00\x00")),
        ("stopped", ("reply", b"DIDL\x00\x00")),
        ("started", ("reply", b"DIDL\x00\x00")),
        ("callback ran", ("reply", b"done")),
    ],
    "stopped_canisters": [
        ("set", ("reply", b"")),
        ("stop", ("reply", b"DIDL\x00\x00")),
        ("called", ("reply", b"\x05\x00\x00\x00\x00\x00\x00\x00F\x00\x00\x00\x00\x00\x00\x00")),
        ("start", ("reply", b"DIDL\x00\x00")),
        ("kept", ("reply", b"kept")),
    ],
    "stopping_waits_for_open_calls": [
        ("refused", ("reply", b"\x05\x00\x00\x00\x00\x00\x00\x00")),
        ("waits", True),
        ("release", ("reply", b"DIDL\x00\x00")),
        ("opened", ("reply", b"b done")),
        ("stopped", ("reply", b"DIDL\x00\x00")),
    ],
    "start_cancels_a_stop": [
        ("start", ("reply", b"DIDL\x00\x00")),
        ("stop", ("reject", 5, "IC0511", "Canister c's stop request was cancelled.")),
        ("opened", ("reply", b"on")),
    ],
    "stop_times_out": [
        ("stop", ("reject", 2, "IC0206", "Stop canister request timed out")),
        ("opened", ("reply", b"given up")),
    ],
    "upgrade_while_a_call_is_open": [
        ("upgrade", ("reply", b"DIDL\x00\x00")),
        ("release", ("reply", b"DIDL\x00\x00")),
        ("opened", ("reject", 5, "IC0506", "Error from Canister b: Canister did not reply to the call")),
        ("state", ("reply", b"new")),
    ],
    "failing_upgrade": [
        ("set", ("reply", b"")),
        ("pre_upgrade", ("reject", 5, "IC0503", "Error from Canister b: Canister called `ic0.trap` with message: 'not yet'.")),
        ("kept", ("reply", b"kept")),
        ("calm", ("reply", b"")),
        ("post_upgrade", ("reject", 5, "IC0503", "Error from Canister b: Canister called `ic0.trap` with message: 'nor now'.")),
        ("kept", ("reply", b"kept")),
    ],
    "uninstall_while_calls_are_open": [
        ("uninstall", ("reply", b"DIDL\x00\x00")),
        ("opened", ("reject", 4, "IC0406", "Canister has been uninstalled.")),
        ("waiting", ("reply", b"\x04\x00\x00\x00\x00\x00\x00\x00(\x00\x00\x00\x00\x00\x00\x00")),
        ("install", ("reply", b"DIDL\x00\x00")),
        ("release", ("reply", b"DIDL\x00\x00")),
        ("state", ("reply", b"new")),
    ],
    "deletion": [
        ("running", ("reject", 5, "IC0510", "Canister b must be stopped before it is deleted.")),
        ("still there", ("reply", b"yes")),
    ],
    "timers": [
        ("set", ("reply", b"")),
        ("fired once", ("reply", b"tick ")),
        ("called", ("reply", b"by timer")),
        ("set", ("reply", b"")),
        ("trapped", ("reply", b"tick ")),
    ],
    "heartbeats": [("install", ("reply", b"DIDL\x00\x00")), ("state", ("reply", b"beat"))],
    "long_computations": [
        ("answer", ("reply", b"\x01\x00\x00\x00\x00\x00\x00\x00 and back")),
        (
            "trap at the end",
            ("reject", 5, "IC0503", "Error from Canister a: Canister called `ic0.trap` with message: 'worn out'."),
        ),
        ("rolled back", ("reply", b"")),
    ],
}
