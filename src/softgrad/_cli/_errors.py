"""What a command says instead of a traceback."""

from __future__ import annotations


class UsageError(Exception):
    """A file, a column or an option that the command cannot work with."""
