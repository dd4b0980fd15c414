"""Softmax, its losses and their gradients, for any array of the array API standard."""

from __future__ import annotations

from . import backends, identity
from ._cross_entropy import CrossEntropy
from ._cross_entropy_functions import (
    cross_entropy,
    cross_entropy_grad,
    cross_entropy_hvp,
    cross_entropy_value_and_grad,
)
from ._errors import AxisError, BackendError, BackendWarning, LabelError, MixedArraysError
from ._linear import LinearCrossEntropy
from ._linear_functions import (
    linear_cross_entropy,
    linear_cross_entropy_grad,
    linear_cross_entropy_hessian,
    linear_cross_entropy_hvp,
    linear_cross_entropy_value_and_grad,
)
from ._logsumexp import logsumexp
from ._precision import precision
from ._softmax import (
    log_softmax,
    log_softmax_jvp,
    log_softmax_vjp,
    softmax,
    softmax_jvp,
    softmax_vjp,
)
from ._version import __version__

__all__ = [
    "AxisError",
    "BackendError",
    "BackendWarning",
    "CrossEntropy",
    "LabelError",
    "LinearCrossEntropy",
    "MixedArraysError",
    "__version__",
    "backends",
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_hvp",
    "cross_entropy_value_and_grad",
    "identity",
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
    "linear_cross_entropy_hessian",
    "linear_cross_entropy_hvp",
    "linear_cross_entropy_value_and_grad",
    "log_softmax",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "logsumexp",
    "precision",
    "softmax",
    "softmax_jvp",
    "softmax_vjp",
]
