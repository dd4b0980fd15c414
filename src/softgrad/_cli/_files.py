"""Data from files: samples and labels out of .npz, .csv and .parquet, or one line that says what is wrong."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ._errors import UsageError

#: Samples (N, M), labels (N,), and the attributes' names where the file has them.
Table: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[Any], tuple[str, ...]]

#: Names that a column of labels goes by, the first found is taken.
_LABEL_NAMES = ("label", "target", "y")


def read(path: Path, label: str | None = None) -> Table:
    """Read samples ``(N, M)``, labels ``(N,)`` (integers or strings) and the attributes' names from a file.

    Parameters
    ----------
    path : Path
        ``.npz`` with arrays X and y, ``.csv`` with a header, or ``.parquet``.
    label : str, optional
        The column of labels; else one named label, target or y, else the last. In an ``.npz`` the name of
        their array.

    Raises
    ------
    UsageError
        The file cannot be read, a column is missing or not numeric, a value is not finite, or the labels are
        not classes.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"expected a file that ends in {', '.join(_READERS)}")
    if not path.exists():
        raise UsageError("no such file")
    try:
        X, y, names = reader(path, label)
        return _samples(X, names), _classes(y), tuple(names or ())
    except OSError as error:
        raise UsageError(error.strerror or str(error)) from error


def _read_npz(path: Path, label: str | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any], None]:
    key = "y" if label is None else label
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise UsageError("holds one array: an .npz archive with the arrays X and y is needed")
        with file:
            missing = [name for name in ("X", key) if name not in file]
            if missing:
                raise UsageError(f"no array named {' or '.join(missing)}, it holds: {', '.join(file) or 'none'}")
            X, y = file["X"], file[key]
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UsageError(f"cannot be read as .npz: {error}") from error
    if X.ndim != 2:
        raise UsageError(f"X must have the shape (n_samples, n_attributes), got {X.shape}")
    if y.shape != X.shape[:1]:
        raise UsageError(f"{key} must have one label a sample, shape {X.shape[:1]}, got {y.shape}")
    return X, y, None


def _read_csv(path: Path, label: str | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _parse_csv(csv.reader(file, strict=True), label)
    except UnicodeDecodeError as error:
        raise UsageError(f"is no text in UTF-8: {error.reason} at byte {error.start}") from error
    except csv.Error as error:
        raise UsageError(f"cannot be read as .csv: {error}") from error


def _parse_csv(lines: Any, label: str | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
    header = [name.strip() for name in next(lines, [])]
    if len(header) < 2:
        raise UsageError("needs a header line and at least two columns, separated by commas")
    place = _label_place(header, label)
    names = header[:place] + header[place + 1 :]
    rows, labels = [], []
    for cells in lines:
        if not cells:
            continue
        if len(cells) != len(header):
            raise UsageError(f"line {lines.line_num} has {len(cells)} cells, the header has {len(header)}")
        labels.append(cells.pop(place).strip())
        try:
            rows.append(np.array(cells, dtype=np.float64))
        except ValueError:
            raise UsageError(f"line {lines.line_num}: {_not_numeric(names, cells)}") from None
    if not rows:
        raise UsageError("has a header and no samples")
    return np.stack(rows), np.array(labels), names


def _not_numeric(names: Sequence[str], cells: Sequence[str]) -> str:
    for name, cell in zip(names, cells, strict=True):
        try:
            float(cell)
        except ValueError:
            return f"column {name!r} holds {cell!r}, not a number" if cell.strip() else f"column {name!r} is empty"
    return f"the cells are not all numbers: {cells}"


def _read_parquet(path: Path, label: str | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UsageError('reading .parquet needs pyarrow: pip install "softgrad[parquet]"') from error
    try:
        table = parquet.read_table(path)
    except ArrowException as error:
        raise UsageError(f"cannot be read as .parquet: {error}") from error
    header = [str(name) for name in table.column_names]
    if len(header) < 2:
        raise UsageError(f"needs at least two columns, it has: {', '.join(header) or 'none'}")
    place = _label_place(header, label)
    columns = []
    for name, column in zip(header, table.columns, strict=True):
        if column.null_count:
            raise UsageError(f"column {name!r} has {column.null_count} missing values")
        columns.append(column.to_numpy())
    y = columns.pop(place)
    names = header[:place] + header[place + 1 :]
    for name, values in zip(names, columns, strict=True):
        if values.dtype.kind not in "biuf":
            raise UsageError(f"column {name!r} holds {table[name].type}, not numbers")
    return np.stack([values.astype(np.float64) for values in columns], axis=1), y, names


def _label_place(header: Sequence[str], label: str | None) -> int:
    if len(set(header)) < len(header):
        double = next(name for name in header if header.count(name) > 1)
        raise UsageError(f"two columns are named {double!r}")
    if label is not None:
        if label not in header:
            raise UsageError(f"no column named {label!r}, it has: {_some(header)}")
        return header.index(label)
    lowered = [name.lower() for name in header]
    return next((lowered.index(name) for name in _LABEL_NAMES if name in lowered), len(header) - 1)


def _some(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _samples(X: npt.NDArray[Any], names: Sequence[str] | None) -> npt.NDArray[np.float64]:
    if X.dtype.kind not in "biuf":
        raise UsageError(f"X must hold real numbers, got dtype {X.dtype}")
    if 0 in X.shape:
        raise UsageError(f"holds no samples or no attributes: X has the shape {X.shape}")
    X = X.astype(np.float64)
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        where = f"column {names[column]!r}" if names else f"attribute {column}"
        raise UsageError(
            f"{where} holds {X[row, column]} in sample {row} (counted from 0); values that are not finite: {len(bad)}"
        )
    return X


def _classes(y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Labels as integers where they are whole numbers, else as strings."""
    if y.dtype.kind in "biu":
        return y.astype(np.int64) if y.dtype.kind == "b" else y
    if y.dtype.kind in "OU":
        # one label that is no number makes all of them names
        text = np.array([each.strip() if isinstance(each, str) else str(each) for each in y])
        empty = np.flatnonzero((text == "") | (text == "None"))
        if len(empty):
            raise UsageError(f"the label of sample {empty[0]} (counted from 0) is missing")
        try:
            y = text.astype(np.float64)
        except ValueError:
            return text
    if y.dtype.kind != "f":
        raise UsageError(f"labels must be integers or strings, got dtype {y.dtype}")
    odd = np.flatnonzero(~((np.abs(y) < 2.0**53) & (y == np.rint(y))))
    if len(odd):
        raise UsageError(
            f"labels are not classes: sample {odd[0]} (counted from 0) has {y[odd[0]]}; "
            "whole numbers or strings are expected"
        )
    return y.astype(np.int64)


_READERS: dict[str, Callable[[Path, str | None], tuple[Any, Any, list[str] | None]]] = {
    ".npz": _read_npz,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
