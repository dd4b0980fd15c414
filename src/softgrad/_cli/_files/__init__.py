"""Data from files: samples and labels exactly as the file has them, or one line that says what is wrong and where."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from .._errors import UsageError
from ._csv import read_csv
from ._labels import classes
from ._npz import read_npz
from ._parquet import read_parquet
from ._samples import samples
from ._table import Request, Source, Table

_READERS: dict[str, Callable[[Path, Request], Source]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_csv,
    ".data": read_csv,
    ".npz": read_npz,
    ".parquet": read_parquet,
}
#: How files begin that are often found under another ending.
_SIGNATURES = {
    b"PK\x03\x04": ("a ZIP archive, as .npz and .xlsx are", (".npz",)),
    b"PAR1\x15": ("a Parquet file", (".parquet",)),
    b"\x93NUMPY": ("a NumPy array, as .npy is: an .npz archive with the arrays X and y is needed", ()),
    b"\x89HDF\r\n\x1a\n": ("an HDF5 file", ()),
    b"\x1f\x8b": ("compressed by gzip", ()),
    b"\xd0\xcf\x11\xe0": ("an .xls file", ()),
    b"%PDF": ("a PDF file", ()),
    b"\x80\x04\x95": ("a pickle", ()),
}


def read(path: Path, label: str | None = None, header: bool | None = None) -> Table:
    """Read samples and labels from a file.

    Parameters
    ----------
    path : Path
        ``.csv`` (``.tsv``, ``.txt``, ``.data``), ``.npz`` with arrays X and y, or ``.parquet``.
    label : str, optional
        The column of labels, by name or by number; else one named label, target or y, else the last. In an
        ``.npz`` the name of their array.
    header : bool, optional
        Whether the first line of a text file names its columns; None refuses a file where that is unclear.

    Returns
    -------
    Table

    Raises
    ------
    UsageError
        The file cannot be read, a column is missing or not numeric, a value is missing or not finite, or the labels
        are not classes.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"expected a file that ends in {', '.join(_READERS)}")
    if header is not None and reader is not read_csv:
        raise UsageError("--header and --no-header belong to text files")
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise UsageError("is no regular file, and it is read more than once")
        with path.open("rb") as file:
            start = file.read(8)
        for signature, (words, suffixes) in _SIGNATURES.items():
            if start.startswith(signature) and path.suffix.lower() not in suffixes:
                raise UsageError(f"is {words}")
        source = reader(path, Request(label, header))
    except OSError as error:
        raise UsageError(error.strerror or " ".join(str(error).split())) from error
    labels, class_names, note = classes(source)
    notes = (*source.notes, note) if note else source.notes
    return Table(samples(source), labels, class_names, source.names, source.label, notes)
