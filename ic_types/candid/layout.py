"""Long Candid text broken into lines: values, types and service files alike.

Rule module. Not in the spec: the layout is ours. Only blanks are added, so the text reads back as before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from ic_types.candid.lexer import Cursor, Kind

WIDTH = 100
_DEEPEST = 60
"""Columns; what is nested deeper isn't indented further, or a list of thousands of nodes would be a page of blanks."""
_CLOSING = {"{": "}", "(": ")"}


@dataclass(slots=True)
class _Group:
    """What stands between two brackets."""

    start: int
    """Position of the opening bracket."""
    end: int = 0
    """Position of the closing one."""
    separators: list[int] = field(default_factory=list)
    inner: list[_Group] = field(default_factory=list)


def laid_out(text: str, width: int = WIDTH) -> str:
    """Candid text in which every bracketed list that doesn't fit into a line has a line for each of its items.

    Raises: CandidError when the text isn't made of Candid words.
    """
    if len(text) <= width:
        return text
    cursor = Cursor(text, "Candid text")
    open_groups = [_Group(-1, len(text))]
    for token in cursor.tokens:
        if token.kind is not Kind.PUNCT:
            continue
        if token.text in _CLOSING:
            group = _Group(token.position)
            open_groups[-1].inner.append(group)
            open_groups.append(group)
        elif token.text in ("}", ")"):
            if len(open_groups) == 1 or _CLOSING[text[open_groups[-1].start]] != token.text:
                cursor.fail(f"{token.text!r} closes nothing", token.position)
            open_groups.pop().end = token.position
        elif token.text in (";", ","):
            open_groups[-1].separators.append(token.position)
    if len(open_groups) > 1:
        cursor.fail("the bracket is not closed", open_groups[-1].start)
    lines: list[str] = []
    _lay(text, 0, len(text), open_groups[0].inner, _Margin(width, 0, ""), lines)
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Margin:
    width: int
    indent: int
    after: str
    """What follows the piece on its last line."""


def _lay(text: str, start: int, end: int, groups: list[_Group], margin: _Margin, lines: list[str]) -> None:
    """Lay out a piece of text, which holds these groups, on lines of its own."""
    piece = text[start:end].strip()
    if margin.indent + len(piece) + len(margin.after) <= margin.width or not _breakable(groups):
        lines.append(" " * margin.indent + piece + margin.after)
        return
    at = start
    last = next(group for group in reversed(groups) if group.end > group.start + 1)
    if text[last.start] == "{" and margin.indent + len(text[start : last.start + 1].strip()) <= margin.width:
        groups = groups[groups.index(last) :]  # the head of a service stays on one line
    for number, group in enumerate(groups):
        if group.end <= group.start + 1:
            continue
        opening = text[at : group.start + 1].strip()
        if at == start:
            lines.append(" " * margin.indent + opening)
        else:
            lines[-1] += (" " if text[at] == " " else "") + opening
        _lay_items(text, group, margin, lines)
        at = group.end + 1
        lines.append(" " * margin.indent + text[group.end])
        rest = groups[number + 1 :]
        if margin.indent + 1 + len(text[at:end].rstrip()) + len(margin.after) <= margin.width or not _breakable(rest):
            break
    lines[-1] += text[at:end].rstrip() + margin.after


def _breakable(groups: list[_Group]) -> bool:
    return any(group.end > group.start + 1 for group in groups)


def _lay_items(text: str, group: _Group, margin: _Margin, lines: list[str]) -> None:
    bounds = [group.start, *group.separators, group.end]
    separator = text[group.separators[0]] if group.separators else ""
    inner = iter(group.inner)
    waiting = next(inner, None)
    for left, right in pairwise(bounds):
        mine = []
        while waiting is not None and waiting.end < right:
            mine.append(waiting)
            waiting = next(inner, None)
        if text[left + 1 : right].strip():
            _lay(text, left + 1, right, mine, _Margin(margin.width, min(margin.indent + 2, _DEEPEST), separator), lines)
