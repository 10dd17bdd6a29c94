"""`icsim canister`: what people do with one canister.

Plumbing. Every command takes a canister's name or id, and --network, --identity and --output.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from configs.argument import Argument
from ic_types.errors import BadInput, InvalidPrincipal
from ic_types.principal import CanisterId, Principal
from subnet.cli.calls import call, query
from subnet.cli.canister_settings import amount, settings, settings_json
from subnet.cli.connection import session, session_options
from subnet.cli.output import listing, output_option, show
from subnet.cli.snapshots import snapshot
from subnet.cli.status import network_time
from subnet.lab import canister_admin
from subnet.lab.canister_names import check_name
from subnet.lab.deployment import check_upgrade, principal_named, remember
from subnet.lab.link import ControlLink
from subnet.lab.modules import Module, load_module
from subnet.lab.session import Session


@click.group()
def canister() -> None:
    """Make, call and manage canisters on a running network."""


canister.add_command(call)
canister.add_command(query)
canister.add_command(settings)
canister.add_command(snapshot)


def _command(name: str | None = None) -> Callable[[Callable[..., Any]], click.Command]:
    """A command of the group, with the options that all have; its line in the group's help is the first of its own."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        brief = (function.__doc__ or "").partition("\n")[0]
        return canister.command(name, short_help=brief)(session_options(output_option(function)))

    return decorate


@_command()
@click.argument("name", required=False)
@click.option("--cycles", default="100T", metavar="N", help="First balance (100T); with K, M, B or T behind.")
@click.option(
    "--controller", "controllers", multiple=True, metavar="WHO", help="In place of who acts: identity, canister or id."
)
@click.option("--subnet", metavar="SUBNET", help="Where: name or id (default: the first application subnet).")
@click.option("--specified-id", metavar="ID", help="Which id it gets.")
def create(name: str | None, **options: Any) -> None:
    """Make an empty canister, remember it as NAME and print its id."""
    if name is not None:
        check_name(name)
    with session(options) as one:
        if name is not None and (known := one.canister_names.get(name)) is not None:
            raise BadInput(f"there is a canister {name!r} already: {known}; `icsim canister delete {name}` makes the name free")
        controllers = [principal_named(one, who) for who in options["controllers"]]
        made = canister_admin.create(
            one,
            cycles=amount(options["cycles"], "cycles", "--cycles"),
            settings={"controllers": controllers} if controllers else None,
            subnet=options["subnet"],
            specified_id=_principal(options["specified_id"]),
        )
        if name is not None:
            remember(one, name, made)
        show({"name": name, "id": made.to_text(), "subnet": one.link.subnet_of(made)}, options["output"], made.to_text())


def _principal(text: str | None) -> Principal | None:
    try:
        return None if text is None else Principal.from_text(text)
    except InvalidPrincipal as error:
        raise BadInput(f"--specified-id: {error}") from None


def _install_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--candid", type=click.Path(path_type=Path), metavar="FILE", help="Service file (default: the module's own)."
        ),
        click.option("--hex", "as_hex", is_flag=True, help="ARG is hexadecimal bytes."),
        click.argument("arg", required=False),
        click.argument("wasm"),
        click.argument("canister"),
    ):
        function = option(function)
    return function


@_command()
@_install_options
@click.option("--reinstall", is_flag=True, help="In place of present code; all memory is lost.")
def install(canister: str, wasm: str, arg: str | None, **options: Any) -> None:
    """Install the module WASM (a path or the name of an example) into CANISTER, with ARG as Candid text."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        module, raw = _module(one, canister, wasm, arg, options)
        canister_admin.install(one, canister_id, module.wasm, raw, "reinstall" if options["reinstall"] else "install")
        _done(one, canister_id, options, "reinstalled" if options["reinstall"] else "installed")


@_command()
@_install_options
@click.option("--heap", type=click.Choice(("keep", "replace")), help="What becomes of the heap (default: as the module says).")
@click.option(
    "--skip-pre-upgrade", is_flag=True, help="Don't run canister_pre_upgrade, as when it traps; what it would save is lost."
)
@click.option("--allow-incompatible", is_flag=True, help="Even if callers of the present service would break.")
def upgrade(canister: str, wasm: str, arg: str | None, **options: Any) -> None:
    """Install the module WASM in place of CANISTER's code; stable memory is kept."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        module, raw = _module(one, canister, wasm, arg, options)
        if not options["allow_incompatible"] and (warning := check_upgrade(one, canister, module.did)) is not None:
            click.echo(f"icsim: {warning}", err=True)
        keep = {None: None, "keep": True, "replace": False}[options["heap"]]
        skip = True if options["skip_pre_upgrade"] else None
        canister_admin.install(one, canister_id, module.wasm, raw, "upgrade", keep_heap=keep, skip_pre_upgrade=skip)
        _done(one, canister_id, options, "upgraded")


def _module(one: Session, name: str, wasm: str, arg: str | None, options: dict[str, Any]) -> tuple[Module, bytes]:
    """The module and its init argument."""
    module = load_module(wasm, options["candid"])
    if options["as_hex"]:
        try:
            return module, bytes.fromhex((arg or "").removeprefix("0x"))
        except ValueError:
            raise BadInput(f"argument {arg!r} is not hexadecimal; leave --hex out to give Candid text") from None
    if arg is None and module.did is None:
        return module, b""
    types = None if module.did is None else module.did.init
    return module, Argument(text=arg or "()", types=types).encode(one.names, one.place_of(one.canister_id(name)))


