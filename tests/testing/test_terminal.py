"""Plain text for a terminal: what is printed is what was said, whatever it was made of."""

from __future__ import annotations

import ast
import io
import unicodedata

import pytest

from softgrad.testing._terminal import Terminal, printable, quoted


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


class Screen(io.StringIO):
    """A terminal that keeps what it was sent."""

    def isatty(self):
        return True


def test_nothing_printable_is_changed_and_everything_else_is_escaped():
    assert printable("naïve 日本語 [red] $x$ \\ 🚀") == "naïve 日本語 [red] $x$ \\ 🚀"
    for number in (*range(0x3000), 0xFEFF, 0xFFF9, 0xD800, 0xE000, 0xE0001):
        sign = chr(number)
        shown = printable(sign)
        assert shown.isprintable()
        if unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
            assert shown.startswith("\\")
            assert ast.literal_eval(f"'{shown}'") == sign


def test_a_long_text_is_quoted_by_its_beginning():
    assert quoted("a\n") == r"'a\n'"
    assert quoted("x" * 1000) == f"'{'x' * 60}'..."


def test_paragraphs_are_wrapped_and_long_words_are_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    out = io.StringIO()
    Terminal(out).say(f"one two three four five six seven eight nine {'x' * 50} ten", indent="  ")
    assert out.getvalue() == f"one two three four five six seven eight\n  nine\n  {'x' * 50}\n  ten\n"


def test_a_table_is_aligned_with_and_without_colours(monkeypatch):
    def table():
        out = Screen()
        Terminal(out).table(["name", "two\nlines"], [["a", ("1.5", "bad")], [], [("longer\n", "dim"), "2"]])
        return out.getvalue()

    monkeypatch.setenv("NO_COLOR", "1")
    plain = table()
    assert plain.splitlines() == [
        "            two",
        "name      lines",
        "───────────────",
        "a           1.5",
        "",
        r"longer\n      2",
    ]
    monkeypatch.delenv("NO_COLOR")
    coloured = table()
    assert "\x1b[1;31m1.5\x1b[0m" in coloured
    for code in ("1;31", "2", "0"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert coloured == plain


def test_progress_is_for_terminals_alone():
    out, screen = io.StringIO(), Screen()
    Terminal(out).status("half")
    Terminal(screen).status("half\x1b[2J")
    assert out.getvalue() == ""
    assert screen.getvalue() == "\r\x1b[Khalf\\x1b[2J"


def test_what_the_encoding_lacks_is_replaced():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    out = Terminal(stream)
    out.say("∇E ✓")
    out.table(["x"], [["1"]])
    stream.flush()
    assert raw.getvalue().decode() == "?E ?\nx\n-\n1\n"
    assert (out.sign("✓", "yes"), Terminal(io.StringIO()).sign("✓", "yes")) == ("yes", "✓")
