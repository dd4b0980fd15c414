"""Labels as class indices: every class as the file writes it, no two merged and none guessed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ...testing._terminal import quoted
from .._errors import UsageError
from ._table import NUMBER, Source

#: What programs write into text for a missing value: pandas' list, and UCI's question mark.
_MISSING = {
    *("?", "NA", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "NaN", "nan", "NAN", "-NaN", "-nan", "NULL", "null"),
    *("-1.#IND", "1.#IND", "-1.#QNAN", "1.#QNAN"),
}
#: What beside words is a word, and beside numbers a missing one.
_MISSING_NUMBER = {"None", "none", "NONE", ".", "-", "--"}
#: Whole numbers of float64 are exact below this.
_EXACT = 2.0**53
#: So many classes may be more than half of the samples; where the user named the column of labels.
_FEW, _FEW_ASKED = 10, 100


def classes(source: Source) -> tuple[npt.NDArray[np.int64], tuple[str, ...], str]:
    """The class of each sample, from 0 on, the classes' names, and what to say of them.

    Numbers are in their order, other texts in that of their characters.

    Raises
    ------
    UsageError
        A label is missing or no class, two are written differently and mean the same, or there are as good as no
        classes.
    """
    if len(source.labels) == 0:
        raise UsageError("holds no samples")
    note = ""
    if isinstance(source.labels, np.ndarray):
        values, codes = np.unique(_whole(source, source.labels), return_inverse=True)
        names = tuple(map(str, values.tolist()))
    else:
        names, codes, note = _texts(source, source.labels)
    count, total = len(names), len(codes)
    if count < 2:
        raise UsageError(
            f"{source.label} holds one class only ({quoted(names[0])}): at least two are needed{_hint(source)}"
        )
    if count > (_FEW_ASKED if source.asked else _FEW) and count > total / 2:
        raise UsageError(
            f"{source.label} holds {count} different labels in {total} samples: these are not classes{_hint(source)}"
        )
    return codes.astype(np.int64), names, note


def _hint(source: Source) -> str:
    return "; another column is taken by --label" if not source.asked else ""


def _no_class(source: Source, row: int, value: object) -> NoReturn:
    raise UsageError(
        f"{source.row(row)}: {source.label} holds {str(value)[:60]}, which is no class: "
        f"whole numbers or words are expected{_hint(source)}"
    )


def _whole(source: Source, y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if y.dtype.kind in "biu":
        return y
    if y.dtype.kind != "f":
        raise UsageError(f"{source.label} holds {y.dtype}: integers or strings are expected{_hint(source)}")
    missing = np.flatnonzero(np.isnan(y))
    if len(missing):
        raise UsageError(f"{source.row(missing[0])}: {source.label} holds nan, a missing value{_hint(source)}")
    with np.errstate(over="ignore"):
        wide = y.astype(np.float64)
    odd = np.flatnonzero(~((np.abs(wide) < _EXACT) & (wide == np.rint(wide)) & (wide == y)))
    if len(odd):
        _no_class(source, int(odd[0]), y[odd[0]])
    return wide.astype(np.int64)


def _texts(source: Source, labels: Sequence[str]) -> tuple[tuple[str, ...], npt.NDArray[np.int64], str]:
    first: dict[str, int] = {}
    for row, text in enumerate(labels):
        first.setdefault(text, row)
    note = _missing(source, first)
    names = {text: text if source.typed else text.strip() for text in first}
    keys: dict[str, Any] = dict(names)
    if all(map(NUMBER.fullmatch, names.values())):
        keys = {text: _integer(name) for text, name in names.items()}
        for text, key in keys.items():
            if key is None:
                _no_class(source, first[text], text)
    kept: dict[Any, str] = {}
    for text, key in keys.items():
        if key in kept:
            places = [f"{quoted(each)} ({source.row(first[each])})" for each in (kept[key], text)]
            raise UsageError(
                f"{source.label} holds {' and '.join(places)}: one class in two spellings, or two classes?"
            )
        kept[key] = text
    order = {kept[key]: code for code, key in enumerate(sorted(kept))}
    codes = np.fromiter((order[text] for text in labels), dtype=np.int64, count=len(labels))
    return tuple(names[text] for text in order), codes, note


def _integer(text: str) -> int | None:
    """The whole number that a decimal one is, exactly; None where it is none, or has hundreds of digits."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return int(number) if number.adjusted() < 400 and number == number.to_integral_value() else None


def _missing(source: Source, first: dict[str, int]) -> str:
    """Refuse labels that mean a missing value; warn of a word taken as a class though it often means one."""
    empty = next((text for text in first if not text.strip()), None)
    if empty is not None:
        raise UsageError(f"{source.row(first[empty])}: {source.label} is empty{_hint(source)}")
    if source.typed:
        return ""
    short = {text.strip(): row for text, row in first.items()}
    doubtful = [text for text in short if text in _MISSING_NUMBER]
    rest = [text for text in short if text not in _MISSING and text not in _MISSING_NUMBER]
    numeric = all(map(NUMBER.fullmatch, rest))
    for text, row in short.items():
        if text in _MISSING or (numeric and text in doubtful):
            raise UsageError(
                f"{source.row(row)}: {source.label} holds {text!r}, which means a missing value: remove such "
                f"samples, or give the class another name"
            )
    return f"{', '.join(map(repr, doubtful))} in {source.label} is a class of its own" if doubtful else ""
