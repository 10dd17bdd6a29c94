"""The keys of users by name, for everyone who signs for them: workload, CLI, Python API.

Rule module. Not in the spec: identities of a topology derive from its identity_seed, so runs repeat.
"""

from __future__ import annotations

from functools import lru_cache

from configs.topology import ANONYMOUS_NAME, key_seed
from ic_types.identity import AnonymousIdentity, Ed25519Identity, Identity


@lru_cache(maxsize=10_000)
def identity_named(identity_seed: int, name: str) -> Identity:
    """The identity that a topology calls `name`."""
    if name == ANONYMOUS_NAME:
        return AnonymousIdentity()
    return Ed25519Identity(key_seed(identity_seed, f"identity {name}"))
