"""The network that a command acts on, and who acts.

Plumbing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from ic_types.candid.did import DidFile
from ic_types.errors import BadInput
from subnet.control import Advertised, ControlClient, find_network
from subnet.lab.calls import Caller
from subnet.lab.canister_names import CanisterNames
from subnet.lab.identity_store import IdentityStore
from subnet.lab.link import ControlLink, Link, fingerprint
from subnet.lab.project import FILE, MEMORY, find_project, load_project
from subnet.lab.run_dir import home, read_run_file
from subnet.lab.session import Session

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Connection:
    """A network and the line to it."""

    entry: Advertised
    client: ControlClient

    def caller(self) -> Caller:
        """For calls to its canisters."""
        return Caller(self.client, read_run_file(Path(self.entry.out_dir) if self.entry.out_dir else None))


@contextlib.contextmanager
def connected(which: str | None) -> Iterator[Connection]:
    """The network that --dir names, or the only one running.

    Raises: NetworkError when there is none, or several.
    """
    entry = find_network(home(), which)
    with ControlClient(entry.socket_dir) as client:
        yield Connection(entry, client)


def session_options(function: F) -> F:
    """--network, --root-key, --identity, --project."""
    options = (
        click.option(
            "--network",
            "--dir",
            "network",
            metavar="NETWORK",
            envvar="ICSIM_NETWORK",
            help="A URL, or a running network's name, run directory or socket folder (default: the only one running).",
        ),
        click.option("--root-key", metavar="HEX", help="The network's root key in DER (default: what a URL's network says)."),
        click.option(
            "--identity", "--as", "identity", metavar="NAME", help="Who acts (default: the chosen one, see `icsim identity`)."
        ),
        click.option("--project", metavar="FILE", help=f"Project file (default: the nearest {FILE}, if there is one)."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def project_path(options: dict[str, Any]) -> Path | None:
    """The project file that --project names, or the one in whose folder we are."""
    return Path(options["project"]).resolve() if options["project"] else find_project(Path.cwd())


@contextlib.contextmanager
def session(options: dict[str, Any]) -> Iterator[Session]:
    """Someone at a network, as the options of `session_options` say.

    The project file is read only for a canister that doesn't tell its service itself.

    Raises: NetworkError when there is no such network; BadInput when there is no such identity.
    """
    path = project_path(options)

    def service(name: str) -> DidFile | None:
        return None if path is None else load_project(path).services().get(name)

    with linked(options["network"], options["root_key"]) as link:
        yield Session(
            link,
            IdentityStore(home()),
            CanisterNames(home() if path is None else path.parent / MEMORY, fingerprint(link)),
            options["identity"],
            services=service,
            notify=lambda text: click.echo(f"icsim: {text}", err=True),
        )


@contextlib.contextmanager
def linked(network: str | None, root_key: str | None = None) -> Iterator[Link]:
    """The line to a network: over HTTP if it is a URL.

    Raises: NetworkError; BadInput when the root key is none.
    """
    if network is not None and "://" in network:
        from subnet.lab.http_agent import HttpAgent

        yield HttpAgent(network, _root_key(root_key))
        return
    if root_key is not None:
        raise BadInput("--root-key belongs to a network behind a URL; networks on this machine say theirs")
    with connected(network) as line:
        yield ControlLink(line.caller(), line.entry.name)


def _root_key(text: str | None) -> bytes | None:
    from ic_types import bls
    from ic_types.errors import IcsimError

    if text is None:
        return None
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
        bls.from_der(raw)
    except (ValueError, IcsimError) as error:
        raise BadInput(f"--root-key: {error}; it is 133 bytes in hexadecimal, as `icsim up` prints it") from None
    return raw
