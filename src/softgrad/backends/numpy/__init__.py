"""The back end for NumPy arrays: blocks that stay in cache, worked on by threads."""

from __future__ import annotations

from typing import Any

from ..._options import OPTIONS
from .._declaration import Backend

_MODULES = {
    "dense": ("softmax", "log_softmax", "logsumexp", "signed_logsumexp"),
    "derivatives": ("softmax_vjp", "softmax_jvp", "log_softmax_vjp", "log_softmax_jvp"),
    "loss": (
        "cross_entropy",
        "cross_entropy_grad",
        "cross_entropy_value_and_grad",
        "cross_entropy_hvp",
        "cross_entropy_hessian_diag",
    ),
    "log_probs": ("log_probs", "log_probs_vjp", "entropy", "entropy_vjp"),
    "divergence": ("divergence",),
    "linear_log_probs": ("linear_log_probs", "linear_log_probs_vjp"),
    "linear": (
        "linear_cross_entropy",
        "linear_cross_entropy_value_and_grad",
        "linear_cross_entropy_hvp",
    ),
}


def should_run(function: str, xp: Any, x: Any, *rest: Any) -> bool | str:
    """Take half, single and double precision in the machine's byte order; samples may be integers, or of the other."""
    if function.startswith("linear") and (x.dtype.kind in "iu" or not x.dtype.isnative):
        x = rest[0]
    return (x.dtype.char in "fde" and x.dtype.isnative) or f"dtype {x.dtype} has no kernel here"


BACKEND = Backend(
    name="numpy",
    types=("numpy:ndarray",),
    functions={name: f"{__package__}.{module}:{name}" for module, names in _MODULES.items() for name in names},
    should_run=f"{__name__}:should_run",
    options=OPTIONS,
)
