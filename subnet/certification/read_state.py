"""Which parts of the state a user may read, and what a certificate reveals of them.

Rule module. Spec: interface spec, "Request: Read state"; statuses and texts are the replica's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ic_types.principal import CanisterId, Principal, SubnetId
from subnet.certification.state_tree import BOUNDARY_NODES, CANISTER, CANISTER_RANGES, REQUEST_STATUS, SUBNET, TIME
from subnet.protocol import ReadState

MAX_PATHS = 1000
MAX_LABELS = 127
REQUEST_ID_BYTES = 32
_STATUS_FIELDS = (b"status", b"reply", b"reject_code", b"reject_message", b"error_code")
_CANISTER_FIELDS = (b"module_hash", b"controllers", b"canister_creation_timestamp", b"last_install_timestamp")
_SUBNET_FIELDS = (b"public_key", b"type", b"node", b"metrics", b"canister_ranges")
_BOUNDARY_FIELDS = (b"domain", b"ipv4_address", b"ipv6_address")

Path = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ReadRefused(Exception):
    """The request can't be answered; the HTTP status and text of the answer."""

    http_status: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownState:
    """What the rules have to know of a subnet's state."""

    root: SubnetId
    subnets: tuple[SubnetId, ...]
    request_owner: Callable[[bytes], tuple[Principal, CanisterId, Principal | None] | None]
    """Sender, receiver and effective id of an ingress message that the history knows."""
    is_hidden: Callable[[CanisterId, str, Principal], bool]
    """Whether a canister has a private custom section of this name, and the user isn't one of its controllers."""


def readable_paths(request: ReadState, known: KnownState) -> list[Path]:
    """The paths to be revealed: those that were asked for, without what the endpoint doesn't show.

    Raises: ReadRefused when one of them may not be read.
    """
    check_size(request.paths)
    found: list[Path] = []
    ids: dict[bytes, None] = {}
    ranges: dict[bytes, None] = {}
    for path in request.paths:
        match path:
            case (b"time",):
                found.append((TIME,))
            case (b"api_boundary_nodes", *rest) if len(rest) < 2 or (len(rest) == 2 and rest[1] in _BOUNDARY_FIELDS):
                found.append((BOUNDARY_NODES, *rest))
            case (b"request_status", message_id, *rest) if not rest or (len(rest) == 1 and rest[0] in _STATUS_FIELDS):
                _check_request_status(request, message_id, known)
                ids[message_id] = None
                # All of it: that a reject has no error code, for one, must be provable.
                found.append((REQUEST_STATUS, message_id))
            case (b"canister", canister_id, *rest) if _is_canister_path(rest):
                _check_canister(request, canister_id, rest, known)
                found.append((CANISTER, canister_id, *rest))
            case (b"canister_ranges", subnet) if request.at_subnet:
                ranges[subnet] = None
                found.append((CANISTER_RANGES, subnet))
            case (b"subnet", *rest) if _is_subnet_path(request, rest):
                found += _subnet_paths(request, rest, known)
            case _:
                raise ReadRefused(404, "Invalid path requested.")
    if len(ids) > 1:
        raise ReadRefused(400, "Can only request a single request ID in request_status paths.")
    if len(ranges) > 1:
        raise ReadRefused(400, "Can only request a single subnet ID in canister_ranges paths.")
    return found


def check_size(paths: tuple[Path, ...]) -> None:
    """Raises: ReadRefused for too many paths, or one that is too deep."""
    if len(paths) > MAX_PATHS:
        raise ReadRefused(
            400, f"Too many paths in read state request: got {len(paths)} paths, but at most {MAX_PATHS} are allowed."
        )
    deepest = max(map(len, paths), default=0)
    if deepest > MAX_LABELS:
        raise ReadRefused(
            400,
            f"At least one path in read state request is too deep: got {deepest} labels, but at most {MAX_LABELS} are allowed.",
        )


def _check_request_status(request: ReadState, message_id: bytes, known: KnownState) -> None:
    if len(message_id) != REQUEST_ID_BYTES:
        raise ReadRefused(400, f"Invalid request id: {len(message_id)} bytes, expected {REQUEST_ID_BYTES}.")
    owner = known.request_owner(message_id)
    if owner is None:
        return
    sender, receiver, effective = owner
    meant = receiver or effective
    if sender != request.sender:
        raise ReadRefused(403, "The user tries to access Request ID not signed by the caller.")
    if request.targets is not None and receiver not in request.targets:
        raise ReadRefused(403, "The user tries to access request IDs for canisters not belonging to sender delegation targets.")
    if meant and not request.at_subnet and meant != request.effective_id:
        raise ReadRefused(
            403, f"The request was sent to {meant}, not to the effective canister id in URL {request.effective_id}."
        )


def _is_canister_path(rest: list[bytes]) -> bool:
    return (len(rest) == 1 and rest[0] in _CANISTER_FIELDS) or (len(rest) == 2 and rest[0] == b"metadata")


def _check_canister(request: ReadState, canister_id: bytes, rest: list[bytes], known: KnownState) -> None:
    if request.at_subnet:
        raise ReadRefused(404, "Invalid path requested.")
    if canister_id != request.effective_id:
        named = Principal(canister_id).to_text() if len(canister_id) <= 29 else canister_id.hex()
        raise ReadRefused(
            400, f"Effective principal id in URL {request.effective_id} does not match requested principal id: {named}."
        )
    if rest[0] != b"metadata":
        return
    try:
        name = rest[1].decode()
    except UnicodeDecodeError:
        raise ReadRefused(400, "Custom section name is not a valid utf-8 string.") from None
    if known.is_hidden(request.effective_id, name, request.sender):
        raise ReadRefused(403, f"Custom section {name:.100} can only be requested by the controllers of the canister.")


def _is_subnet_path(request: ReadState, rest: list[bytes]) -> bool:
    match rest:
        case [] | [_]:
            return True
        case [subnet, b"metrics"]:
            return request.at_subnet and subnet == request.effective_id
        case [_, b"public_key" | b"type" | b"node" | b"canister_ranges"] | [_, b"node", _] | [_, b"node", _, b"public_key"]:
            return True
        case _:
            return False


def _subnet_paths(request: ReadState, rest: list[bytes], known: KnownState) -> list[Path]:
    """From version 3 on only the root subnet's ranges are shown here; others have a tree of their own."""
    shown = [subnet for subnet in known.subnets if request.version == 2 or subnet == known.root]
    match rest:
        case [subnet, b"canister_ranges"] if subnet in known.subnets:
            return [(SUBNET, subnet, b"canister_ranges")] if subnet in shown else []
        case [] | [_]:
            wanted = known.subnets if not rest else tuple(one for one in known.subnets if one == rest[0])
            if not wanted:
                return [(SUBNET, *rest)]
            return [
                (SUBNET, subnet, name)
                for subnet in wanted
                for name in _SUBNET_FIELDS
                if name != b"canister_ranges" or subnet in shown
            ]
        case _:
            return [(SUBNET, *rest)]
