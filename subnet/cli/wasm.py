"""`icsim wasm`: what becomes of a module, without a network.

Plumbing.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from configs.argument import CallPlace, Names
from configs.limits import SubnetLimits
from ic_types.errors import BadInput, InvalidWasm
from ic_types.principal import Principal
from ic_types.units import WASM_PAGE_BYTES
from subnet.lab.interface import Interface

if TYPE_CHECKING:
    from sandbox.wasm.module import Module
    from sandbox.wasm.prepare import Prepared
    from subnet.lab.call_profile import CallProfile

_SHOWN_FUNCTIONS = 40
_SHOWN_ITEMS = 200
_KINDS = (
    ("updates", "update"),
    ("queries", "query"),
    ("composite_queries", "composite query"),
    ("entry_points", "entry point"),
)


@click.group()
def wasm() -> None:
    """Check, instrument or profile a canister module."""


@wasm.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Say whether FILE may be installed, and what it holds; otherwise which rule it breaks and where (exit code 2)."""
    submitted = _read(file)
    plain, prepared = _prepared(file, submitted)
    _describe(file, submitted, plain, prepared)


@wasm.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="OUT", help="Where to write it.")
def instrument(file: Path, out: Path) -> None:
    """Write FILE as it is executed: with counters, stable memory and charges. docs/instrumentation.md tells what is added."""
    plain, prepared = _prepared(file, _read(file))
    try:
        out.write_bytes(prepared.code)
    except OSError as error:
        raise BadInput(f"{out} can't be written: {error.strerror}") from None
    charge = prepared.info.compile_instructions
    click.echo(f"{out}: {len(prepared.code):,} bytes from {len(plain):,}; installing it is charged {charge:,} instructions")


@wasm.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("method")
@click.argument("arg", default="()")
@click.option("--hex", "as_hex", is_flag=True, help="ARG is hexadecimal bytes, and so is the answer.")
@click.option("--init", "init_arg", metavar="ARG", help="Argument of the install (none; '()' is empty Candid).")
@click.option("--caller", default="2vxsx-fae", metavar="PRINCIPAL", help="Who calls (default: the anonymous principal).")
@click.option("-o", "--out", type=click.Path(path_type=Path), metavar="OUT", help="Flame graph file (METHOD.speedscope.json).")
def profile(file: Path, method: str, arg: str, **options: Any) -> int:
    """Count the instructions of one call by function, in a real sandbox.

    METHOD is a method or an entry point such as canister_init; ARG is Candid text. Prints a table and writes a file for
    https://www.speedscope.app. Exit code 1 when the call traps.
    """
    from sandbox.wasm import decoding
    from sandbox.wasm.module import decode
    from subnet.lab.call_profile import profile_call

    submitted = _read(file)
    out = options["out"] or Path(f"{method}.speedscope.json")
    try:
        custom = dict(decode(decoding.decode(submitted)).custom)
    except (InvalidWasm, IndexError):
        custom = {}  # refused below, with the rule that it breaks
    services = (custom.get(f"icp:{scope} candid:service", b"") for scope in ("public", "private"))
    service = next(filter(None, services), b"").decode(errors="replace")
    interface = Interface.parse(service, file.name)
    as_hex = options["as_hex"]
    raw = _argument(interface, method, arg, as_hex)
    init_raw = _init_argument(interface, options["init_arg"], as_hex)
    try:
        found = profile_call(submitted, method, raw, init_raw, Principal.from_text(options["caller"]))
    except InvalidWasm as error:
        raise _refused(file, submitted, error) from None
    _write_flame_graph(out, f"{file.name} {method}", found)
    return _tell_profile(found, interface, out, as_hex)


# --- modules


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file} can't be read: {error.strerror}") from None


