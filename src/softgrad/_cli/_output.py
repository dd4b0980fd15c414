"""Files that a command writes."""

from __future__ import annotations

import os
from pathlib import Path

from ._errors import UsageError


def prepare(option: str, path: Path) -> None:
    """Raise before anything is computed where a file could not be written.

    Raises
    ------
    UsageError
        It is a folder, its folder does not exist, or permission is missing.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{option} {path}: is a folder")
        if not path.parent.is_dir():
            raise UsageError(f"{option} {path}: there is no folder {path.parent}")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise UsageError(f"{option} {path}: Permission denied")
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror or error}") from error


def write(option: str, path: Path, content: bytes) -> None:
    """Write a file as a whole.

    Raises
    ------
    UsageError
        It cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"{option} {path}: {error.strerror or error}") from error
