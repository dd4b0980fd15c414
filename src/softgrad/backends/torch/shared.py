"""PyTorch tensors by the kernels of other back ends, in the same memory, where these are ahead.

On a GPU those are Triton's. On a CPU, where numba is installed, its loops are ahead for rows, for columns of a vector
or more and for linear models; NumPy's blocks are for what takes torch several passes: a log-sum-exp, and the losses.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..._array.namespace import library, quiet
from ..._options import LossArgs
from .. import numba, triton
from .._registry import asked_for
from ..numba._width import VECTOR_BYTES
from ..numpy import dense as numpy_dense
from ..numpy import derivatives as numpy_derivatives
from ..numpy import log_probs as numpy_log_probs
from ..numpy import loss as numpy_loss
from ..numpy import small as numpy_small
from . import threads
from .blocks import autocast

#: Elements up to which NumPy's few calls take less time than torch's, and from which its blocks do.
SMALL, LEAST = numpy_small.SMALL, 1 << 14
#: Elements up to which a log-softmax of torch's is as fast.
SHORT_LOG = 1 << 11
#: Functions that take torch longer than NumPy's few calls, where its own softmax is not fast.
FEW_CALLS = ("softmax", "log_softmax", "logsumexp", "loss")
#: From how many classes on NumPy's blocks are ahead of torch's passes, in single and double precision.
BLOCKS = {"log_softmax": {4: 256, 8: 100}, "logsumexp": {4: 1, 8: 1}, "loss": {4: 16, 8: 64}}
_LOSSES = {
    (True, False): "cross_entropy",
    (False, True): "cross_entropy_grad",
    (True, True): "cross_entropy_value_and_grad",
}


def on_gpu(function: str, x: Tensor, *args: Any) -> Callable[..., Any] | None:
    """Triton's kernel of that name, where there is one for these tensors, which nothing records."""
    if triton.BACKEND is None or asked_for() == "torch" or triton.fits(function, x, *args) is not True:
        return None
    module, _, name = triton.BACKEND.functions[function].rpartition(":")
    return getattr(imported(module), name)


def traced(function: str, x: Tensor, *args: Any) -> bool:
    """Whether a compiler traces the call and may have Triton's kernel of that name in its graph, as an operator."""
    if not torch.compiler.is_compiling() or not triton.in_graphs() or asked_for() == "torch":
        return False
    return triton.fits(function, x, *args) is True


def _may_lend(x: Tensor) -> bool:
    """Whether NumPy sees what the tensor holds, in order, and nobody asked for torch's own kernels."""
    return _readable(x) and x.is_contiguous() and asked_for() != "torch"


def _readable(x: Tensor) -> bool:
    """Whether NumPy sees what the tensor holds."""
    return x.is_cpu and x.dtype in (torch.float32, torch.float64) and not x.is_neg()


def _module(function: str, x: Tensor, axis: int) -> ModuleType | None:
    """Whose kernel for arrays is ahead of torch's, where there is no loop."""
    n, k = x.numel(), x.shape[axis]
    if axis == x.ndim - 1 and n <= SMALL and function in FEW_CALLS:
        if n <= SHORT_LOG and function == "log_softmax":
            return None
    elif n < LEAST or k < BLOCKS.get(function, {}).get(x.element_size(), k + 1):
        return None
    return numpy_loss if function == "loss" else numpy_dense


def _loops(x: Tensor, axis: int) -> Any:
    """The module of compiled loops, where numba is there and has a loop for the layout."""
    if numba.BACKEND is None or x.numel() < numba.LEAST:
        return None
    k, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])
    # a vector of columns
    fits = k >= 2 and (inner == 1 or (inner * x.element_size() >= VECTOR_BYTES and k <= numba.COLUMN_CLASSES))
    return imported(".loops") if fits and numba.compiles() is True else None


@cache
def imported(name: str) -> Any:
    """A module of another back end, by its place beside this package."""
    return importlib.import_module(name, __package__)


def dense(function: str, x: Tensor, axis: int, precision: str | None) -> Tensor | None:
    """The softmax, its logarithm or its normaliser; None where torch is to do it."""
    kernel = on_gpu(function, x, axis, None, precision)
    if kernel is not None:
        return kernel(None, x, axis)
    if precision is not None or not _may_lend(x):
        return None
    loops = _loops(x, axis)
    if loops is not None:
        return loops.dense(function, x, axis)
    module = _module(function, x, axis)
    if module is None:
        return None
    with threads.shared(), quiet():
        return torch.from_numpy(getattr(module, function)(None, x.detach().numpy(), axis, None, None))


def has_pull(a: Tensor, cotangent: Tensor, axis: int) -> bool:
    """Whether a kernel pulls a cotangent back through a softmax, or its logarithm, of values ``a``."""
    return on_gpu("softmax_vjp", a, cotangent, axis) is not None or (
        a.shape[axis] <= numba.LONGEST
        and cotangent.dtype == a.dtype
        and not cotangent.is_neg()
        and _may_lend(a)
        and _loops(a, axis) is not None
    )


def pull(function: str, a: Tensor, cotangent: Tensor, axis: int) -> Tensor:
    """What it gives."""
    kernel = on_gpu(f"{function}_vjp", a, cotangent, axis)
    if kernel is not None:
        return kernel(None, a, cotangent, axis)
    pulled: Tensor = imported(".loops").pull(function, a, cotangent, axis)
    return pulled


