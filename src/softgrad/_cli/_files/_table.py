"""What is asked of a reader, what it hands over, and what becomes of that."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...testing._terminal import quoted
from .._errors import UsageError

#: A decimal number; ``float`` takes underscores, other scripts' digits, nan and inf beside.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
#: Names that a column of labels goes by, the first found is taken.
_LABEL_NAMES = ("label", "target", "y")


class Request(NamedTuple):
    """The column of labels, and whether a text file has a header, as far as the user said."""

    label: str | None
    header: bool | None


@dataclass(frozen=True)
class Source:
    """Samples and labels as a reader found them, and how an error names their places."""

    #: Numbers, (N, M).
    X: npt.NDArray[Any]
    #: An array of numbers, or a list of texts.
    labels: npt.NDArray[Any] | Sequence[str]
    #: The attributes' names, empty where the file has none.
    names: tuple[str, ...]
    #: The attributes as an error calls them.
    columns: Sequence[str]
    #: A sample as an error calls it.
    row: Callable[[int], str]
    #: The labels as an error calls them.
    label: str
    #: Whether the user named the column of labels.
    asked: bool
    #: Whether the file distinguishes a missing label from the text "NA".
    typed: bool
    notes: tuple[str, ...]


class Table(NamedTuple):
    """The content of a file: samples (N, M), class indices (N,), names, and what a user should know of the reading."""

    X: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    label: str
    notes: tuple[str, ...]


def called(name: str) -> str:
    """A column as an error calls it."""
    return f"column {quoted(name)}"


def numbered(place: int) -> str:
    """A column without a name as an error calls it."""
    return f"column {place} (counted from 0)"


def by_name(header: Sequence[str], label: str | None) -> int | None:
    """The column that ``label``, or else one of the usual names, picks; None where nothing does."""
    if label is not None:
        return header.index(label) if label in header else None
    lowered = [name.lower() for name in header]
    return next((lowered.index(name) for name in _LABEL_NAMES if name in lowered), None)


def label_place(
    width: int, label: str | None, header: Sequence[str] | None, index: Collection[int] = frozenset()
) -> int:
    """Which of ``width`` columns holds the labels: the last but for those of the table's index, if nothing is said.

    Raises
    ------
    UsageError
        There is no column of that name or number, or two columns have the same name.
    """
    if header is not None:
        double = next((name for name in header if name and header.count(name) > 1), None)
        if double is not None:
            places = [str(place) for place, name in enumerate(header) if name == double]
            raise UsageError(f"columns {' and '.join(places)} (counted from 0) are both named {quoted(double)}")
        place = by_name(header, label)
        if place is not None:
            return place
    if label is None:
        rest = [place for place in range(width) if place not in index]
        if not rest:
            raise UsageError("holds nothing but the table's index")
        return rest[-1]
    if re.fullmatch(r"-?[0-9]{1,9}", label) and -width <= int(label) < width:
        return int(label) % width
    there = f"it has {width} columns" if header is None else f"it has: {some(header)}"
    raise UsageError(f"no column {'numbered' if header is None else 'named'} {quoted(label)}, {there}")


def some(names: Sequence[str], most: int = 12) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(name if len(name) <= 60 else f"{name[:60]}..." for name in names[:most]) + more
