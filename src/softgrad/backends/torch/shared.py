"""PyTorch tensors by the kernels of other back ends, in the same memory, where these are ahead.

On a GPU those are Triton's. On a CPU they are those of NumPy arrays, numba's loops where it is installed: for all
tensors, since torch's own operations give a row other bits in another batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._array.namespace import library, quiet
from ..._kernels import high as high_kernels
from ..._options import LossArgs
from .. import numba, triton
from .._registry import asked_for, call
from ..numpy import log_probs as numpy_log_probs
from . import threads
from .blocks import autocast

#: What NumPy holds, or a wider dtype of it.
_HOST = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Numbers from which more than one thread is at work.
AWAKE = 1 << 15
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


def on_host(x: Tensor) -> bool:
    """Whether NumPy's kernels work on what the tensor holds: on a CPU, unless somebody asked for other kernels.

    They take all sizes, layouts and options, so that a row has the same bits in any company.
    """
    return x.is_cpu and x.dtype in _HOST and asked_for() not in ("torch", "triton")


def host(function: str, *args: Any) -> Any:
    """What a kernel for NumPy arrays gives, as tensors; bfloat16 is taken in float32, or in float64 for all digits."""
    x = args[0]
    dtype = x.dtype
    if dtype is torch.bfloat16:
        high = "high" in [a.precision if isinstance(a, LossArgs) else a for a in args if not isinstance(a, Tensor)]
        if high and hasattr(high_kernels, function):
            return getattr(high_kernels, function)(library(x, "x").xp, *args)
        wide = torch.float64 if high else torch.float32
        given = host(function, *(a.to(wide) if isinstance(a, Tensor) and a.dtype is dtype else a for a in args))
        return tuple(a.to(dtype) for a in given) if isinstance(given, tuple) else given.to(dtype)
    arrays = [_host_job(a) if isinstance(a, LossArgs) else _host(a) for a in args]
    if x.numel() < AWAKE:
        with quiet():
            out = call(function, _numpy(), *arrays)
    else:
        with threads.shared(), quiet():
            out = call(function, _numpy(), *arrays)
    return tuple(map(torch.from_numpy, out)) if isinstance(out, tuple) else torch.from_numpy(out)


@cache
def _numpy() -> Any:
    """NumPy's namespace: looked up when wanted, since a trace that imports this has read what is known of libraries."""
    return library(np.empty(0), "x").xp


@cache
def imported(name: str) -> Any:
    """A module of another back end, by its place beside this package."""
    return importlib.import_module(name, __package__)


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
    if not isinstance(a, Tensor):
        return a
    if a.dtype is torch.bfloat16:
        a = a.to(torch.float32)
    if not a.is_cpu:
        return a.numpy(force=True)
    return a.detach().resolve_neg().numpy() if a.requires_grad or a.is_neg() else a.numpy()


def _host_job(job: LossArgs) -> LossArgs:
    return LossArgs._make(map(_host, job))


def cross_entropy(x: Tensor, job: LossArgs, value: bool, grad: bool) -> tuple[Tensor | None, Tensor | None] | None:
    """(loss, gradient), each None where it is not asked for; None where torch is to do it."""
    kernel = on_gpu(_LOSSES[value, grad], x, job)
    if kernel is not None:
        given = kernel(None, x, job)
        return given if value and grad else ((given, None) if value else (None, given))
    if not on_host(x):
        return None
    given = host(_LOSSES[value, grad], x, job)
    return given if value and grad else ((given, None) if value else (None, given))


def losses_in_place(like: Tensor, dtype: torch.dtype, job: LossArgs) -> Any:
    """The loss, by Triton's kernel in place, of blocks of logits in ``dtype`` of the shape of ``like``, or None."""
    logits = logits_in_place(like, dtype, job)
    return None if logits is None else imported("..triton.loss").InPlace(logits, job)


def logits_in_place(like: Tensor, dtype: torch.dtype, job: LossArgs) -> Tensor | None:
    """Logits in ``dtype`` that hold nothing, of the shape of ``like``, where Triton's kernel takes a loss on them."""
    logits = like.new_empty((), dtype=dtype).expand(like.shape)
    return None if on_gpu("cross_entropy_value_and_grad", logits, job) is None else logits


def linear(function: str, X: Tensor, W: Tensor, bias: Tensor | None, job: LossArgs, *rest: Any) -> Any:
    """What a linear model's kernel gives, as tensors; None where torch is to do it."""
    tensors = [a for a in (X, W, bias) if a is not None]
    if (
        numba.BACKEND is None
        or X.numel() < numba.LEAST
        or not all(a.is_cpu and a.dtype in (torch.float32, torch.float64) for a in tensors)
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