def _done(one: Session, canister_id: CanisterId, options: dict[str, Any], what: str) -> None:
    name = one.name_of(canister_id)
    show({"name": name, "id": canister_id.to_text(), "done": what}, options["output"], f"{name}: {what}")


def _simple(name: str, method: str, done: str, text: str) -> None:
    """A command whose method takes the id alone."""

    @_command(name)
    @click.argument("canister")
    def command(canister: str, **options: Any) -> None:
        with session(options) as one:
            canister_id, _ = one.existing(canister)
            canister_admin.about(one, method, canister_id)
            _done(one, canister_id, options, done)

    command.help = command.short_help = text


_simple("start", "start_canister", "started", "Let CANISTER take calls again.")
_simple("stop", "stop_canister", "stopped", "Stop CANISTER; returns when its open calls are answered.")
_simple("uninstall", "uninstall_code", "uninstalled", "Remove CANISTER's code and memory.")


@_command()
@click.argument("canister")
def delete(canister: str, **options: Any) -> None:
    """Delete CANISTER, which must be stopped, and forget its name; its cycles are lost."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        canister_admin.about(one, "delete_canister", canister_id)
        _done(one, canister_id, options, "deleted")
        one.canister_names.drop(canister_id)


@_command("top-up")
@click.argument("canister")
@click.argument("cycles")
def top_up(canister: str, cycles: str, **options: Any) -> None:
    """Give CANISTER CYCLES out of nothing; with K, M, B or T behind."""
    given = amount(cycles, "cycles", "CYCLES")
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        canister_admin.top_up(one, canister_id, given)
        _done(one, canister_id, options, f"topped up with {given:,} cycles")


@_command("id")
@click.argument("canister")
def id_(canister: str, **options: Any) -> None:
    """Print the id of CANISTER."""
    with session(options) as one:
        found = one.canister_id(canister)
        show({"name": canister, "id": found.to_text()}, options["output"], found.to_text())


@_command()
@click.argument("canister")
def info(canister: str, **options: Any) -> None:
    """Show what everybody may know of CANISTER, from certificates: controllers, module hash, subnet, service."""
    with session(options) as one:
        canister_id, facts = one.existing(canister)
        methods = one.target(canister).interface.methods()
        found = {
            "name": one.name_of(canister_id),
            "id": canister_id.to_text(),
            "subnet": one.link.subnet_of(canister_id),
            "controllers": [who.to_text() for who in facts.controllers],
            "module_hash": None if facts.module_hash is None else facts.module_hash.hex(),
            "methods": methods,
        }
        shown = {**found, "methods": [f"{name} : {signature}" for name, signature in methods.items()]}
        show(found, options["output"], listing(shown))


@_command()
@click.argument("canister")
def status(canister: str, **options: Any) -> None:
    """Show what CANISTER's controllers may know: whether it runs, its cycles, memory and settings."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        value = canister_admin.about(one, "canister_status", canister_id)
        found: dict[str, Any] = {"name": one.name_of(canister_id), "id": canister_id.to_text()}
        found["status"] = next(iter(value["status"]))
        found["module_hash"] = None if value["module_hash"] is None else value["module_hash"].hex()
        found |= {
            key: value[key]
            for key in ("cycles", "reserved_cycles", "memory_size", "idle_cycles_burned_per_day", "version")
            if value[key] is not None
        }
        found["settings"] = settings_json(value["settings"])
        shown = {name: item for name, item in found.items() if name != "settings"} | found["settings"]
        show(found, options["output"], listing(shown))


@_command()
@click.argument("canister")
@click.option("--tail", type=int, metavar="N", help="The last N records.")
def logs(canister: str, tail: int | None, **options: Any) -> None:
    """Show CANISTER's log: what it printed, and its traps."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        found = _log_records(one, canister_id)
        if tail is not None:
            found = found[-tail:] if tail > 0 else []
        records = [{"index": i, "time_ns": t, "text": c.decode("utf-8", "backslashreplace")} for i, t, c in found]
        lines = [f"{one['index']:>4}  {network_time(one['time_ns'])}  {one['text']}" for one in records]  # type: ignore[arg-type]
        show({"records": records}, options["output"], "\n".join(lines))


def _log_records(one: Session, canister_id: CanisterId) -> list[tuple[int, int, bytes]]:
    if not isinstance(one.link, ControlLink):
        return canister_admin.logs(one, canister_id)
    import cbor2

    link = one.link.caller
    rows = cbor2.loads(link.client.inspect(link.subnet_of(canister_id).subnet_id, "logs", (canister_id,)))
    return [tuple(row) for row in rows]


@_command()
@click.argument("canister")
@click.argument("section", default="candid:service")
def metadata(canister: str, section: str, **options: Any) -> None:
    """Print a section of CANISTER's metadata, by default its service."""
    with session(options) as one:
        canister_id, _ = one.existing(canister)
        raw = one.link.read(one.identity, canister_id, (b"metadata", section.encode()))
        if raw is None:
            raise BadInput(f"canister {canister} has no metadata called {section!r}")
        text = raw.decode("utf-8", "backslashreplace")
        show({"section": section, "text": text, "hex": raw.hex()}, options["output"], text)
