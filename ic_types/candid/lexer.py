"""Words of Candid text: of values, types and service files alike.

Rule module. Spec: Candid specification, "Values" (grammar), "Comments".
"""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import NamedTuple, NoReturn

from ic_types.errors import CandidError

MAX_TEXT_DEPTH = 128
"""Nesting of values and types in text."""
_TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]+|//[^\n]*)
      | (?P<float>0[xX][0-9a-fA-F][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*(?:[pP][+-]?[0-9][0-9_]*)?|[pP][+-]?[0-9][0-9_]*)
                 |[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][+-]?[0-9][0-9_]*)?|[eE][+-]?[0-9][0-9_]*))
      | (?P<int>0[xX][0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)
      | (?P<id>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<punct>->|[(){};:,.=+-])""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"/\*|\*/")
_PIECE = re.compile(r"""(?P<plain>[^"\\]+)|\\(?:(?P<byte>[0-9a-fA-F]{2})|u\{(?P<point>[0-9a-fA-F_]+)\}|(?P<short>[nrt\\"']))""")
_SHORT = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", '"': b'"', "'": b"'"}


class Kind(Enum):
    """What a word is."""

    ID = "a name"
    TEXT = "a text"
    INT = "a number"
    FLOAT = "a decimal number"
    PUNCT = "a sign"
    END = "the end"


class Token(NamedTuple):
    """A word and where it starts."""

    kind: Kind
    text: str
    position: int
    data: bytes = b""
    """The bytes that a text stands for, escapes resolved."""


class Cursor:
    """The words of one source, read one after another; errors name line and column."""

    def __init__(self, source: str, name: str) -> None:
        self.source = source
        self.name = name
        self.tokens = list(self._tokens())
        self.next = 0

    @property
    def token(self) -> Token:
        """The word that is to be read next."""
        return self.tokens[self.next]

    def take(self) -> Token:
        """Read a word."""
        token = self.tokens[self.next]
        if token.kind is not Kind.END:
            self.next += 1
        return token

    def at(self, text: str) -> bool:
        """Whether the next word is this sign or name."""
        token = self.tokens[self.next]
        return token.text == text and token.kind in (Kind.PUNCT, Kind.ID)

    def accept(self, text: str) -> bool:
        """Read this sign or name if it comes next."""
        if self.at(text):
            self.next += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        """Read this sign or name.

        Raises: CandidError when something else comes.
        """
        if not self.at(text):
            self.fail(f"expected {text!r}, found {self.shown()}")
        return self.take()

    def ahead(self, text: str) -> bool:
        """Whether this sign follows after the next word."""
        follower = self.tokens[min(self.next + 1, len(self.tokens) - 1)]
        return follower.kind is Kind.PUNCT and follower.text == text

    def shown(self) -> str:
        """The next word as errors name it."""
        token = self.token
        if token.kind is Kind.END:
            return "the end of the text"
        shown = token.text if len(token.text) <= 40 else token.text[:37] + "..."
        return shown if token.kind is Kind.TEXT else repr(shown)

    def fail(self, problem: str, position: int | None = None) -> NoReturn:
        """Raise a CandidError at the next word or at a position."""
        at = self.token.position if position is None else position
        line = self.source.count("\n", 0, at) + 1
        column = at - (self.source.rfind("\n", 0, at) + 1) + 1
        raise CandidError(f"{self.name}, line {line}, column {column}: {problem}")

    def decoded(self, token: Token) -> str:
        """The characters of a text word."""
        try:
            return token.data.decode()
        except UnicodeDecodeError:
            self.fail('the text is not valid UTF-8; bytes are written blob "..."', token.position)

    def integer(self, token: Token, negative: bool = False) -> int:
        """The number of an integer word."""
        plain = token.text.replace("_", "")
        try:
            number = int(plain[2:], 16) if plain[:2] in ("0x", "0X") else int(plain)
        except ValueError:
            self.fail(f"a decimal number of {len(plain)} digits is too long; write it as 0x...", token.position)
        return -number if negative else number

    def floating(self, token: Token, negative: bool = False) -> float:
        """The number of a decimal word."""
        plain = token.text.replace("_", "")
        try:
            number = float.fromhex(plain) if plain[:2] in ("0x", "0X") else float(plain)
        except (ValueError, OverflowError):
            number = math.inf
        if math.isinf(number):
            self.fail(f"{token.text} is too large for a decimal number", token.position)
        return -number if negative else number

    def _tokens(self) -> list[Token]:
        found: list[Token] = []
        at, source = 0, self.source
        kinds = {"float": Kind.FLOAT, "int": Kind.INT, "id": Kind.ID, "punct": Kind.PUNCT}
        while at < len(source):
            if source[at] == '"':
                at = self._text(at, found)
                continue
            if source.startswith("/*", at):
                at = self._comment(at)
                continue
            match = _TOKEN.match(source, at)
            if match is None or match.lastgroup is None:
                self.tokens, self.next = [Token(Kind.END, "", at)], 0
                self.fail(f"{source[at]!r} has no meaning here")
            if match.lastgroup != "blank":
                found.append(Token(kinds[match.lastgroup], match.group(), at))
            at = match.end()
        found.append(Token(Kind.END, "", at))
        return found

    def _comment(self, start: int) -> int:
        depth, at = 1, start + 2
        while depth:
            match = _COMMENT.search(self.source, at)
            if match is None:
                self.fail("the comment is not closed", start)
            depth += 1 if match.group() == "/*" else -1
            at = match.end()
        return at

    def _text(self, start: int, found: list[Token]) -> int:
        data = bytearray()
        at = start + 1
        while not self.source.startswith('"', at):
            match = _PIECE.match(self.source, at)
            if match is None:
                if at >= len(self.source):
                    self.fail("the text is not closed", start)
                self.fail(
                    f"unknown escape {self.source[at : at + 2]!r}; allowed are \\n \\r \\t \\\\ \\\" \\' \\xx \\u{{...}}", at
                )
            data += self._piece(match)
            at = match.end()
        found.append(Token(Kind.TEXT, self.source[start : at + 1], start, bytes(data)))
        return at + 1

    def _piece(self, match: re.Match[str]) -> bytes:
        if (plain := match["plain"]) is not None:
            try:
                return plain.encode()
            except UnicodeEncodeError:
                self.fail("the text holds half a surrogate pair", match.start())
        if (byte := match["byte"]) is not None:
            return bytes.fromhex(byte)
        if (point := match["point"]) is not None:
            number = int(point.replace("_", "") or "0", 16)
            if number > 0x10FFFF or 0xD800 <= number < 0xE000:
                self.fail(f"\\u{{{point}}} is no Unicode character", match.start())
            return chr(number).encode()
        return _SHORT[match["short"]]
