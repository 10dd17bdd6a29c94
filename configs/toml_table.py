"""TOML files read with care: every error names file, line, key, what was found and what is allowed.

Plumbing: reads files. Python's TOML reader keeps no positions, so lines are found by a second, simpler look at the text.
"""

from __future__ import annotations

import datetime
import difflib
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from configs.keys import Form, Key
from ic_types.errors import ConfigError

Place = tuple["str | int", ...]
"""Where a value stands: keys and positions in lists, from the top."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}\Z")
_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\"' -]+?)\s*\]\]?\s*(?:#.*)?\Z")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z0-9_\"'-]+(?:\s*\.\s*[A-Za-z0-9_\"'-]+)*)\s*=")
_CYCLES = re.compile(r"([0-9][0-9_]*)\s*([KMBT]?)\Z")
_SCALE = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(slots=True)
class Source:
    """A TOML document: its values and the lines they stand on."""

    name: str
    data: dict[str, Any]
    base: Path
    """Folder that paths in it are relative to."""
    lines: dict[Place, int] = field(default_factory=dict)
    overrides: dict[Place, str] = field(default_factory=dict)
    """Values set from the command line, and the option that did it."""

    def fail(self, place: Place, problem: str) -> NoReturn:
        """Raise a ConfigError about a place."""
        raise ConfigError(f"{self.where(place)}: {problem}")

    def where(self, place: Place) -> str:
        """File, line and key of a place, or the option that set it."""
        key = self.title(place)
        for size in range(len(place), 0, -1):
            if (option := self.overrides.get(place[:size])) is not None:
                return f"{option}: {key}"
            if (line := self.lines.get(place[:size])) is not None:
                return f"{self.name}, line {line}, {key}"
        return f"{self.name}, {key}" if key else self.name

    def title(self, place: Place) -> str:
        """`subnet "app-1", nodes`: tables in lists are called by their name."""
        shown: list[str] = []
        value: Any = self.data
        for step in place:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                value = None
            if isinstance(step, int):
                name = value.get("name") if isinstance(value, dict) else None
                shown[-1] += f" {name!r}" if isinstance(name, str) else f" number {step + 1}"
            else:
                shown.append(step)
        return ", ".join(shown)


def read_source(path: Path) -> Source:
    """Read a TOML file.

    Raises: ConfigError when it is missing, unreadable or broken (naming the line).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file{_similar_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}") from None
    return parse_source(text, str(path), path.parent)


def parse_source(text: str, name: str, base: Path) -> Source:
    """A document from its text.

    Raises: ConfigError naming the line when it isn't TOML.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}") from None
    return Source(name=name, data=data, base=base, lines=_find_lines(text))


def _similar_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} doesn't exist either"
    found = sorted(p.name for p in folder.glob("*.toml"))
    close = difflib.get_close_matches(path.name, found, n=1)
    return f"; did you mean {folder / close[0]}?" if close else ""


def _find_lines(text: str) -> dict[Place, int]:
    """Lines of tables and keys; values that span lines are skipped by their triple quotes."""
    lines: dict[Place, int] = {}
    table: Place = ()
    counts: dict[Place, int] = {}
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := _HEADER.match(line):
            keys = _split(header[2])
            table = _current(keys[:-1], counts)
            if header[1] == "[[":
                index = counts[(*table, keys[-1])] = counts.get((*table, keys[-1]), -1) + 1
                lines.setdefault((*table, keys[-1]), number)
                table = (*table, keys[-1], index)
            else:
                table = (*table, keys[-1])
            lines[table] = number
        elif assignment := _ASSIGNMENT.match(line):
            lines.setdefault((*table, *_split(assignment[1])), number)
            rest = line[assignment.end() :]
            inside = next((quote for quote in ('"""', "'''") if rest.count(quote) == 1), "")
    return lines


