"""CuPy arrays: one kernel for a whole row, one for the loss of a row and its gradient."""

from __future__ import annotations

from typing import Any

from ..._array.typing import AnyArray, Namespace
from .._declaration import Backend

_DENSE = ("softmax", "log_softmax", "logsumexp")
_LOSS = ("cross_entropy", "cross_entropy_grad", "cross_entropy_value_and_grad")


def should_run(function: str, xp: Namespace, x: AnyArray, *args: Any) -> bool | str:
    """Say True, or why the generic kernels are to run."""
    if x.dtype.char not in "efd":
        return f"no kernel for {x.dtype}"
    if function in _DENSE:
        _, where, precision = args
        if where is not None:
            return "where hides elements"
        return True if precision is None else "precision is high"
    if function == "log_probs_vjp":
        labels, _, axis, where, precision, scaling = args
        plain = where is None and precision is None and scaling.identity
        return (plain and labels.shape[axis] == 1) or "not one label a sample of plain logits"
    return "labels are weights by class" if args[0].dense else True


BACKEND = Backend(
    name="cupy",
    types=("cupy:ndarray",),
    functions={
        **{name: f"{__package__}.rows:{name}" for name in _DENSE + _LOSS},
        "log_probs_vjp": f"{__package__}.log_probs:log_probs_vjp",
    },
    should_run=f"{__name__}:should_run",
    options=("class_weight", "sample_weight", "ignore_index"),
)
