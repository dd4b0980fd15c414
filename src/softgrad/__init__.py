"""Softmax, its losses and their gradients, for any array of the array API standard."""

from __future__ import annotations

from inspect import isfunction
from typing import TYPE_CHECKING, Any

from . import backends, calibration, identity, parallel, partial, statistics
from ._array.errors import AxisError, BackendError, BackendWarning, LabelError, MixedArraysError
from ._array.precision import precision
from ._cross_entropy import CrossEntropy
from ._cross_entropy_functions import cross_entropy, cross_entropy_grad, cross_entropy_hvp, cross_entropy_value_and_grad
from ._dense import log_softmax, log_softmax_jvp, log_softmax_vjp, softmax, softmax_jvp, softmax_vjp
from ._divergence import (
    js_divergence,
    js_divergence_grad,
    js_divergence_value_and_grad,
    kl_divergence,
    kl_divergence_grad,
    kl_divergence_value_and_grad,
)
from ._log_probs import entropy, entropy_vjp, log_probs, log_probs_vjp
from ._logsumexp import logsumexp
from ._top_k_divergence import top_k_kl_divergence, top_k_kl_divergence_grad, top_k_kl_divergence_value_and_grad
from ._version import __version__
from .linear.divergence import (
    linear_js_divergence,
    linear_js_divergence_value_and_grad,
    linear_kl_divergence,
    linear_kl_divergence_value_and_grad,
)
from .linear.functions import (
    linear_cross_entropy,
    linear_cross_entropy_grad,
    linear_cross_entropy_hessian,
    linear_cross_entropy_hvp,
    linear_cross_entropy_value_and_grad,
)
from .linear.log_probs import LinearLogProbs, linear_log_probs, linear_log_probs_vjp
from .linear.model import LinearCrossEntropy
from .linear.top_k_divergence import linear_top_k_kl_divergence, linear_top_k_kl_divergence_value_and_grad

if TYPE_CHECKING:
    from .estimator.model import SoftmaxRegression

__all__ = [
    "AxisError",
    "BackendError",
    "BackendWarning",
    "CrossEntropy",
    "LabelError",
    "LinearCrossEntropy",
    "LinearLogProbs",
    "MixedArraysError",
    "SoftmaxRegression",
    "__version__",
    "backends",
    "calibration",
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_hvp",
    "cross_entropy_value_and_grad",
    "entropy",
    "entropy_vjp",
    "identity",
    "js_divergence",
    "js_divergence_grad",
    "js_divergence_value_and_grad",
    "kl_divergence",
    "kl_divergence_grad",
    "kl_divergence_value_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_grad",
    "linear_cross_entropy_hessian",
    "linear_cross_entropy_hvp",
    "linear_cross_entropy_value_and_grad",
    "linear_js_divergence",
    "linear_js_divergence_value_and_grad",
    "linear_kl_divergence",
    "linear_kl_divergence_value_and_grad",
    "linear_log_probs",
    "linear_log_probs_vjp",
    "linear_top_k_kl_divergence",
    "linear_top_k_kl_divergence_value_and_grad",
    "log_probs",
    "log_probs_vjp",
    "log_softmax",
    "log_softmax_jvp",
    "log_softmax_vjp",
    "logsumexp",
    "parallel",
    "partial",
    "precision",
    "softmax",
    "softmax_jvp",
    "softmax_vjp",
    "statistics",
    "top_k_kl_divergence",
    "top_k_kl_divergence_grad",
    "top_k_kl_divergence_value_and_grad",
]

backends._registry.PUBLIC.update((name, globals()[name]) for name in __all__ if isfunction(globals().get(name)))


def __getattr__(name: str) -> Any:
    """Import the estimator, and with it scikit-learn and SciPy, when it is first named."""
    if name == "SoftmaxRegression":
        try:
            from .estimator.model import SoftmaxRegression
        except ImportError as error:
            return _absent(name, error)
        return SoftmaxRegression
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _absent(name: str, reason: ImportError) -> type:
    """A class that says why it cannot be made: what only looks at the package's names is to work without it."""

    def init(self: object, *args: Any, **kwargs: Any) -> None:
        raise ImportError(str(reason)) from reason

    return type(name, (), {"__init__": init, "__doc__": f"Cannot be made: {reason}.", "__module__": __name__})


def __dir__() -> list[str]:
    return __all__
