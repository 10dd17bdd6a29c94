"""Cases for the fuzzing of module validation and instrumentation: broken, odd and valid modules, each made from its number.

Only InvalidWasm may come out of `prepare`, and what it accepts must be valid for the engine.
"""

from __future__ import annotations

import gzip
import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import wasmtime

from configs.limits import GIB, SubnetLimits
from ic_types.errors import InvalidWasm
from sandbox.engine_config import make_engine
from sandbox.wasm import binary, decoding
from sandbox.wasm.prepare import prepare
from tests.support.random_wasm import mutated, random_module
from tests.support.wasm_samples import SAMPLES, compile_wat

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "canisters"
LIMITS = SubnetLimits(max_stable_memory=1 * GIB)
TELLING = (0x00, 0x01, 0x0B, 0x3F, 0x40, 0x60, 0x6F, 0x70, 0x7B, 0x7C, 0x7D, 0x7E, 0x7F, 0x80, 0xFC, 0xFD, 0xFF)
"""Bytes that mean something in the format."""
_REAL = ("counter", "timer", "compute")


@cache
def pool() -> tuple[list[bytes], list[bytes]]:
    """Modules to begin with: all, and those whose operators may be exchanged."""
    samples = [compile_wat(text) for _, text in sorted(SAMPLES.items())]
    real = [(EXAMPLES / f"{name}.wasm").read_bytes() for name in _REAL]
    grown = [random_module(seed) for seed in range(40)]
    return samples + real + grown, samples + real


@cache
def _engine() -> wasmtime.Engine:
    return make_engine()


@dataclass
class Tally:
    """What came of the cases so far."""

    accepted: int = 0
    refused: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    """Accepted ones."""


def make(number: int) -> tuple[str, bytes]:
    """The kind of case, and its bytes."""
    rng = random.Random(number)
    kinds = (("bytes", 56), ("sections", 14), ("operators", 16), ("gzip", 6), ("padded", 4), ("grown", 2), ("noise", 2))
    kind = rng.choices([name for name, _ in kinds], [weight for _, weight in kinds])[0]
    every, plain = pool()
    match kind:
        case "bytes":
            return kind, _edited(rng, rng.choice(every))
        case "sections":
            return kind, _shuffled(rng, every)
        case "operators":
            return kind, mutated(rng.choice(plain), number, rng.randint(1, 8))
        case "gzip":
            return kind, _packed(rng, rng.choice(plain))
        case "padded":
            return kind, padded(rng, rng.choice(every))
        case "grown":
            return kind, random_module(number)
        case _:
            head = rng.choice((b"", binary.HEADER, b"\0asm", b"\x1f\x8b\x08"))
            return kind, head + rng.randbytes(rng.randint(0, 60))


def attempt(number: int, tally: Tally) -> None:
    """Run a case.

    Raises: whatever isn't InvalidWasm, for the first time that it gets out.
    """
    kind, wasm = make(number)
    try:
        prepared = prepare(wasm, LIMITS)
    except InvalidWasm as error:
        tally.refused += 1
        cause = error.__cause__
        # `prepare` refuses what stumbles over odd structure behind the engine's back; here it would hide a fault.
        if isinstance(cause, (IndexError, OverflowError, ValueError)) and not isinstance(cause, UnicodeError):
            raise cause from error
        if kind in ("padded", "grown"):
            raise AssertionError(f"a valid module is refused: {error}") from error
        return
    tally.accepted += 1
    tally.by_kind[kind] = tally.by_kind.get(kind, 0) + 1
    wasmtime.Module.validate(_engine(), prepared.code)


def run(first: int, count: int, tally: Tally) -> None:
    """Cases `first` and on.

    Raises: AssertionError naming the case.
    """
    for number in range(first, first + count):
        try:
            attempt(number, tally)
        except Exception as error:
            how = f"python -m tests.fuzz --seed {number} --cases 1"
            raise AssertionError(
                f"case {number} ({make(number)[0]}): {type(error).__name__}: {error}; again by: {how}"
            ) from error


# --- ways to make a module odd


