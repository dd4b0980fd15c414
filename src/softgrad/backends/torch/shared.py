"""PyTorch tensors by the kernels of other back ends, in the same memory, where these are ahead.

On a GPU those are Triton's. On a CPU they are those of NumPy arrays, numba's loops where it is installed: for all
tensors, since torch's own operations give a row other bits in another batch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._array.namespace import library, quiet
from ..._kernels import high as high_kernels
from ..._options import LossArgs
from .. import triton
from .._registry import asked_for, call
from ..numpy import log_probs as numpy_log_probs
from . import threads
from .blocks import autocast

#: What NumPy holds, or a wider dtype of it.
_HOST = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Numbers from which more than one thread is at work.
AWAKE = 1 << 15
#: The kernels of a loss, by whether the value and the gradient are asked for.
LOSSES = {
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
    if x.dtype is torch.bfloat16:
        if _is_high(args) and hasattr(high_kernels, function):
            # from float64 torch goes to half precision by way of float32
            return getattr(high_kernels, function)(library(x, "x").xp, *args)
        return _each(lambda a: a.to(torch.bfloat16), host(function, *_widened(args)))
    arrays = [_host_job(a) if isinstance(a, LossArgs) else _host(a) for a in args]
    if x.numel() < AWAKE and not function.startswith("linear"):
        with quiet():
            out = call(function, _numpy(), *arrays)
    else:
        with threads.shared(), quiet():
            out = call(function, _numpy(), *arrays)
    return _each(lambda a: torch.from_numpy(np.asarray(a)), out)


def _is_high(args: tuple[Any, ...]) -> bool:
    return "high" in [a.precision if isinstance(a, LossArgs) else a for a in args if not isinstance(a, Tensor)]


def _widened(args: tuple[Any, ...]) -> Iterator[Any]:
    wide = torch.float64 if _is_high(args) else torch.float32
    return (a.to(wide) if isinstance(a, Tensor) and a.dtype is torch.bfloat16 else a for a in args)


def _each(function: Callable[[Any], Tensor], given: Any) -> Any:
    """``function`` of every array in tuples of them."""
    return tuple(_each(function, a) for a in given) if isinstance(given, tuple) else function(given)


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


def as_pair(given: Any, value: bool, grad: bool) -> tuple[Tensor | None, Tensor | None]:
    """What a kernel of ``LOSSES`` gave as (loss, gradient), each None where it is not asked for."""
    loss, slope = given if value and grad else (given, given)
    return loss if value else None, slope if grad else None


def cross_entropy(x: Tensor, job: LossArgs, value: bool, grad: bool) -> tuple[Tensor | None, Tensor | None] | None:
    """(loss, gradient), each None where it is not asked for; None where torch is to do it."""
    name = LOSSES[value, grad]
    kernel = on_gpu(name, x, job)
    if kernel is not None:
        return as_pair(kernel(None, x, job), value, grad)
    return as_pair(host(name, x, job), value, grad) if on_host(x) else None


def losses_in_place(like: Tensor, dtype: torch.dtype, job: LossArgs) -> Any:
    """The loss, by Triton's kernel in place, of blocks of logits in ``dtype`` of the shape of ``like``, or None."""
    logits = logits_in_place(like, dtype, job)
    return None if logits is None else imported("..triton.loss").InPlace(logits, job)


def logits_in_place(like: Tensor, dtype: torch.dtype, job: LossArgs) -> Tensor | None:
    """Logits in ``dtype`` that hold nothing, of the shape of ``like``, where Triton's kernel takes a loss on them."""
    logits = like.new_empty((), dtype=dtype).expand(like.shape)
    return None if on_gpu("cross_entropy_value_and_grad", logits, job) is None else logits


def linear(function: str, X: Tensor, W: Tensor, *args: Any) -> Any:
    """What a linear model's kernel gives, as tensors, of bfloat16 in a wider dtype; None where torch is to do it."""
    if not (on_host(X) and on_host(W)) or autocast(X):
        return None
    return host(function, *_widened((X, W, *args)))
