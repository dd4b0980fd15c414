"""Samples and labels from text, a sample a line."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ...testing._terminal import quoted
from .._errors import UsageError
from ._table import NUMBER, Request, Source, by_name, called, label_place, numbered

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
#: The longer ones first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
#: ``float`` takes what is made of these only where it is a plain decimal number.
_ODD = re.compile(r"[^0-9eE.+\- \t]")
#: Cells that no column is named.
_NO_NAME = ("", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "inf", "-inf", "Inf", "-Inf")
#: How pandas calls the row names of a file that it wrote and read again.
_ROW_NAMES = ("", "Unnamed: 0")
_SAY = "say --header or --no-header"


def read_csv(path: Path, request: Request) -> Source:
    """Read lines of cells, separated by commas, semicolons, tabs or bars.

    Raises
    ------
    UsageError
        It is no text, its lines differ in length, or a cell of a sample is not a number.
    """
    with path.open("rb") as binary:
        start = binary.read(4)
    encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), "utf-8-sig")
    try:
        with path.open(newline="", encoding=encoding) as file:
            return _Text(file, request).source()
    except UnicodeError as error:
        raise UsageError(_undecoded(path, encoding, error)) from error


def _undecoded(path: Path, encoding: str, error: UnicodeError) -> str:
    if encoding == "utf-8-sig":
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError as found:
                    return f"line {number} is no text in UTF-8: byte {line[found.start]:#04x}; save the file as UTF-8"
    return f"is no text in {encoding.upper()}: {getattr(error, 'reason', error)}"


def _checked(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UsageError(f"line {number} holds a NUL byte: the file is no text, or UTF-16 without its mark")
        yield line


class _Text:
    """A file on its way to numbers, read once."""

    def __init__(self, file: Iterable[str], request: Request) -> None:
        self.request = request
        self.notes: list[str] = []
        #: Whether the names of the columns could be a sample.
        self.doubtful = False
        lines = _checked(file)
        self.above = comments = 0
        for first in lines:
            if first.strip() and not first.lstrip().startswith("#"):
                break
            self.above += 1
            comments += bool(first.strip())
        else:
            raise UsageError("holds no samples")
        self.comments = comments > 0
        if comments:
            self.notes.append(f"left out: comments above line {self.above + 1}, lines that begin with '#'")
        begun = [first]
        try:
            self.delimiter = self._delimiter(begun, lines)
        except csv.Error as error:
            raise UsageError(f"line {self.above + 1}: {error}") from error
        if self.delimiter != ",":
            self.notes.append(f"cells are separated by {_DELIMITERS[self.delimiter]}")
        self.reader = csv.reader(itertools.chain(begun, lines), delimiter=self.delimiter, strict=True)

    @staticmethod
    def _delimiter(begun: list[str], lines: Iterator[str]) -> str:
        """What separates the cells of the first record, whose lines are added to ``begun``."""

        def recorded() -> Iterator[str]:
            yield begun[0]
            for line in lines:
                begun.append(line)
                yield line

        next(csv.reader(recorded()))
        widths = {sign: len(next(csv.reader(begun, delimiter=sign))) for sign in _DELIMITERS}
        found = [sign for sign, width in widths.items() if width > 1]
        if not found:
            raise UsageError(f"needs at least two columns, separated by {', '.join(_DELIMITERS.values())}")
        if len(found) > 1:
            words = " and ".join(_DELIMITERS[sign] for sign in found)
            raise UsageError(
                f"has {words} between the cells of its first line: put cells that hold either into quotes, and write "
                "numbers with a decimal point"
            )
        return found[0]

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The line on which each record begins, counted from 1, and its cells; empty lines are left out."""
        while True:
            number = self.above + self.reader.line_num + 1
            try:
                cells = next(self.reader, None)
            except csv.Error as error:
                raise UsageError(f"line {number}: {error}") from error
            if cells is None:
                return
            if cells:
                yield number, cells

    def source(self) -> Source:
        records = self.records()
        line, first = next(records)
        header = self._header(line, [cell.strip() for cell in first])
        if header is None:
            records = itertools.chain([(line, first)], records)
        width = len(first)
        place = label_place(width, self.request.label, header)
        names = [called(name) for name in header] if header else [numbered(i) for i in range(width)]
        index = 0 if header and header[0] in _ROW_NAMES and place != 0 else None
        unnamed = [i for i, name in enumerate(header or ()) if not name and i not in (index, place)]
        if unnamed:
            raise UsageError(f"line {line}: {numbered(unnamed[0])} has no name")
        kept = [i for i in range(width) if i not in (place, index)]
        columns = [names[i] for i in kept]
        numbers, labels, lines, index_values = array("d"), list[str](), array("q"), set[str]()
        for number, cells in records:
            if len(cells) != width:
                more = "the header" if header else "the first line"
                raise UsageError(f"line {number} has {len(cells)} cells, {more} has {width}")
            if cells[0].startswith("#"):
                raise UsageError(f"line {number} begins with '#': comments are allowed above all samples only")
            lines.append(number)
            labels.append(cells.pop(place))
            if index is not None:
                index_values.add(cells.pop(index))
            numbers.extend(_numbers(number, columns, cells))
        if not numbers:
            raise UsageError("holds no samples" if kept else "holds no attributes")
        if index is not None:
            if len(index_values) < len(labels):
                raise UsageError(f"line {line}: {numbered(0)} has no name, and is no index: a value comes twice")
            self.notes.append(f"left out: {numbered(0)}, the table's index, which has no name")
        if self.doubtful and header and header[place] in map(str.strip, labels):
            raise UsageError(
                f"line {line} names {names[place]}, and {quoted(header[place])} is one of its labels: {_SAY}"
            )
        return Source(
            X=np.frombuffer(numbers, dtype=np.float64).reshape(len(labels), len(kept)),
            labels=labels,
            names=tuple(header[i] for i in kept) if header else (),
            columns=columns,
            row=lambda row: f"line {lines[row]}",
            label=names[place],
            asked=self.request.label is not None,
            typed=False,
            notes=tuple(self.notes),
        )

    def _header(self, line: int, cells: list[str]) -> list[str] | None:
        """The first line's cells where they are names.

        Raises
        ------
        UsageError
            They may be names and may be a sample, and the user has not said which.
        """
        if self.request.header is not None:
            return cells if self.request.header else None
        label = self.request.label
        # an index has no name, and comes first
        numbers = [c for i, c in enumerate(cells) if NUMBER.fullmatch(c) or (c in _NO_NAME and (c or i))]
        # names of columns may be numbers where one of them is the name that the labels go by
        named = by_name(cells, label) is not None and not (label and NUMBER.fullmatch(label))
        if numbers and not named:
            above = " (the lines above, which begin with '#', are comments)" if self.comments else ""
            raise UsageError(
                f"line {line} holds {quoted(numbers[0])}: is it a sample, or the names of the columns{above}? {_SAY}"
            )
        self.doubtful = bool(numbers)
        return cells


def _numbers(line: int, columns: Sequence[str], cells: Sequence[str]) -> Sequence[float]:
    if not _ODD.search(" ".join(cells)):
        with contextlib.suppress(ValueError):  # below it is said of which cell
            values = list(map(float, cells))
            if 0.0 not in values or not any(map(_vanishes, cells, values)):
                return values
    for column, cell in zip(columns, cells, strict=True):
        text = cell.strip(" \t")
        if not text:
            raise UsageError(f"line {line}: {column} is empty")
        if not NUMBER.fullmatch(text):
            comma = ": a number has a decimal point" if re.fullmatch(r"[+-]?[0-9.]*,[0-9]+", text) else ""
            raise UsageError(f"line {line}: {column} holds {quoted(text)}, not a number{comma}")
        if _vanishes(text, float(text)):
            raise UsageError(f"line {line}: {column} holds {quoted(text)}, which float64 rounds to zero")
    raise AssertionError("cells that float() refuses and that are numbers")


def _vanishes(cell: str, value: float) -> bool:
    """Whether a number that is not zero became zero."""
    return value == 0 and cell.lstrip("+-0. \t")[:1] not in ("", "e", "E")
