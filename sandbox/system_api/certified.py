"""Certified data and the root key.

Rule module. Spec: System imports, `certified_data_set`, `data_certificate_*`, `root_key_*`; canister interface, "Certified
data".
"""

from __future__ import annotations

from typing import Final

from sandbox.system_api.availability import CQ, NRQ
from sandbox.system_api.message_state import MessageState
from sandbox.system_api.traps import contract_violation

MAX_CERTIFIED_DATA: Final = 32


def certified_data_set(s: MessageState, src: int, size: int) -> None:
    """Set the canister's certified data.

    Raises: CanisterTrap when it is longer than 32 bytes or out of bounds.
    """
    if size > MAX_CERTIFIED_DATA:
        raise contract_violation(
            f"ic0_certified_data_set failed because the passed data must be no larger than 32 bytes. Found {size} bytes",
            toolchain=False,
        )
    if src + size > s.heap_bytes:
        raise contract_violation(
            f"ic0_certified_data_set failed because src + size is out of bounds. Found src = {src} and size = {size} while src "
            f"+ size must be <= {s.heap_bytes}"
        )
    s.certified_data = bytes(s.heap[src : src + size])


def data_certificate_present(s: MessageState) -> int:
    """1 if a certificate can be read, else 0."""
    return int(bool(s.mode & (NRQ | CQ)) and s.input.data_certificate is not None)


def data_certificate_size(s: MessageState) -> int:
    """Length of the certificate; traps without one."""
    return len(_certificate(s, "data_certificate_size"))


def data_certificate_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the certificate; traps without one."""
    certificate = _certificate(s, "data_certificate_copy")
    s.copy_to_canister("data_certificate_copy", "certificate", dst, offset, size, certificate)


def root_key_size(s: MessageState) -> int:
    """Length of the root subnet's public key (DER)."""
    return len(s.environment.root_key)


def root_key_copy(s: MessageState, dst: int, offset: int, size: int) -> None:
    """Copy a part of the root subnet's public key."""
    s.copy_to_canister("root_key_copy", "key", dst, offset, size, s.environment.root_key)


def _certificate(s: MessageState, name: str) -> bytes:
    if s.input.data_certificate is None:
        raise contract_violation(f'"ic0_{name}" cannot be executed without a data certificate', toolchain=False)
    return s.input.data_certificate


FUNCTIONS: Final = (
    certified_data_set, data_certificate_present, data_certificate_size, data_certificate_copy, root_key_size, root_key_copy,
)  # fmt: skip
