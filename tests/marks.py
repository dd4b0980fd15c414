"""Marks of parameters and tests."""

from collections.abc import Iterable
from typing import Any

import pytest

#: Of what JAX has no kernels for, or what other tests show of them: it compiles each call, for up to seconds.
late_on_jax = pytest.mark.full("jax")
#: Of what is the same on every library: these take longest for a call.
late_where_slow = pytest.mark.full("jax", "cupy", "dask")


def late(value: Any, *libraries: str, id: str | None = None) -> Any:
    """A parameter that these libraries take with ``--full`` alone."""
    return pytest.param(value, id=id, marks=pytest.mark.full(*libraries))


def full(*values: Any) -> list[Any]:
    """Parameters of a test that are taken with ``--full`` alone."""
    return [pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=pytest.mark.full) for each in values]


def some(values: Iterable[Any], *chosen: Any) -> list[Any]:
    """All values; those that are not chosen are taken with ``--full`` alone."""
    return [each if each in chosen else pytest.param(each, marks=pytest.mark.full) for each in values]