def _split(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def _current(keys: Sequence[str], counts: dict[Place, int]) -> Place:
    """The place of a table's parent: a list of tables means its last one."""
    place: Place = ()
    for key in keys:
        place = (*place, key)
        if place in counts:
            place = (*place, counts[place])
    return place


def override(source: Source, options: Iterable[str]) -> None:
    """Set values from `key=value` options; `subnet.NAME.nodes=4` addresses a table by its name.

    Raises: ConfigError when an option has no `=` or leads nowhere.
    """
    for option in options:
        key, sign, text = option.partition("=")
        label = f"--set {option}"
        if not sign or not key.strip():
            raise ConfigError(f"{label}: expected key=value, such as seed=7 or subnet.app-1.nodes=4")
        _assign(source, _split(key), _parse_value(text.strip()), label)


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(source: Source, keys: list[str], value: Any, label: str) -> None:
    table: Any = source.data
    place: Place = ()
    for key in keys[:-1]:
        if isinstance(table, list):
            names = [item.get("name") for item in table if isinstance(item, dict)]
            if key not in names:
                known = ", ".join(str(name) for name in names)
                raise ConfigError(
                    f"{label}: there is no {'.'.join(map(str, place))} named {key!r}; there are: {known or 'none'}"
                )
            place = (*place, names.index(key))
            table = table[names.index(key)]
        else:
            place = (*place, key)
            table = table.setdefault(key, {})
        if not isinstance(table, dict | list):
            raise ConfigError(f"{label}: {key} is no table")
    if isinstance(table, list):
        raise ConfigError(f"{label}: name one of its keys too, such as {'.'.join(keys)}.nodes=4")
    table[keys[-1]] = value
    source.overrides[(*place, keys[-1])] = label


class Table:
    """One table of a document, checked against its keys."""

    def __init__(self, source: Source, place: Place, data: Any, keys: Sequence[Key]) -> None:
        self.source = source
        self.place = place
        self.keys = {key.name: key for key in keys}
        if not isinstance(data, dict):
            source.fail(place, f"expected {Form.TABLE.value}, found {shown(data)}")
        self.data: dict[str, Any] = data
        for name in data:
            if name not in self.keys:
                close = difflib.get_close_matches(name, self.keys, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(self.keys)}"
                source.fail((*place, name), f"unknown key; {hint}")
        for key in keys:
            if key.required and key.name not in data:
                source.fail(place, f"the key {key.name!r} is missing ({key.meaning}): {key.form.value}")

    def fail(self, name: str, problem: str) -> NoReturn:
        """Raise a ConfigError about one of its keys."""
        self.source.fail((*self.place, name), problem)

    def has(self, name: str) -> bool:
        """Whether the key is given."""
        return name in self.data

    def text(self, name: str, default: str = "") -> str:
        """A text, a name or a choice."""
        value = self.data.get(name, default)
        key = self.keys[name]
        if not isinstance(value, str):
            self.fail(name, f"expected {key.form.value}, found {shown(value)}")
        if name in self.data and key.form is Form.NAME and not _NAME.match(value):
            self.fail(name, f"expected {key.form.value}, found {shown(value)}")
        if key.choices and value not in key.choices:
            close = difflib.get_close_matches(value, key.choices, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            self.fail(name, f"found {value!r}; allowed are {', '.join(key.choices)}{hint}")
        return value

    def number(self, name: str, default: int = 0) -> int:
        """A number in the key's range."""
        value = self.data.get(name, default)
        key = self.keys[name]
        if key.form is Form.CYCLES and isinstance(value, str):
            value = self._cycles(name, value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(name, f"expected {key.form.value}, found {shown(value)}")
        if not key.low <= value <= key.high:
            self.fail(name, f"found {value}; allowed is {key.low} to {key.high}")
        return value

    def _cycles(self, name: str, value: str) -> int:
        match = _CYCLES.match(value)
        if match is None:
            self.fail(name, f"expected {Form.CYCLES.value}, found {shown(value)}")
        return int(match[1].replace("_", "")) * _SCALE[match[2]]

    def flag(self, name: str, default: bool = False) -> bool:
        """true or false."""
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            self.fail(name, f"expected {Form.BOOL.value}, found {shown(value)}")
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A text or a list of texts; None when the key is absent."""
        value = self.data.get(name)
        if value is None:
            return None
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list):
            self.fail(name, f"expected {Form.TEXTS.value}, found {shown(value)}")
        for item in found:
            if not isinstance(item, str):
                self.fail(name, f"expected {Form.TEXTS.value}, found {shown(item)} in the list")
        return tuple(found)

    def octets(self, name: str) -> bytes:
        """Bytes."""
        value = self.text(name)
        try:
            return bytes.fromhex(value)
        except ValueError:
            self.fail(name, f"expected {Form.HEX.value}, found {shown(value)}")

    def time_ns(self, name: str, default: int) -> int:
        """Nanoseconds since 1970."""
        if name not in self.data:
            return default
        value = self.data[name]
        if isinstance(value, str):
            value = _parse_value(value)
        if not isinstance(value, datetime.datetime) or value.tzinfo is None:
            self.fail(name, f"expected {Form.TIME.value}, found {shown(value)}")
        since = value - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        nanoseconds = (since // datetime.timedelta(microseconds=1)) * 1000
        if nanoseconds < 0:
            self.fail(name, f"{value.isoformat()} is before 1970")
        return nanoseconds

    def table(self, name: str, keys: Sequence[Key]) -> Table | None:
        """A table inside this one; None when absent."""
        if name not in self.data:
            return None
        return Table(self.source, (*self.place, name), self.data[name], keys)

    def tables(self, name: str, keys: Sequence[Key]) -> list[Table]:
        """The tables of a list."""
        value = self.data.get(name, [])
        if not isinstance(value, list):
            self.fail(name, f"expected {Form.TABLES.value}: [[{name}]], found {shown(value)}")
        return [Table(self.source, (*self.place, name, n), item, keys) for n, item in enumerate(value)]

    def ints(self) -> dict[str, int]:
        """All of its numbers."""
        return {name: self.number(name) for name in self.data}


def shown(value: Any) -> str:
    """A value as errors show it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
