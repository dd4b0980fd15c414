"""Marks of parameters."""

from typing import Any

import pytest


def full(*values: Any) -> list[Any]:
    """Parameters of a test that are taken with ``--full`` alone."""
    return [pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.full) for each in values]
