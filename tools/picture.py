"""Turns the terminal output on standard input into an SVG picture: icsim run ... | python tools/picture.py docs/run.svg "title"

Plumbing. Colours are kept when the command was told to colour (FORCE_COLOR=1).
"""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.text import Text


def main(path: str, title: str) -> None:
    """Write the picture."""
    text = Text.from_ansi(sys.stdin.read().rstrip())
    width = max(map(len, text.plain.splitlines())) + 2
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(text)
    console.save_svg(path, title=title)


if __name__ == "__main__":
    main(*sys.argv[1:])
