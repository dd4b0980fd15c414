"""JAX arrays on a CPU by the kernels of NumPy arrays, in the same memory, where ``precision="high"`` is asked for.

A compiled program cannot compute again the rows whose result is near a tie, and has no float64 without x64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import jax
import numpy as np

from ..._array.namespace import ignore_fp_warnings
from ..._array.typing import AnyArray
from .._declaration import Backend, Delegate
from .._registry import call
from .._to_numpy import is_high, numpy_namespace
from ..numpy import BACKEND as NUMPY

_FUNCTIONS = (
    "softmax",
    "log_softmax",
    "logsumexp",
    "signed_logsumexp",
    "cross_entropy",
    "cross_entropy_grad",
    "cross_entropy_value_and_grad",
    "cross_entropy_hvp",
    "cross_entropy_hessian_diag",
    "log_probs",
    "log_probs_vjp",
    "entropy",
    "entropy_vjp",
    "divergence",
)


def _arrays(args: tuple[Any, ...]) -> Iterator[AnyArray]:
    for a in args:
        if isinstance(a, tuple):
            yield from _arrays(a)
        elif isinstance(a, jax.Array):
            yield a


def should_run(function: str, xp: Any, x: Any, *rest: Any) -> bool | str:
    """Take calls for high precision on arrays that are whole in a CPU's memory."""
    if not is_high(rest):
        return "precision is the default"
    for a in _arrays((x, *rest)):
        if isinstance(a, jax.core.Tracer):
            return "a value is traced"
        if getattr(a.device, "platform", None) != "cpu":
            return f"{a.device} is not one CPU"
    if jax.config.jax_debug_nans or jax.config.jax_debug_infs:
        return "JAX is set to raise an error at NaN or infinities"
    return True


class _WithHalves:
    """NumPy's namespace, which knows nothing of bfloat16, with what JAX knows."""

    finfo = staticmethod(jax.numpy.finfo)

    def __getattr__(self, name: str) -> Any:
        return getattr(numpy_namespace(), name)


def _readable(a: Any) -> Any:
    """An array as NumPy reads it, without a copy; so too those of a tuple."""
    if isinstance(a, tuple):
        return getattr(a, "_make", tuple)(map(_readable, a))
    return np.asarray(a) if isinstance(a, jax.Array) else a


class OfNumPy(Delegate):
    """A kernel of NumPy arrays for JAX's."""

    def __init__(self, function: str) -> None:
        self.function = function

    def arguments(self, *args: Any) -> tuple[Any, ...]:
        """What the kernel of NumPy arrays is called with."""
        xp = _WithHalves() if args[1].dtype == jax.numpy.bfloat16 else numpy_namespace()
        return (xp, *map(_readable, args[1:]))

    def __call__(self, *args: Any) -> Any:
        """What it gives, as arrays on the device of the arguments, bound to it if one of those is."""
        with ignore_fp_warnings():
            out = call(self.function, *self.arguments(*args))
        bound = any(a.committed for a in _arrays(args))
        return jax.device_put(out, args[1].device if bound else None)


@cache
def __getattr__(name: str) -> Callable[..., Any]:
    if name not in _FUNCTIONS:
        raise AttributeError(name)
    return OfNumPy(name)


BACKEND = Backend(
    name="jax_cpu",
    types=("jaxlib:ArrayImpl",),
    functions={name: f"{__name__}:{name}" for name in _FUNCTIONS},
    priority=1,
    should_run=f"{__name__}:should_run",
    options=NUMPY.options,
)
