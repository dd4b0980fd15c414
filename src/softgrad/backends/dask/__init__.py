"""Dask arrays: each chunk through the kernels of its own library, one task a chunk, sums by a tree.

Nothing is computed early. The class axis (and the features) of a chunk are kept whole, so a chunk that is cut along
them is put together first; the samples may be cut in any way.
"""

from __future__ import annotations

from ..._options import OPTIONS
from .._declaration import Backend

_DENSE = "softmax log_softmax logsumexp signed_logsumexp softmax_vjp softmax_jvp log_softmax_vjp log_softmax_jvp"
_LOSS = (
    "cross_entropy cross_entropy_grad cross_entropy_value_and_grad cross_entropy_hvp cross_entropy_hessian_diag "
    "total_weight"
)
_LOG_PROBS = "log_probs log_probs_vjp entropy entropy_vjp"
_LINEAR_LOG_PROBS = "linear_log_probs linear_log_probs_vjp"
_LINEAR = (
    "linear_cross_entropy linear_cross_entropy_value_and_grad linear_cross_entropy_hvp linear_cross_entropy_hessian"
)

BACKEND = Backend(
    name="dask",
    types=("dask.array.core:Array",),
    functions={
        name: f"{__package__}.{module}:{name}"
        for module, names in (
            ("dense", _DENSE),
            ("log_probs", _LOG_PROBS),
            ("linear_log_probs", _LINEAR_LOG_PROBS),
            ("loss", _LOSS),
            ("divergence", "divergence"),
            ("linear_divergence", "linear_divergence"),
            ("linear", _LINEAR),
        )
        for name in names.split()
    },
    options=OPTIONS,
)
