"""`icsim identity`: the keys that commands sign with.

Plumbing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ic_types.errors import BadInput
from ic_types.identity import Ed25519Identity
from subnet.lab.identity_store import KINDS, IdentityStore, StoredIdentity, to_pem
from subnet.lab.run_dir import home


def store() -> IdentityStore:
    """The identities of this home."""
    return IdentityStore(home())


def _shown(one: StoredIdentity) -> dict[str, object]:
    return {"name": one.name, "kind": one.kind, "principal": one.identity.principal.to_text(), "chosen": one.chosen}


@click.group()
def identity() -> None:
    """Keep keys, and choose the one that commands sign with.

    Keys are PEM files in $ICSIM_HOME/identities that other tools for the IC read. `anonymous` is always there.
    """


@identity.command()
@click.argument("name")
@click.option("--type", "kind", type=click.Choice(KINDS), default=KINDS[0], help="Kind of the key (ed25519).")
@click.option("--use", "chosen", is_flag=True, help="Choose it too.")
def new(name: str, kind: str, chosen: bool) -> None:
    """Make a key called NAME and print its principal."""
    made = store().new(name, kind)
    if chosen or store().chosen is None:
        store().use(name)
    click.echo(made.identity.principal.to_text())


@identity.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_(as_json: bool) -> None:
    """Show all identities; the chosen one is marked."""
    found = [_shown(one) for one in store().all()]
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    from subnet.cli.tables import console, table

    rows = [("*" if one["chosen"] else "", str(one["name"]), str(one["kind"]), str(one["principal"])) for one in found]
    console().print(table("identities", ("", "name", "kind", "principal"), rows))


@identity.command()
@click.argument("name")
def use(name: str) -> None:
    """Choose the identity that commands sign with when they name none."""
    store().use(name)
    click.echo(f"{name}: {store().get(name).identity.principal}")


@identity.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Name, kind, principal and public key as JSON.")
def show(name: str | None, as_json: bool) -> None:
    """Print the principal of NAME (default: of the chosen identity)."""
    found = store().get(name) if name is not None else store().default()[0]
    if as_json:
        key = found.identity.public_key_der
        click.echo(json.dumps({**_shown(found), "public_key": None if key is None else key.hex()}, indent=1))
    else:
        click.echo(found.identity.principal.to_text())


@identity.command("import")
@click.argument("name")
@click.argument("pem_file", type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--password",
    prompt=True,
    prompt_required=False,
    hide_input=True,
    metavar="TEXT",
    help="Of an encrypted file; asked for without TEXT.",
)
@click.option("--use", "chosen", is_flag=True, help="Choose it too.")
def import_(name: str, pem_file: Path, password: str | None, chosen: bool) -> None:
    """Keep the key in PEM_FILE (`-`: standard input) as NAME and print its principal."""
    try:
        pem = sys.stdin.buffer.read() if str(pem_file) == "-" else pem_file.read_bytes()
    except OSError as error:
        raise BadInput(f"{pem_file} can't be read: {error.strerror}") from None
    made = store().add(name, pem, str(pem_file), None if password is None else password.encode())
    if chosen or store().chosen is None:
        store().use(name)
    click.echo(made.identity.principal.to_text())


@identity.command()
@click.argument("name")
@click.option(
    "--network", metavar="NETWORK", help="Of the topology of this running network (name or folder), not of those kept."
)
def export(name: str, network: str | None) -> None:
    """Print the PEM file of NAME: whoever has it can sign as NAME."""
    click.echo(store().export(name) if network is None else _topology_pem(name, network), nl=False)


def _topology_pem(name: str, network: str) -> bytes:
    from subnet.cli.connection import connected

    with connected(network) as line:
        found = line.caller().identity(name)
    if not isinstance(found, Ed25519Identity):
        raise BadInput("the anonymous identity has no key")
    return to_pem(Ed25519PrivateKey.from_private_bytes(found.secret()))
