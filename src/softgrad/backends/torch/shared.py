"""What PyTorch's operations take of Triton's kernels, beside what the registry gives them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..._options import LossArgs
from .. import triton
from .._registry import asked_for


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


@cache
def imported(name: str) -> Any:
    """A module of another back end, by its place beside this package."""
    return importlib.import_module(name, __package__)


def losses_in_place(like: Tensor, dtype: torch.dtype, args: LossArgs) -> Any:
    """The loss, by Triton's kernel in place, of blocks of logits in ``dtype`` of the shape of ``like``, or None."""
    logits = logits_in_place(like, dtype, args)
    return None if logits is None else imported("..triton.loss").InPlace(logits, args)


def logits_in_place(like: Tensor, dtype: torch.dtype, args: LossArgs) -> Tensor | None:
    """Logits in ``dtype`` that hold nothing, of the shape of ``like``, where Triton's kernel takes a loss on them."""
    logits = like.new_empty((), dtype=dtype).expand(like.shape)
    return None if on_gpu("cross_entropy_value_and_grad", logits, args) is None else logits
