"""Errors for bad input from outside; protocol outcomes are values, bugs are assertions.

IcsimError
├── BadInput            the user's fault: exit code 2, one message naming culprit and remedy
│   ├── InvalidPrincipal
│   ├── ConfigError     topology or profile file
│   ├── CandidError     text or binary Candid
│   ├── InvalidWasm     module refused (IC0505)
│   └── EnvelopeError   ingress or query envelope
│       └── EnvelopeTooLarge
├── WireError           a message between our processes is malformed
├── CertificationError  signature, witness or slice doesn't verify
├── SandboxFailure      a sandbox died or lied; local, never a state change
│   └── SandboxDied     its process is gone; somebody may have killed it
├── DivergenceError     two nodes of a subnet differ: exit code 3
└── NetworkError        the running network can't do it (gone, busy, stopped): exit code 1
"""

from __future__ import annotations


class IcsimError(Exception):
    """Base of every error that icsim reports without a traceback."""

    exit_code = 1


class BadInput(IcsimError):
    """Something the user gave is wrong; the message names what, where and what is allowed."""

    exit_code = 2


class InvalidPrincipal(BadInput):
    """Not a principal."""


class ConfigError(BadInput):
    """A topology, profile or setting is wrong."""


class CandidError(BadInput):
    """Candid text or bytes are malformed or of the wrong type."""


class InvalidWasm(BadInput):
    """A module breaks a validation rule (surfaces to canister users as IC0505)."""


class EnvelopeError(BadInput):
    """A signed request is malformed, expired or its signature is wrong."""


class EnvelopeTooLarge(EnvelopeError):
    """A signed request has more bytes than its subnet takes."""


class WireError(IcsimError):
    """A message between our own processes has the wrong version, type or form."""


class CertificationError(IcsimError):
    """A certificate, witness or certified slice doesn't verify."""


class SandboxFailure(IcsimError):
    """A sandbox died, hung or gave an answer that no honest sandbox can give."""


class SandboxDied(SandboxFailure):
    """The process of a sandbox is gone; nothing says that it did anything wrong."""


class DivergenceError(IcsimError):
    """Nodes of one subnet disagree on the state after the same batch."""

    exit_code = 3


class NetworkError(IcsimError):
    """The running network can't do what was asked."""