def _prepared(file: Path, submitted: bytes) -> tuple[bytes, Prepared]:
    """The plain module and what becomes of it."""
    from sandbox.wasm import decoding
    from sandbox.wasm.prepare import prepare

    try:
        return decoding.decode(submitted), prepare(submitted, SubnetLimits())
    except InvalidWasm as error:
        raise _refused(file, submitted, error) from None


def _refused(file: Path, submitted: bytes, error: InvalidWasm) -> BadInput:
    from sandbox.wasm import decoding, describe
    from sandbox.wasm.rules import BrokenRule

    lines = [f"{file} is refused: {error}"]
    if isinstance(error, BrokenRule):
        lines.append(f"  rule:  {error.rule.title}: {error.rule.value}")
        try:
            where = describe.place(decoding.decode(submitted), error)
        except InvalidWasm:
            where = ""
        if where:
            lines.append(f"  where: {where}")
    return BadInput("\n".join(lines))


def _describe(file: Path, submitted: bytes, plain: bytes, prepared: Prepared) -> None:
    from sandbox.wasm import describe
    from sandbox.wasm.module import decode
    from subnet.cli.tables import console, table

    info, module, out = prepared.info, decode(plain), console()
    out.print(f"{file} is a valid canister module")
    rows = [("SHA-256 (module hash)", hashlib.sha256(submitted).hexdigest())]
    packed = f"{len(submitted):,} bytes, gzipped from {len(plain):,}" if submitted is not plain else f"{len(plain):,} bytes"
    rows += [("size", packed), ("instrumented", f"{len(prepared.code):,} bytes")]
    rows.append(("charge of an install", f"{info.compile_instructions:,} instructions besides those executed"))
    rows += _contents(module, prepared)
    out.print(table("module", ("", ""), rows))
    rows = [(kind, name) for field, kind in _KINDS for name in getattr(info, field)]
    out.print(table("methods", ("kind", "name"), _some(rows) or [("none", "")]))
    imported = [(one.name, _signature(module, one.type_index)) for one in module.imported_functions]
    out.print(table("imports from ic0", ("function", "type"), _some(imported) or [("none", "")]))
    visible = {one.name: "public" if one.public else "private" for one in info.custom_sections}
    sections = [(one.name, visible[one.name], f"{len(one.content):,}") for one in info.custom_sections]
    columns = ("name", "visibility", "bytes")
    out.print(table("custom sections of the canister", columns, sections or [("none", "", "")], right=("bytes",)))
    sizes = [(name, f"{size:,}") for name, size in describe.section_sizes(plain)]
    out.print(table("sections", ("name", "bytes"), _some(sizes), right=("bytes",)))


def _contents(module: Module, prepared: Prepared) -> list[tuple[str, str]]:
    info = prepared.info
    memory = "none"
    if info.has_memory:
        filled = len(info.initial_pages.indices)
        first, most = (
            f"{pages * WASM_PAGE_BYTES / (1 << 20):,.1f} MiB" for pages in (info.heap_pages_initial, info.heap_pages_max)
        )
        memory = f"{64 if info.wasm64 else 32}-bit, {first} at first, {most} at most, data in {filled:,} pages"
    tables = ", ".join(f"{one.minimum:,} elements" for one in module.tables) or "none"
    return [
        ("memory", memory),
        ("functions", f"{len(module.functions):,} of its own, {len(module.imported_functions):,} imported"),
        ("globals", f"{len(module.globals):,}, {len(info.globals):,} of them mutable"),
        ("table", tables),
        ("instance can be used again", "yes" if info.reuse_safe else "no, since it drops data segments"),
    ]


def _signature(module: Module, type_index: int) -> str:
    from sandbox.wasm.binary import TYPE_NAMES

    kind = module.types[type_index]
    sides = (" ".join(TYPE_NAMES[one] for one in side) for side in (kind.params, kind.results))
    return " -> ".join(sides).strip()


def _some(rows: list[Any]) -> list[Any]:
    if len(rows) <= _SHOWN_ITEMS:
        return rows
    return [*rows[:_SHOWN_ITEMS], (f"... and {len(rows) - _SHOWN_ITEMS:,} more", *("",) * (len(rows[0]) - 1))]


