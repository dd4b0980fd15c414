"""Samples and labels from Parquet files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import UsageError
from ._table import Request, Source, called, label_place

_INDEX = re.compile(r"__index_level_\d+__|Unnamed: 0", re.ASCII)


def read_parquet(path: Path, request: Request) -> Source:
    """Read a table, a sample a row.

    Raises
    ------
    UsageError
        pyarrow is missing, the file is damaged, values are missing, or a column holds something else than numbers.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("reading .parquet needs pyarrow: python -m pip install pyarrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            header = [str(name) for name in schema.names]
            if len(header) < 2:
                raise UsageError(f"needs at least two columns, it has: {', '.join(header) or 'none'}")
            index = _index(header, schema.pandas_metadata)
            place = label_place(len(header), request.label, header, index)
            index = [i for i in index if i != place]
            kept = [i for i in range(len(header)) if i not in (place, *index)]
            table = file.read()
            X = [_numbers(table.column(i), called(header[i])) for i in kept]
            labels = _labels(table.column(place), called(header[place]))
    except (UsageError, OSError):
        raise
    except Exception as error:  # a damaged file makes its reader raise whatever it likes
        words = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"cannot be read as .parquet: {words}") from error
    if not X:
        raise UsageError("holds no attributes")
    left = ", ".join(called(header[i]) for i in index)
    return Source(
        X=np.stack(X, axis=1),
        labels=labels,
        names=tuple(header[i] for i in kept),
        columns=[called(header[i]) for i in kept],
        row=_row,
        label=called(header[place]),
        asked=request.label is not None,
        typed=True,
        notes=(f"left out: {left}, the table's index",) if index else (),
    )


def _row(row: int) -> str:
    return f"row {row} (counted from 0)"


def _index(header: Sequence[str], metadata: dict[str, Any] | None) -> list[int]:
    """The columns that are the table's index, by what pandas notes down or by their names."""
    named = [name for name in (metadata or {}).get("index_columns", ()) if isinstance(name, str)]
    return [i for i, name in enumerate(header) if name in named or _INDEX.fullmatch(name)]


def _plain(column: Any, name: str) -> Any:
    """The column without encodings, none of its values missing."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = next(i for i, value in enumerate(column.is_null().to_pylist()) if value)
        raise UsageError(f"{_row(row)}: {name} is missing; values missing in it: {column.null_count}")
    return column


def _numbers(column: Any, name: str) -> Any:
    import pyarrow as pa

    column = _plain(column, name)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise UsageError(f"{name} holds {column.type}, not numbers")
    return column.to_numpy().astype(np.float64)


def _labels(column: Any, name: str) -> Any:
    import pyarrow as pa

    column = _plain(column, name)
    types = pa.types
    if types.is_integer(column.type) or types.is_floating(column.type) or types.is_boolean(column.type):
        return column.to_numpy()
    values = column.to_pylist()
    if types.is_binary(column.type) or types.is_large_binary(column.type) or types.is_fixed_size_binary(column.type):
        for row, value in enumerate(values):
            try:
                values[row] = value.decode()
            except UnicodeDecodeError as error:
                raise UsageError(f"{_row(row)}: {name} holds {value[:20]!r}, which is no text in UTF-8") from error
    elif types.is_decimal(column.type):
        values = list(map(str, values))
    elif not (types.is_string(column.type) or types.is_large_string(column.type)):
        raise UsageError(f"{name} holds {column.type}: labels are integers or strings")
    return values
