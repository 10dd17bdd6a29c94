"""Names of canisters that were made from the command line, per network.

Plumbing: one JSON file, in the folder of the project or else at home. Ids of canisters that are gone stay until they are
made again, so whoever uses one has to ask the network whether it still exists.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from ic_types.errors import BadInput, InvalidPrincipal
from ic_types.principal import CanisterId, Principal

FILE = "canister_ids.json"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z")


class CanisterNames:
    """The names on one network."""

    def __init__(self, folder: Path, network: str) -> None:
        self.path = folder / FILE
        self._network = network

    def all(self) -> dict[str, CanisterId]:
        """Ids by name.

        Raises: BadInput when the file is malformed.
        """
        found = self._read().get(self._network, {})
        try:
            return {name: Principal.from_text(text) for name, text in sorted(found.items())}
        except (InvalidPrincipal, AttributeError) as error:
            raise BadInput(f"{self.path}: {error}; remove the file if you can't mend it") from None

    def get(self, name: str) -> CanisterId | None:
        """The id of a canister."""
        return self.all().get(name)

    def name_of(self, canister_id: CanisterId) -> str | None:
        """The name of a canister."""
        return next((name for name, one in self.all().items() if one == canister_id), None)

    def put(self, name: str, canister_id: CanisterId) -> None:
        """Remember a canister.

        Raises: BadInput when the name can't be one or the file can't be written.
        """
        check_name(name)
        self._change({**self.all(), name: canister_id})

    def drop(self, canister_id: CanisterId) -> None:
        """Forget a canister."""
        self._change({name: one for name, one in self.all().items() if one != canister_id})

    def _change(self, names: dict[str, CanisterId]) -> None:
        content = {**self._read(), self._network: {name: one.to_text() for name, one in sorted(names.items())}}
        draft = self.path.with_name(f".{FILE}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(content, indent=1) + "\n")
            draft.replace(self.path)
        except OSError as error:
            raise BadInput(f"{self.path} can't be written: {error.strerror}") from None

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            found = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.path} can't be read: {error}; remove the file if you can't mend it") from None
        if not isinstance(found, dict):
            raise BadInput(f"{self.path} is no JSON object; remove the file if you can't mend it")
        return found


def check_name(name: str) -> None:
    """Raises: BadInput when a canister can't be called so."""
    if not NAME.match(name):
        raise BadInput(f"{name!r} can't be the name of a canister; allowed are letters, digits and _ . -, a letter first")
    try:
        Principal.from_text(name)
    except InvalidPrincipal:
        return
    raise BadInput(f"{name!r} is an id and can't be the name of a canister")
