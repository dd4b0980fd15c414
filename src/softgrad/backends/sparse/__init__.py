"""SciPy's sparse matrices: blocks of rows, two sparse products each, with the loss by NumPy's kernels."""

from __future__ import annotations

from typing import Any

from ..._options import OPTIONS
from .._declaration import Backend

_FUNCTIONS = (
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "linear_cross_entropy_hvp",
    "linear_cross_entropy_hessian",
    "linear_log_probs",
    "linear_log_probs_vjp",
)


def should_run(function: str, xp: Any, x: Any, *rest: Any) -> bool | str:
    """Take single and double precision in the machine's byte order."""
    return (x.dtype.char in "fd" and x.dtype.isnative) or f"dtype {x.dtype} has no kernel here"


BACKEND = Backend(
    name="sparse",
    types=("scipy.sparse:csr_array",),
    functions={name: f"{__package__}.linear:{name}" for name in _FUNCTIONS},
    should_run=f"{__name__}:should_run",
    options=OPTIONS,
)
