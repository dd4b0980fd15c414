"""Plain text for a terminal: wrapped lines, aligned tables, colours where they are shown."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO, TypeAlias

#: A text, or a text and its style.
Cell: TypeAlias = str | tuple[str, str]

_STYLES = {"good": "32", "bad": "1;31", "warn": "33", "dim": "2"}
_NARROWEST, _WIDEST = 40, 100


def printable(text: str) -> str:
    """Escape every character that is not printed as itself, as ``repr`` does.

    Control characters, line breaks and marks of direction in a name then cannot move the cursor, end a line or
    reorder one.
    """
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def quoted(text: str, most: int = 60) -> str:
    """``repr(text)``, of a long one the beginning."""
    return repr(text) if len(text) <= most else f"{text[:most]!r}..."


class Terminal:
    """Where a command prints: every text passes ``printable`` before it is styled.

    Parameters
    ----------
    stream : text stream, optional
        ``sys.stdout`` by default; nothing is printed where that is closed.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.width = max(shutil.get_terminal_size().columns, _NARROWEST)
        self._coloured = _has_colours(self.stream)
        self._encoding = getattr(self.stream, "encoding", None) or "utf-8"

    def sign(self, sign: str, plain: str) -> str:
        """``sign``, or ``plain`` where the stream's encoding lacks it."""
        try:
            sign.encode(self._encoding)
        except UnicodeEncodeError:
            return plain
        return sign

    def say(self, text: str = "", style: str = "", indent: str = "") -> None:
        """Print a paragraph, wrapped; its lines but the first begin with ``indent``."""
        width = min(self.width, _WIDEST)
        wrapped = textwrap.wrap(
            printable(text), width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        self._write("".join(self._styled(line, style) + "\n" for line in wrapped or [""]))

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[Cell]], *, left: int = 1) -> None:
        """Print rows under their heads, which may be of several lines; all columns but the first are right-aligned.

        Parameters
        ----------
        heads : sequence of str
        rows : sequence of sequences of cells
            An empty row is an empty line.
        left : int
            How many columns are left-aligned.
        """
        titles = list(itertools.zip_longest(*(head.split("\n")[::-1] for head in heads), fillvalue=""))[::-1]
        body = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
        cells = [[(printable(text), style) for text, style in row] for row in body]
        widths = [max(map(len, column)) for column in zip(*titles, strict=True)]
        for row in filter(None, cells):
            widths = [max(width, len(text)) for width, (text, _) in zip(widths, row, strict=True)]
        rule = self.sign("─", "-") * (sum(widths) + 2 * len(widths) - 2)
        lines = [self._row([(text, "") for text in title], widths, left) for title in titles]
        lines += [self._styled(rule, "dim")]
        lines += [self._row(row, widths, left) for row in cells]
        self._write("".join(line + "\n" for line in lines))

    def status(self, text: str) -> None:
        """Show on the terminal's last line how far the work is, in place of what was shown; nothing in a file."""
        if self.stream is not None and self.stream.isatty():
            self._write(f"\r\x1b[K{printable(text)[: self.width - 1]}")
            self.stream.flush()

    def _row(self, row: Sequence[tuple[str, str]], widths: Sequence[int], left: int) -> str:
        padded = []
        for place, ((text, style), width) in enumerate(zip(row, widths, strict=False)):
            space = " " * (width - len(text))
            shown = self._styled(text, style)
            padded.append(shown + space if place < left else space + shown)
        return "  ".join(padded).rstrip()

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and text and self._coloured else text

    def _write(self, text: str) -> None:
        if self.stream is not None:
            self.stream.write(text.encode(self._encoding, "replace").decode(self._encoding))


def _has_colours(stream: TextIO | None) -> bool:
    """Follow https://no-color.org and its counterpart https://force-color.org."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    # the console of older Windows prints the escapes as they are
    able = os.environ.get("TERM") != "dumb" and (os.name != "nt" or "WT_SESSION" in os.environ)
    return stream is not None and stream.isatty() and able