def few_calls_pull(function: str, a: Tensor, cotangent: Tensor, axis: int) -> Tensor | None:
    """What NumPy's few calls give for a small tensor, which would take torch more; None where torch is to do it."""
    if a.numel() > LEAST or not (_may_lend(a) and _readable(cotangent)):
        return None
    values, c = a.detach().numpy(), cotangent.detach().numpy()
    with quiet():
        return torch.from_numpy(getattr(numpy_derivatives, f"{function}_vjp")(library(values, "x").xp, values, c, axis))


def lend(function: str, x: Tensor, *args: Any) -> Tensor | None:
    """NumPy's kernel of that name on a CPU's tensor that nothing records, in a dtype and an order that it reads."""
    if not x.is_cpu or asked_for() == "torch":
        return None

    kernel = getattr(numpy_log_probs, function)
    with threads.shared(), quiet():
        host = [_readable_host(a) for a in (x, *args)]
        result = torch.from_numpy(kernel(library(host[0], "x").xp, *host))
    return result.to(x.dtype)


def lend_rows(kernel: Callable[..., Any], X: Tensor, *args: Any) -> Any:
    """What a kernel of NumPy's linear model gives, as tensors; None where torch is to do it."""
    if not X.is_cpu or asked_for() == "torch" or autocast(X):
        return None
    with threads.shared(), quiet():
        host = [_readable_host(a) for a in (X, *args)]
        result = kernel(library(host[0], "X").xp, *host)
    return tuple(None if a is None else _as_given(a, X) for a in result)


def _as_given(a: Any, X: Tensor) -> Tensor:
    tensor = torch.from_numpy(a)
    return tensor.to(X.dtype) if tensor.is_floating_point() else tensor


def _readable_host(a: Any) -> Any:
    """A tensor as NumPy reads it, half precision as single; so too those of a tuple of arrays."""
    make = getattr(a, "_make", None)
    if make is not None:
        return make(_readable_host(each) for each in a)
    if not isinstance(a, Tensor):
        return a
    a = a.to(torch.float32) if a.dtype in (torch.float16, torch.bfloat16) else a.resolve_neg()
    return a.contiguous().numpy(force=True)


def _host(a: Any) -> Any:
    return a.numpy(force=True) if isinstance(a, Tensor) else a


def _host_job(job: LossArgs) -> LossArgs:
    return LossArgs._make(map(_host, job))


def cross_entropy(x: Tensor, job: LossArgs, value: bool, grad: bool) -> tuple[Tensor | None, Tensor | None] | None:
    """(loss, gradient), each None where it is not asked for; None where torch is to do it."""
    kernel = on_gpu(_LOSSES[value, grad], x, job)
    if kernel is not None:
        given = kernel(None, x, job)
        return given if value and grad else ((given, None) if value else (None, given))
    # what NumPy's blocks leave to the generic kernel is torch's as well
    if job.where is not None or job.precision is not None or not _may_lend(x):
        return None
    plain = job.plain and job.labels.dtype is not torch.uint64
    loops = _loops(x, job.axis) if plain else None
    if loops is not None and loops.has_mass(job):
        return loops.cross_entropy(x, job, value, grad)
    module = _module("loss", x, job.axis) if loops is None else imported("..numba.rows")
    if module is None:
        return None
    host = _host_job(job)
    host_kernel: Callable[..., Any] = getattr(module, _LOSSES[value, grad])
    with threads.shared(), quiet():
        logits = x.detach().numpy()
        result = host_kernel(library(logits, "logits").xp, logits, host)
    out = [torch.from_numpy(a) for a in (result if value and grad else (result,))]
    return (out[0] if value else None), (out[-1] if grad else None)


def losses_in_place(like: Tensor, dtype: torch.dtype, job: LossArgs) -> Any:
    """The loss, by Triton's kernel in place, of blocks of logits in ``dtype`` of the shape of ``like``, or None."""
    like = like.new_zeros((), dtype=dtype).expand(like.shape)
    if on_gpu("cross_entropy_value_and_grad", like, job) is None:
        return None
    return imported("..triton.loss").InPlace(like, job)


def linear(function: str, X: Tensor, W: Tensor, bias: Tensor | None, job: LossArgs, *rest: Any) -> Any:
    """What a linear model's kernel gives, as tensors; None where torch is to do it."""
    tensors = [a for a in (X, W, bias) if a is not None]
    if (
        numba.BACKEND is None
        or X.numel() < numba.LEAST
        or not all(map(_readable, tensors))
        or not X.is_contiguous()
        or (X.dtype is torch.float32 and autocast(X))
        or job.labels.dtype is torch.uint64
        or job.beyond(numba.BACKEND.options)
        or asked_for() == "torch"
    ):
        return None
    arguments = (_host(X), _host(W), _host(bias), _host_job(job), *rest)
    if numba.should_run(function, None, *arguments) is not True:
        return None
    with threads.shared(), quiet():
        out = getattr(imported("..numba.linear"), function)(None, *arguments)
    if isinstance(out, tuple):
        return torch.from_numpy(out[0]), tuple(torch.from_numpy(a) for a in out[1])
    return torch.from_numpy(out)
