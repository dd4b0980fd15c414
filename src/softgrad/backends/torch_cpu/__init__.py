"""PyTorch tensors on a CPU by the kernels of NumPy arrays, in the same memory: numba's loops where it is installed.

For all tensors that nothing records, since torch's own operations give a row other bits in another batch. They take
all sizes, layouts and options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._array.namespace import ignore_fp_warnings
from ..._kernels import high as high_kernels
from ..._options import LossArgs
from .._declaration import Backend, Delegate
from .._registry import asked_for, call
from .._to_numpy import is_high, numpy_namespace
from ..numpy import BACKEND as NUMPY
from ..torch import threads
from ..torch.blocks import autocast, why_not_eager

#: What NumPy holds, or a wider dtype of it.
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
#: Numbers from which more than one thread is at work.
AWAKE = 1 << 15
#: With these the linear model is NumPy's; with others torch's products have the generic kernel ahead.
_LOSS_OPTIONS = ("label_smoothing", "class_weight", "ignore_index", "z_loss", "precision", "sample_weight", "where")
#: Whose results with ``precision="high"`` are rounded once.
_ROUNDED_ONCE = frozenset(name for name in NUMPY.functions if hasattr(high_kernels, name))
_DENSE = ("softmax", "log_softmax", "logsumexp")
_FUNCTIONS = tuple(name for name in NUMPY.functions if name not in ("divergence", "linear_cross_entropy_hvp"))


def should_run(function: str, xp: Any, x: Any, *rest: Any) -> bool | str:
    """Decline what is not in a CPU's memory as NumPy knows it, what is recorded, and what autocast casts."""
    if torch.compiler.is_compiling():
        return "a compiler traces the call"
    if not x.is_cpu or x.dtype not in _DTYPES:
        return f"{x.dtype} on {x.device.type} is not NumPy's"
    if asked_for() in ("torch", "triton"):
        return "PyTorch's own kernels are asked for"
    if x.dtype is torch.bfloat16 and function in _ROUNDED_ONCE and is_high(rest):
        return "from float64 torch goes to half precision by way of float32"
    if function in _DENSE:
        return why_not_eager(x, rest[1]) or True
    arrays = [a for a in rest if isinstance(a, Tensor)]
    arrays += [a for some in rest if isinstance(some, tuple) for a in some if isinstance(a, Tensor)]
    why = why_not_eager(x, *arrays)
    if why is not None:
        return why
    linear = function.startswith("linear")
    if (linear or (x.dtype.itemsize < 4 and "cross_entropy" in function)) and autocast(x):
        return "autocast chooses the dtype"
    if linear and "cross_entropy" in function:
        return _linear(x, *rest)
    if function.endswith(("vjp", "jvp", "hvp")):
        if any(torch._C._functorch.is_legacy_batchedtensor(a) for a in arrays):
            return "autograd batches a cotangent"
        if "softmax" in function and not (x.dtype is rest[0].dtype and rest[0].is_cpu and x.numel()):
            return "an empty array and two dtypes are the generic kernel's"
    return True


def _linear(X: Tensor, W: Tensor, bias: Tensor | None, args: LossArgs, *rest: Any) -> bool | str:
    if W.dtype not in _DTYPES:
        return f"weights of {W.dtype} are not NumPy's"
    others = args.beyond(_LOSS_OPTIONS)
    if others or (args.precision == "high" and X.dtype is torch.float64):
        return f"{', '.join(others) or 'precision'} is for the generic kernel, with torch's products"
    return True


def _readable(a: Any) -> Any:
    """A tensor as NumPy reads it, without a copy where it can; so too those of a tuple."""
    if isinstance(a, Tensor):
        if a.dtype is torch.bfloat16:
            a = a.to(torch.float32)
        if not a.is_cpu:
            return a.numpy(force=True)
        return a.detach().resolve_neg().numpy() if a.requires_grad or a.is_neg() else a.numpy()
    if isinstance(a, tuple):
        make = getattr(a, "_make", tuple)
        return make(map(_readable, a))
    return a


def _widened(args: tuple[Any, ...]) -> Iterator[Any]:
    """The arguments with single precision, or double for all digits, in place of bfloat16."""
    wide = torch.float64 if is_high(args) else torch.float32
    return (a.to(wide) if isinstance(a, Tensor) and a.dtype is torch.bfloat16 else a for a in args)


def _tensor(a: Any, dtype: torch.dtype | None) -> Any:
    """What NumPy gave as a tensor; so too what is in a tuple."""
    if isinstance(a, tuple):
        return tuple([_tensor(each, dtype) for each in a])
    if a is None:
        return None
    tensor = torch.from_numpy(np.asarray(a))
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


class OfNumPy(Delegate):
    """A kernel of NumPy arrays for tensors."""

    def __init__(self, function: str) -> None:
        self.function = function
        #: Which argument decides the dtype of the results: in a linear model the weights.
        self.like = 2 if function.startswith("linear") else 1

    def arguments(self, *args: Any) -> tuple[Any, ...]:
        """What the kernel of NumPy arrays is called with."""
        given: Any = args[1:]
        if torch.bfloat16 in (args[1].dtype, args[self.like].dtype):
            given = _widened(given)
        return (numpy_namespace(), *map(_readable, given))

    def __call__(self, *args: Any) -> Any:
        """What it gives, as tensors."""
        arrays = self.arguments(*args)
        if self.like == 1 and args[1].numel() < AWAKE:
            with ignore_fp_warnings():
                out = call(self.function, *arrays)
        else:
            with threads.shared(), ignore_fp_warnings():
                out = call(self.function, *arrays)
        dtype = args[self.like].dtype
        return _tensor(out, dtype if dtype is torch.bfloat16 else None)


@cache
def __getattr__(name: str) -> Callable[..., Any]:
    if name not in _FUNCTIONS:
        raise AttributeError(name)
    return OfNumPy(name)


BACKEND = Backend(
    name="torch_cpu",
    types=("torch:Tensor",),
    functions={name: f"{__name__}:{name}" for name in _FUNCTIONS},
    priority=1,
    should_run=f"{__name__}:should_run",
    options=NUMPY.options,
)
