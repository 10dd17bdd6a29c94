"""The `[[outcall]]` tables of a topology, and recorded files of answers.

Rule module, but for the files that it reads. Not in the spec: the format is ours (docs/outcalls.md).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.keys import OUTCALL
from configs.toml_table import Source, Table
from ic_types.errors import ConfigError
from ic_types.outcall_rule import METHODS, OutcallRule
from ic_types.reject import RejectCode

_KINDS = ("body", "body_file", "reject", "forward", "file")
RECORDED = ("url", "method", "node", "times", "status", "headers", "body", "body_hex", "reject")
"""What a line of a recorded file may say."""


def read_outcalls(table: Table, source: Source) -> tuple[OutcallRule, ...]:
    """The rules, in their order; those of a file stand where its table stands.

    Raises: ConfigError naming file, line and key.
    """
    rules: list[OutcallRule] = []
    for part in table.tables("outcall", OUTCALL):
        given = [name for name in _KINDS if part.has(name)]
        if len(given) > 1:
            part.fail(given[1], f"stands beside {given[0]}; a rule has one of {', '.join(_KINDS)}")
        if part.has("file"):
            rules += read_recorded(_beside(source, part.text("file")), fail=lambda why, at=part: at.fail("file", why))
        else:
            rules.append(_rule(part, source))
    return tuple(rules)


def _rule(part: Table, source: Source) -> OutcallRule:
    headers = []
    for line in part.texts("headers") or ():
        name, colon, value = line.partition(":")
        if not colon:
            part.fail("headers", f"{line!r} is no header; headers are written as NAME: VALUE")
        headers.append((name.strip(), value.strip()))
    bodies = tuple(text.encode() for text in part.texts("body") or ("",))
    if part.has("body_file"):
        path = _beside(source, part.text("body_file"))
        try:
            bodies = (path.read_bytes(),)
        except OSError as error:
            part.fail("body_file", f"{path} can't be read: {error.strerror}")
    forward = part.text("forward")
    if forward and not forward.startswith(("http://", "https://")):
        part.fail("forward", f"{forward!r} is no address; addresses begin with http:// or https://")
    return OutcallRule(
        url=part.text("url", "*"),
        method=part.text("method").upper() if part.has("method") else "",
        node=part.number("node") if part.has("node") else 0,
        times=part.number("times") if part.has("times") else 0,
        status=part.number("status", 200),
        headers=tuple(headers),
        bodies=bodies or (b"",),
        reject_code=int(RejectCode.SYS_TRANSIENT) if part.has("reject") else 0,
        reject_message=part.text("reject"),
        forward=forward,
    )


def _beside(source: Source, name: str) -> Path:
    return source.base / name


def read_recorded(path: Path, fail: Any = None) -> list[OutcallRule]:
    """The answers of a recorded file: one JSON object a line.

    Raises: ConfigError, or what `fail` raises, naming the line.
    """

    def wrong(why: str) -> None:
        if fail is not None:
            fail(why)
        raise ConfigError(why)

    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        wrong(f"{path} can't be read: {error}")
    rules = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                rules.append(recorded_rule(json.loads(line)))
            except (ValueError, TypeError) as error:
                wrong(f"line {number} of {path}: {error}")
    return rules


def recorded_rule(found: Any) -> OutcallRule:
    """The rule of one recorded answer. Raises: ValueError saying what is wrong."""
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    unknown = [name for name in found if name not in RECORDED]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}; known are {', '.join(RECORDED)}")
    headers = found.get("headers", [])
    if not isinstance(headers, list) or not all(_is_pair(one) for one in headers):
        raise ValueError("headers: expected a list of [name, value]")
    method = _text(found, "method", "").upper()
    if method and method not in METHODS:
        raise ValueError(f"method: {method!r} is none of {', '.join(METHODS)}")
    body = bytes.fromhex(_text(found, "body_hex", "")) or _text(found, "body", "").encode()
    return OutcallRule(
        url=_text(found, "url", "*"),
        method=method,
        node=_count(found, "node", 0),
        times=_count(found, "times", 0),
        status=_count(found, "status", 200),
        headers=tuple((name, value) for name, value in headers),
        bodies=(body,),
        reject_code=int(RejectCode.SYS_TRANSIENT) if "reject" in found else 0,
        reject_message=_text(found, "reject", ""),
    )


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(isinstance(part, str) for part in value)


def _text(found: dict[str, Any], name: str, default: str) -> str:
    value = found.get(name, default)
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected a text")
    return value


def _count(found: dict[str, Any], name: str, default: int) -> int:
    value = found.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 31:
        raise ValueError(f"{name}: expected a whole number")
    return value
