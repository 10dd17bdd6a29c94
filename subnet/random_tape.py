"""The random tape: what the nodes of a subnet sign to draw the randomness of the next round.

Rule module. As the Internet Computer's random beacon, it is a chain of unique threshold signatures: the share for height
h+1 signs the randomness of h, so nobody knows it before a threshold of nodes has executed h. The chain starts from the run's
seed, hence another seed gives other values under the same keys. Not in the spec: which bytes are signed is left to us.
"""

from __future__ import annotations

import hashlib

from ic_types.principal import SubnetId

_TAPE_DOMAIN = b"icsim-random-tape"
_GENESIS_DOMAIN = b"icsim-genesis-tape"


def genesis_randomness(seed: bytes, subnet: SubnetId) -> bytes:
    """Randomness of height 1: 32 bytes from the run's seed."""
    return hashlib.sha256(bytes([len(_GENESIS_DOMAIN)]) + _GENESIS_DOMAIN + bytes(subnet) + seed).digest()


def tape_message(height: int, previous_randomness: bytes) -> bytes:
    """What a node signs for the randomness of `height`, given that of the height before."""
    return bytes([len(_TAPE_DOMAIN)]) + _TAPE_DOMAIN + height.to_bytes(8, "big") + previous_randomness


def randomness(signature: bytes) -> bytes:
    """32 bytes of randomness from the combined signature."""
    return hashlib.sha256(signature).digest()
