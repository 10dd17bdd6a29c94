"""Identities that people keep: keys in PEM files, one of them chosen for commands that name none.

Plumbing: files below `$ICSIM_HOME/identities`. The files are those that other tools for the IC read: Ed25519 as PKCS #8, curves
as SEC 1; both and PKCS #8 of either are read.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from configs.topology import ANONYMOUS_NAME
from ic_types.errors import BadInput
from ic_types.identity import AnonymousIdentity, EcdsaIdentity, Ed25519Identity, Identity

KINDS = ("ed25519", "secp256k1", "prime256v1")
DEFAULT_NAME = "default"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_CURVES: dict[str, type[ec.EllipticCurve]] = {"secp256k1": ec.SECP256K1, "prime256v1": ec.SECP256R1}
_ED25519_OID = bytes.fromhex("300506032b6570")
_ED25519_SECRET = bytes.fromhex("04220420")
_PRIVATE_FILE = 0o600


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """A key and what it is called."""

    name: str
    kind: str
    """ed25519, secp256k1, prime256v1 or anonymous."""
    identity: Identity
    chosen: bool


class IdentityStore:
    """The identities of one home."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "identities"
        self._choice = self.folder / "chosen.json"

    def names(self) -> list[str]:
        """All names, without the anonymous one."""
        return sorted(path.stem for path in self.folder.glob("*.pem"))

    def all(self) -> list[StoredIdentity]:
        """All identities, the anonymous one last."""
        return [self.get(name) for name in (*self.names(), ANONYMOUS_NAME)]

    @property
    def chosen(self) -> str | None:
        """The name that `use` chose; None when that was never done or the key is gone."""
        try:
            name = json.loads(self._choice.read_text())["name"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return name if name == ANONYMOUS_NAME or name in self.names() else None

    def use(self, name: str) -> None:
        """Choose the identity for commands that name none.

        Raises: BadInput when there is none of that name.
        """
        self.get(name)
        self._write(self._choice, json.dumps({"name": name}) + "\n")

    def get(self, name: str) -> StoredIdentity:
        """The identity of that name.

        Raises: BadInput naming those there are; or when the file is no key.
        """
        chosen = self.chosen == name
        if name == ANONYMOUS_NAME:
            return StoredIdentity(name, ANONYMOUS_NAME, AnonymousIdentity(), chosen)
        path = self._path(name)
        if not path.is_file():
            listed = ", ".join((*self.names(), ANONYMOUS_NAME))
            raise BadInput(f"there is no identity {name!r}; there are: {listed}; `icsim identity new {name}` makes one")
        kind, identity, _ = read_pem(path.read_bytes(), str(path))
        return StoredIdentity(name, kind, identity, chosen)

    def new(self, name: str, kind: str = KINDS[0]) -> StoredIdentity:
        """Make a key.

        Raises: BadInput when the name is taken or can't be one.
        """
        key = Ed25519PrivateKey.generate() if kind == KINDS[0] else ec.generate_private_key(_CURVES[kind]())
        return self._keep(name, to_pem(key))

    def add(self, name: str, pem: bytes, origin: str, password: bytes | None = None) -> StoredIdentity:
        """Keep a key that was made elsewhere.

        Raises: BadInput when it is no key that can sign for a user, or the name is taken.
        """
        _, _, key = read_pem(pem, origin, password)
        return self._keep(name, to_pem(key))

    def export(self, name: str) -> bytes:
        """The PEM file of an identity.

        Raises: BadInput when there is none.
        """
        if name == ANONYMOUS_NAME:
            raise BadInput("the anonymous identity has no key")
        self.get(name)
        return self._path(name).read_bytes()

    def default(self) -> tuple[StoredIdentity, bool]:
        """The chosen identity; one named `default` is made when there is none yet, which the second value tells."""
        if (name := self.chosen) is not None:
            return self.get(name), False
        if DEFAULT_NAME in self.names():
            return self.get(DEFAULT_NAME), False
        self.new(DEFAULT_NAME)
        self.use(DEFAULT_NAME)
        return self.get(DEFAULT_NAME), True

    def _keep(self, name: str, pem: bytes) -> StoredIdentity:
        if name == ANONYMOUS_NAME or not _NAME.match(name):
            raise BadInput(
                f"{name!r} can't be the name of an identity; allowed are letters, digits and . _ @ -, up to 64 of them"
            )
        if self._path(name).exists():
            raise BadInput(f"there is an identity {name!r} already; `icsim identity export {name}` shows its key")
        self._write(self._path(name), pem.decode())
        return self.get(name)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def _write(self, path: Path, text: str) -> None:
        """Readable for the owner alone, and there as a whole or not at all."""
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE_FILE), "w") as file:
                file.write(text)
            draft.replace(path)
        except OSError as error:
            raise BadInput(f"{path} can't be written: {error.strerror}") from error


Key = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


def to_pem(key: Key) -> bytes:
    """Ed25519 as PKCS #8, curves as SEC 1: what agents and other command lines read."""
    plain = isinstance(key, Ed25519PrivateKey)
    form = serialization.PrivateFormat.PKCS8 if plain else serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def read_pem(pem: bytes, origin: str, password: bytes | None = None) -> tuple[str, Identity, Key]:
    """Kind, identity and key in a PEM file.

    Raises: BadInput when there is no key that can sign for a user, or the password is wrong or missing.
    """
    key = _load(pem, origin, password)
    if isinstance(key, Ed25519PrivateKey):
        return KINDS[0], Ed25519Identity(key.private_bytes_raw()), key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        try:
            kind = {"secp256r1": "prime256v1"}.get(key.curve.name, key.curve.name)
            return kind, EcdsaIdentity(key), key
        except ValueError as error:
            raise BadInput(f"{origin}: {error}") from None
    raise BadInput(f"{origin} holds a {type(key).__name__.lstrip('_')}; allowed are keys of {', '.join(KINDS)}")


def _load(pem: bytes, origin: str, password: bytes | None) -> object:
    blocks = [b"-----BEGIN " + rest for rest in pem.split(b"-----BEGIN ")[1:]]
    keys = [
        block for block in blocks if not block.startswith(b"-----BEGIN EC PARAMETERS")
    ]  # openssl writes them before the key
    if not keys:
        raise BadInput(f"{origin} is no PEM file: it has no line -----BEGIN ... PRIVATE KEY-----")
    try:
        return serialization.load_pem_private_key(keys[0], password)
    except TypeError:
        why = "it is encrypted, give its password" if password is None else "it is not encrypted, but a password was given"
        raise BadInput(f"{origin}: {why}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if (secret := _ed25519_secret(keys[0])) is not None:
            return Ed25519PrivateKey.from_private_bytes(secret)
        why = "the password is wrong, or " if password is not None else ""
        raise BadInput(f"{origin} holds no key that can be read: {why}{error}") from None


def _ed25519_secret(pem: bytes) -> bytes | None:
    """The secret of a PKCS #8 file of version 2, as older tools write them, which the library refuses."""
    import base64
    import binascii

    try:
        der = base64.b64decode(b"".join(line for line in pem.splitlines() if b"-----" not in line), validate=True)
    except binascii.Error:
        return None
    start = der.find(_ED25519_SECRET) + len(_ED25519_SECRET)
    if _ED25519_OID not in der[:16] or start < len(_ED25519_SECRET) or len(der) < start + 32:
        return None
    return der[start : start + 32]
