"""Do the nodes of a subnet agree, and if not, where do they differ and who is alone.

Rule module. After each round all nodes' answers are compared. When they differ, the nodes are asked for digests of their
states, level by level, until canister and page or field are found. The fewer nodes are named; a tie names both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import cbor2

from ic_types.principal import Principal
from subnet.protocol import RoundResult

Path: TypeAlias = tuple[bytes, ...]
_MAX_FINDINGS = 16
_MAX_QUESTIONS = 256


@dataclass(frozen=True, slots=True)
class Finding:
    """A place where states differ, and which nodes hold which value there."""

    path: Path
    values: tuple[tuple[str, tuple[int, ...]], ...]
    """Short form of each value and the nodes that hold it, the most nodes first."""

    def text(self) -> str:
        """One line for people."""
        return f"{path_text(self.path)}: " + "; ".join(f"{_nodes(nodes)} {value}" for value, nodes in self.values)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Nodes of a subnet differ after the same batch."""

    subnet: str
    height: int
    sides: tuple[tuple[int, ...], ...]
    """Nodes that agree with each other, the most first."""
    findings: tuple[Finding, ...] = ()

    @property
    def is_tie(self) -> bool:
        """No side has more nodes than the next."""
        return len(self.sides[0]) == len(self.sides[1])

    def text(self) -> str:
        """The report."""
        if self.is_tie:
            who = "a tie: " + " against ".join(_nodes(side) for side in self.sides)
        else:
            who = f"in the minority: {_nodes(sorted(n for side in self.sides[1:] for n in side))}"
        lines = [f"divergence on subnet {self.subnet} at height {self.height}, {who}"]
        lines += [f"  {finding.text()}" for finding in self.findings]
        if not self.findings:
            lines.append("  the nodes could not say where their states differ")
        return "\n".join(lines)


def sides(results: Mapping[int, RoundResult]) -> tuple[tuple[int, ...], ...]:
    """Nodes grouped by what they answered; one group when all agree."""
    first = next(iter(results.values()))
    if all(same_answer(first, other) for other in results.values()):
        return (tuple(sorted(results)),)
    groups: list[list[int]] = []
    for index in sorted(results):
        for group in groups:
            if same_answer(results[group[0]], results[index]):
                group.append(index)
                break
        else:
            groups.append([index])
    return tuple(sorted((tuple(group) for group in groups), key=lambda group: (-len(group), group)))


def same_answer(a: RoundResult, b: RoundResult) -> bool:
    """Whether two nodes say the same, as far as it isn't their own (shares, stage times)."""
    return a is b or (
        a.state_hash == b.state_hash
        and a.root_hash == b.root_hash
        and a.heads == b.heads
        and a.outcomes == b.outcomes
        and a.has_work == b.has_work
        and a.next_due_ns == b.next_due_ns
    )


@dataclass(slots=True)
class Walk:
    """Finds where states differ: gives a question for all nodes, takes their answers, until there is no question left."""

    nodes: tuple[int, ...]
    open_paths: list[Path] = field(default_factory=lambda: [()])
    findings: list[Finding] = field(default_factory=list)
    asked: int = 0

    def question(self) -> Path | None:
        """The next path whose digests are wanted of every node."""
        if not self.open_paths or len(self.findings) >= _MAX_FINDINGS or self.asked >= _MAX_QUESTIONS:
            return None
        self.asked += 1
        return self.open_paths[0]

    def answer(self, bodies: Mapping[int, bytes]) -> None:
        """The answers to the last question: CBOR, a map from label to digest, or the value of a leaf."""
        path = self.open_paths.pop(0)
        found = {index: _decode(body) for index, body in sorted(bodies.items())}
        maps = {index: value for index, value in found.items() if isinstance(value, dict)}
        if len(maps) < len(found):
            self._add(path, found)
            return
        labels = sorted({label for value in maps.values() for label in value})
        below: list[Path] = []
        for label in labels:
            digests = {index: value.get(label) for index, value in maps.items()}
            if len({repr(digest) for digest in digests.values()}) == 1:
                continue
            if None in digests.values():
                self._add((*path, label), digests)
            else:
                below.append((*path, label))
        self.open_paths[:0] = below
        if not below and not self.findings and path:
            self._add(path, dict.fromkeys(found, "differs, though its parts don't"))

    def _add(self, path: Path, values: Mapping[int, object]) -> None:
        groups: dict[str, list[int]] = {}
        for index, value in values.items():
            groups.setdefault(_short(value), []).append(index)
        if len(groups) > 1 or isinstance(next(iter(values.values())), str):
            ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[1]))
            self.findings.append(Finding(path, tuple((value, tuple(nodes)) for value, nodes in ordered)))


def path_text(path: Sequence[bytes]) -> str:
    """A path in a state as people write it: canister ids as text, numbers as numbers."""
    parts = []
    for label in path:
        if len(label) == 10 and label.endswith(b"\x01\x01"):
            parts.append(f"canister {Principal(label).to_text()}")
        elif label and all(32 <= byte < 127 for byte in label):
            parts.append(label.decode())
        elif 0 < len(label) <= 8:
            parts.append(str(int.from_bytes(label, "big")))
        else:
            parts.append(label.hex())
    return "/".join(parts) or "state"


def _decode(body: bytes) -> object:
    try:
        return cbor2.loads(body)
    except (cbor2.CBORDecodeError, ValueError, EOFError):
        return f"no CBOR: {body[:16].hex()}"


def _short(value: object) -> str:
    if value is None:
        return "has none"
    if isinstance(value, bytes):
        return f"has {value[:8].hex()}{'...' if len(value) > 8 else ''}"
    return f"has {str(value)[:60]}"


def _nodes(nodes: Iterable[int]) -> str:
    listed = [str(node) for node in nodes]
    return f"node{'s' if len(listed) > 1 else ''} {', '.join(listed)}"
