"""Prices of a subnet of 13 nodes, in cycles, as the interface specification's "Cycles cost" and the replica have them."""

from __future__ import annotations

MESSAGE_BASE = 5_000_000
"""Of every execution; an instruction costs 1."""
LARGEST_RESPONSE = 2 << 20
TRANSMISSION = 1_000
"""Per byte of a request's method name and argument, or of a response's data or text."""
CREATION = 500_000_000_000


def execution(instructions: int) -> int:
    """What is paid for this many instructions, or prepaid for a limit."""
    return MESSAGE_BASE + instructions


def request(payload: int) -> int:
    """Sending a request."""
    return 260_000 + TRANSMISSION * payload


def call(payload: int, message_limit: int) -> int:
    """All that call_perform takes: the request, the largest response, and the callback's execution."""
    return request(payload) + TRANSMISSION * LARGEST_RESPONSE + execution(message_limit)


def ingress(envelope: int) -> int:
    """Induction of a user's message, by the bytes of its envelope."""
    return 1_200_000 + 2_000 * envelope
