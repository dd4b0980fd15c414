"""Samples and labels from NumPy's archives."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...testing._terminal import quoted
from .._errors import UsageError
from ._table import Request, Source, numbered, some


def read_npz(path: Path, request: Request) -> Source:
    """Read the arrays X, one sample a row, and y, or the one that ``request.label`` names.

    Raises
    ------
    UsageError
        The archive is damaged, holds no such arrays, or their shapes or dtypes do not fit.
    """
    key = "y" if request.label is None else request.label
    try:
        _check(path)
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ("X", key) if name not in file]
            if missing:
                raise UsageError(
                    f"no array named {' or '.join(map(quoted, missing))}, it holds: {some(file.files) or 'none'}"
                )
            arrays = {name: _array(file, name) for name in ("X", key)}
    except (UsageError, OSError):
        raise
    except Exception as error:  # a damaged file makes its reader raise whatever it likes
        words = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"cannot be read as .npz: {words}") from error
    X, y = arrays["X"], arrays[key]
    if X.ndim != 2:
        raise UsageError(f"X must have the shape (n_samples, n_attributes), got {X.shape}")
    if y.shape != X.shape[:1]:
        hint = ": of one-hot labels save y.argmax(axis=1)" if y.ndim == 2 and y.shape[1] > 1 else ""
        raise UsageError(f"{key} must have one label for each sample, shape {X.shape[:1]}, got {y.shape}{hint}")
    if X.dtype.kind not in "biuf":
        raise UsageError(f"X must hold real numbers, got dtype {X.dtype}")
    if y.dtype.kind not in "biufSU":
        raise UsageError(f"{key} must hold integers or strings, got dtype {y.dtype}")
    return Source(
        X=X,
        labels=_texts(y, key) if y.dtype.kind in "SU" else y,
        names=(),
        columns=[f"{numbered(place)} of X" for place in range(X.shape[1])],
        row=lambda row: f"sample {row} (counted from 0)",
        label=f"array {quoted(key)}",
        asked=request.label is not None,
        typed=False,
        notes=(),
    )


def _texts(y: npt.NDArray[Any], key: str) -> list[str]:
    try:
        return [text.decode() if isinstance(text, bytes) else text for text in y.tolist()]
    except (ValueError, SystemError) as error:
        raise UsageError(f"{key} holds what is no text: {error}") from error


def _check(path: Path) -> None:
    """Compare every member with its checksum: reading an array stops at its last byte, before the comparison."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise UsageError(f"holds two arrays named {quoted(double)}")
        damaged = archive.testzip()
    if damaged is not None:
        raise UsageError(f"is damaged: {quoted(damaged)} does not have its checksum")


def _array(file: np.lib.npyio.NpzFile, name: str) -> npt.NDArray[Any]:
    try:
        return file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise UsageError(
            f"{name} holds Python objects, which are not read, since a pickle can run code: save numbers, or strings "
            f"by {name}.astype(str)"
        ) from error