# --- profiles


def _hex(text: str) -> bytes:
    try:
        return b"" if text == "()" else bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raise BadInput(f"argument {text!r} is not hexadecimal; leave --hex out to give Candid text") from None


def _argument(interface: Interface, method: str, text: str, as_hex: bool) -> bytes:
    if as_hex:
        return _hex(text)
    if interface.is_known and method not in interface.methods():  # an entry point, or refused later
        interface = Interface(None, interface.name)
    return interface.encode_text(method, text, _NOBODY, CallPlace())


def _init_argument(interface: Interface, text: str | None, as_hex: bool) -> bytes:
    """None given: empty Candid for a canister that speaks it, else no bytes. A service file doesn't tell the types."""
    if as_hex:
        return _hex(text or "()")
    if text is None and not interface.is_known:
        return b""
    return Interface(None, interface.name).encode_init((), text or "()", _NOBODY)


def _nobody(name: str) -> Principal:
    raise BadInput(f"there is no network in which {name!r} stands for somebody; write the principal itself")


_NOBODY = Names(_nobody, _nobody)


def _write_flame_graph(out: Path, title: str, found: CallProfile) -> None:
    """In speedscope's format: one sample per path of calls, weighing its instructions."""
    frames: dict[str, int] = {}
    samples, weights = [], []
    for step in found.steps:
        if step.own:
            samples.append([frames.setdefault(name, len(frames)) for name in step.stack])
            weights.append(step.own)
    content = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "exporter": "icsim",
        "name": title,
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": name} for name in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": f"{title} (instructions)",
                "unit": "none",
                "startValue": 0,
                "endValue": found.total,
                "samples": samples,
                "weights": weights,
            }
        ],
    }
    try:
        out.write_text(json.dumps(content))
    except OSError as error:
        raise BadInput(f"{out} can't be written: {error.strerror}") from None


def _tell_profile(found: CallProfile, interface: Interface, out: Path, as_hex: bool) -> int:
    from sandbox.protocol import ReplyData, Trapped
    from subnet.cli.tables import console, table
    from subnet.lab.call_profile import by_function

    rows = [
        (name, f"{row.calls:,}", f"{row.own:,}", f"{100 * row.own / max(found.total, 1):.1f} %", f"{row.whole:,}")
        for name, row in by_function(found.steps)
    ]
    if len(rows) > _SHOWN_FUNCTIONS:
        rest = [row for _, row in by_function(found.steps)][_SHOWN_FUNCTIONS:]
        own, calls = sum(row.own for row in rest), sum(row.calls for row in rest)
        share = f"{100 * own / max(found.total, 1):.1f} %"
        rows[_SHOWN_FUNCTIONS:] = [(f"{len(rest):,} further functions", f"{calls:,}", f"{own:,}", share, "")]
    rows.append(("total", "", f"{found.total:,}", "100.0 %", f"{found.total:,}"))
    columns = ("function", "calls", "own instructions", "share", "with callees")
    screen = console()
    screen.print(table(f"{found.entry.value} {found.method}", columns, rows, right=columns[1:]))
    answer = found.answer
    if isinstance(answer, Trapped):
        click.echo(f"trapped (IC0{answer.error_code}): {answer.message}")
    elif isinstance(answer.response, ReplyData):
        data = answer.response.data
        click.echo(f"replied: {data.hex() if as_hex else interface.answer_text(found.method, data)}")
    elif answer.response is not None:
        click.echo(f"rejected: {answer.response.message}")
    if not isinstance(answer, Trapped) and answer.calls:
        click.echo(f"calls to other canisters, not made: {len(answer.calls)}")
    click.echo(f"flame graph: {out}, for https://www.speedscope.app")
    return 1 if isinstance(answer, Trapped) else 0
