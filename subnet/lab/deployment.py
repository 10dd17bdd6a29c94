"""Deploying a project: every canister exists, has the project's code and settings, and knows the others.

Plumbing, over a session. Doing it again changes only what differs, also after it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ic_types.candid.did import DidFile, parse_did
from ic_types.candid.subtyping import incompatibility
from ic_types.errors import BadInput, CandidError, IcsimError, NetworkError
from ic_types.principal import CanisterId, Principal
from subnet.lab import canister_admin
from subnet.lab.calls import CallRejected
from subnet.lab.link import facts_of
from subnet.lab.project import ProjectCanister
from subnet.lab.session import Session

VARIABLE = "PUBLIC_CANISTER_ID:{}"
"""Environment variable that tells a canister the id of another one of its project."""


@dataclass(slots=True)
class Deployed:
    """One canister of the project, and what was done to it."""

    canister: ProjectCanister
    canister_id: CanisterId
    module_hash: bytes | None
    done: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """What was done, in words."""
        return ", ".join(self.done) or "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployOptions:
    """How it is done."""

    reinstall: bool = False
    """Replace code and memory of those that have code."""
    upgrade_unchanged: bool = False
    """Upgrade those too that have this code already."""
    allow_incompatible: bool = False
    """Upgrade even if callers of the present service would break."""


def deploy(
    session: Session,
    canisters: Sequence[ProjectCanister],
    options: DeployOptions,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Deployed]:
    """Bring these canisters to what the project wants; those that others depend on come first.

    Raises: CallRejected, NetworkError or BadInput, naming the canister.
    """
    found = [_named(one, lambda one=one: _existing(session, one, tell)) for one in canisters]  # type: ignore[misc]
    ids = {one.canister.name: one.canister_id for one in found}
    for one in found:
        _named(one.canister, lambda one=one: _bring_up(session, one, ids, options, tell))  # type: ignore[misc]
    return found


def _named(canister: ProjectCanister, step: Callable[[], Any]) -> Any:
    """Do a step; its error says which canister it was about."""
    try:
        return step()
    except CallRejected as error:
        raise error.about(f"canister {canister.name}") from None
    except IcsimError as error:
        raise type(error)(f"canister {canister.name}: {error}") from None


def _existing(session: Session, canister: ProjectCanister, tell: Callable[[str], None]) -> Deployed:
    known = session.canister_names.get(canister.name)
    facts = None if known is None else facts_of(session.link, session.identity, known)
    if known is not None and facts is not None:
        if session.identity.principal not in facts.controllers:
            raise BadInput(
                f"{known} is not controlled by {session.identity.principal}, who deploys; choose another "
                f"--identity, or remove the name from {session.canister_names.path} to make a new canister"
            )
        return Deployed(canister, known, facts.module_hash)
    made = canister_admin.create(session, cycles=canister.cycles, subnet=canister.subnet)
    remember(session, canister.name, made)
    tell(f"{canister.name}: created {made}")
    return Deployed(canister, made, None, ["created"])


def remember(session: Session, name: str, canister_id: CanisterId) -> None:
    """Note the name of a canister that has just been made.

    Raises: BadInput with its id when that can't be done, so that it isn't lost.
    """
    try:
        session.canister_names.put(name, canister_id)
    except BadInput as error:
        raise BadInput(f"canister {canister_id} was made, but its name {name} can't be kept: {error}") from None


def _bring_up(
    session: Session, one: Deployed, ids: dict[str, CanisterId], options: DeployOptions, tell: Callable[[str], None]
) -> None:
    settings = _settings(session, one.canister, ids)
    if settings and (changed := _differing(session, one.canister_id, settings)):
        late = {name: changed.pop(name) for name in ("controllers",) if name in changed}
        if changed:
            canister_admin.update_settings(session, one.canister_id, changed)
        _install(session, one, options, tell)
        if late:  # last, since who deploys may not be among the controllers any more
            canister_admin.update_settings(session, one.canister_id, late)
        one.done.append("settings changed")
        tell(f"{one.canister.name}: settings changed ({', '.join((*changed, *late))})")
    else:
        _install(session, one, options, tell)


def _install(session: Session, one: Deployed, options: DeployOptions, tell: Callable[[str], None]) -> None:
    canister, wanted = one.canister, one.canister.info.sha256
    mode = "install" if one.module_hash is None else "reinstall" if options.reinstall else "upgrade"
    if mode == "upgrade" and one.module_hash == wanted and not options.upgrade_unchanged:
        return
    if mode == "upgrade" and not options.allow_incompatible:
        warning = check_upgrade(session, canister.name, canister.did)
        if warning is not None:
            tell(f"{canister.name}: {warning}")
    arg = canister.init.encode(session.names, session.place_of(one.canister_id))
    try:
        canister_admin.install(session, one.canister_id, canister.wasm.read_bytes(), arg, mode)
    except OSError as error:
        raise BadInput(f"{canister.wasm} can't be read: {error.strerror}") from None
    one.module_hash = wanted
    one.done.append({"install": "installed", "upgrade": "upgraded", "reinstall": "reinstalled"}[mode])
    tell(f"{canister.name}: {one.done[-1]}")


def check_upgrade(session: Session, name: str, did: DidFile | None) -> str | None:
    """Whether callers of the canister's present service can call the new one; what they would only see as null is returned.

    Raises: BadInput naming the method and what would break.
    """
    if did is None or did.service is None:
        return None
    try:
        raw = session.link.read(session.identity, session.canister_id(name), (b"metadata", b"candid:service"))
        present = None if raw is None else parse_did(raw.decode()).service
    except (CandidError, UnicodeDecodeError, NetworkError):  # what can't be read can't be compared
        return None
    if present is None:
        return None
    why = incompatibility(did.service, present)
    if why is not None:
        raise BadInput(f"the upgrade would break callers: {why}; --allow-incompatible does it all the same")
    lost = incompatibility(did.service, present, strict=True)
    return None if lost is None else f"callers will read null where they read values before: {lost}"


def _settings(session: Session, canister: ProjectCanister, ids: dict[str, CanisterId]) -> dict[str, Any]:
    """What the project says about settings, as values of the management canister's type."""
    found = dict(canister.settings)
    if canister.controllers is not None:
        found["controllers"] = sorted(principal_named(session, name) for name in canister.controllers)
    variables = {VARIABLE.format(name): ids[name].to_text() for name in canister.depends if name in ids}
    variables |= canister.environment
    if variables:
        found["environment_variables"] = [{"name": name, "value": value} for name, value in sorted(variables.items())]
    return found


def principal_named(session: Session, name: str) -> Principal:
    """A canister, an identity or a principal as text.

    Raises: BadInput when it is none of them.
    """
    for find in (session.canister_id, lambda one: session.names.identity(one)):
        try:
            return find(name)
        except BadInput:
            continue
    raise BadInput(f"{name!r} is neither a canister, an identity nor a principal")


def _differing(session: Session, canister_id: CanisterId, settings: dict[str, Any]) -> dict[str, Any]:
    present = canister_admin.about(session, "canister_status", canister_id)["settings"]
    present["controllers"] = sorted(present["controllers"])
    present["environment_variables"] = sorted(present["environment_variables"] or [], key=lambda one: str(one["name"]))
    return {name: value for name, value in settings.items() if present.get(name) != value}
