"""The precision of the computation: an argument of every function, and a context manager."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from .context import Override

_current: Override[str] = Override("softgrad.precision")


def _check(value: Any) -> str:
    if value not in ("high", "default"):
        raise ValueError(f"precision must be 'high', 'default' or None, got {value!r}")
    return str(value)


def precision(value: str) -> AbstractContextManager[None]:
    """Compute with ``value`` inside a ``with`` block, wherever a call names no precision of its own.

    Parameters
    ----------
    value : {"high", "default"}
        ``"high"`` takes float16, bfloat16 and float32 through float64 where the device has it, and carries the
        rounding error of ``x - max`` into the exponential otherwise.

    Returns
    -------
    context manager

    Raises
    ------
    ValueError
        If ``value`` is neither.

    Notes
    -----
    The setting belongs to the current thread and task. A graph of ``torch.compile`` breaks where it is read: inside of
    ``fullgraph=True`` give ``precision`` to the call.

    Examples
    --------
    >>> import numpy as np, softgrad as sg
    >>> x = np.asarray([0.1, 30.7], dtype=np.float32)
    >>> with sg.precision("high"):
    ...     p = sg.softmax(x)
    >>> p.dtype
    dtype('float32')
    """
    return _current.set(_check(value))


def resolve_precision(value: Any) -> str | None:
    """Resolve the precision of a call, "high" or None: its argument, else the enclosing block's."""
    if value is None:
        if not _current.users:
            return None
        value = _current.get()
    return "high" if value is not None and _check(value) == "high" else None