def _edited(rng: random.Random, wasm: bytes) -> bytes:
    """Bytes replaced, inserted, removed, repeated; mostly few."""
    out = bytearray(wasm)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(out))
        match rng.randrange(6):
            case 0 | 1:
                out[at] = rng.choice(TELLING)
            case 2:
                out[at] ^= 1 << rng.randrange(8)
            case 3:
                out[at:at] = bytes(rng.choice(TELLING) for _ in range(rng.randint(1, 4)))
            case 4:
                del out[at : at + rng.randint(1, 4)]
            case _:
                out[at:at] = out[at : at + rng.randint(1, 16)]
    return bytes(out)


def _sections(wasm: bytes) -> list[tuple[int, bytes]]:
    return [(part.kind, wasm[part.start : part.end]) for part in binary.sections(wasm)]


def _shuffled(rng: random.Random, every: list[bytes]) -> bytes:
    """Sections left out, doubled, exchanged with those of another module, or with their contents cut."""
    parts, others = _sections(rng.choice(every)), _sections(rng.choice(every))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts)) if parts else 0
        match rng.randrange(5):
            case 0 if parts:
                del parts[at]
            case 1 if parts:
                parts.insert(rng.randint(0, len(parts)), parts[at])
            case 2 if parts and others:
                same = [one for one in others if one[0] == parts[at][0]]
                parts[at] = rng.choice(same or others)
            case 3 if parts:
                kind, content = parts[at]
                parts[at] = (kind, content[: rng.randint(0, len(content))])
            case _:
                parts.append((0, binary.name(rng.choice(("name", "icp:public x", "icp:x", "icp:private", "y"))) + b"content"))
    if rng.random() < 0.8:
        order = {kind: place for place, kind in enumerate((1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11, 0))}
        parts.sort(key=lambda one: order.get(one[0], 0))
    return binary.HEADER + b"".join(binary.section(kind, content) for kind, content in parts)


def _packed(rng: random.Random, wasm: bytes) -> bytes:
    """Gzipped, then damaged now and then: in its head, its stream or its announced size."""
    out = bytearray(gzip.compress(wasm if rng.random() < 0.7 else _edited(rng, wasm), mtime=0))
    match rng.randrange(5):
        case 0:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        case 1:
            out[-4:] = rng.choice((0, 1, len(wasm) + 1, 1 << 31, decoding.MAX_MODULE_BYTES)).to_bytes(4, "little")
        case 2:
            del out[rng.randrange(len(out)) :]
        case 3:
            out += rng.randbytes(rng.randint(1, 20))
    return bytes(out)


def padded(rng: random.Random, wasm: bytes) -> bytes:
    """The same module with sizes and counts written longer than necessary, as linkers do: still valid."""
    out = bytearray(binary.HEADER)
    for kind, content in _sections(wasm):
        if kind == binary.CODE:
            content = _padded_code(rng, content)
        elif kind in (binary.FUNCTION, binary.EXPORT, binary.TYPE, binary.IMPORT):
            reader = binary.Reader(content)
            count = reader.unsigned()
            content = _long(rng, count) + content[reader.pos :]
        out += bytes((kind,)) + _long(rng, len(content)) + content
    return bytes(out)


def _padded_code(rng: random.Random, content: bytes) -> bytes:
    reader = binary.Reader(content)
    out = bytearray(_long(rng, count := reader.unsigned()))
    for _ in range(count):
        body = binary.Reader(reader.take(reader.unsigned()))
        groups = body.unsigned()
        # Of locals too: their count, and the number in each group.
        head = bytearray(_long(rng, groups))
        for _ in range(groups):
            head += _long(rng, body.unsigned()) + body.take(1)
        whole = bytes(head) + body.data[body.pos :]
        out += _long(rng, len(whole)) + whole
    return bytes(out)


def _long(rng: random.Random, value: int) -> bytes:
    """LEB128 with up to 5 bytes."""
    raw = bytearray(binary.unsigned(value))
    for _ in range(rng.randint(0, 5 - len(raw))):
        raw[-1] |= 0x80
        raw.append(0)
    return bytes(raw)
