"""What the PyTorch kernels share: whether a call may take them, and how they see an array.

That is as rows (samples, classes), or as (outer, classes, inner) where the classes are not the last axis.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._array.namespace import library

XP: Any = library(torch.empty(0), "x").xp

_REAL = (torch.Tensor, torch.nn.Parameter)
_stack = torch._C._functorch.peek_interpreter_stack
_modes = torch._C._len_torch_dispatch_stack


def why_not_eager(*arrays: Tensor | None) -> str | None:
    """Why the kernels that write in place may not run on ``arrays``, or None."""
    if torch.compiler.is_compiling():
        return "a compiler traces the call"
    if _stack() is not None:
        return "torch.func transforms the call"
    if torch.autograd.forward_ad._current_level >= 0:
        return "forward-mode differentiation is on"
    if _modes():
        return "a torch dispatch mode is on"
    grad = torch.is_grad_enabled()
    for a in arrays:
        if a is None:
            continue
        if grad and a.requires_grad:
            return "a gradient is recorded"
        if type(a) not in _REAL or a.is_meta:
            return f"a {type(a).__name__} on {a.device} may hold no numbers"
    return None


def is_eager(*arrays: Tensor | None) -> bool:
    """Whether nothing records or transforms the call, and the arrays hold numbers."""
    return why_not_eager(*arrays) is None


def is_eager_cotangent(c: Tensor, *arrays: Tensor | None) -> bool:
    """As ``is_eager`` for a cotangent ``c``, which autograd may batch without torch.func."""
    return is_eager(c, *arrays) and not torch._C._functorch.is_legacy_batchedtensor(c)


def autocast(x: Tensor) -> bool:
    """Whether autocast is on for ``x``'s device."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def working(dtype: torch.dtype, precision: str | None) -> torch.dtype:
    """Return the dtype to compute in."""
    if precision == "high" or dtype is torch.float64:
        return torch.float64
    return torch.float32


class View(NamedTuple):
    """An array as rows (outer, classes), or as (outer, classes, inner)."""

    x: Tensor
    shape: torch.Size
    axis: int
    #: Whether the class axis was moved to the end.
    moved: bool

    @property
    def rows(self) -> bool:
        """Whether a sample's classes are a row."""
        return self.x.ndim == 2

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.x.shape[1]

    @property
    def sample_shape(self) -> torch.Size:
        """The logits' shape without the class axis."""
        return torch.Size((*self.shape[: self.axis], *self.shape[self.axis + 1 :]))

    def logits(self, a: Tensor) -> Tensor:
        """Another array that broadcasts to the logits, in this view's shape."""
        a = a.expand(self.shape)
        if self.moved:
            a = a.movedim(self.axis, -1)
        return a.reshape(self.x.shape)

    def samples(self, a: Tensor) -> Tensor:
        """An array of the samples' shape, in this view's shape with the class axis kept."""
        return a.reshape(self.x.shape[0], 1, *self.x.shape[2:])

    def back(self, a: Tensor) -> Tensor:
        """An array of this view's shape in the logits' own."""
        if self.moved:
            order = (*self.shape[: self.axis], *self.shape[self.axis + 1 :], self.shape[self.axis])
            return a.reshape(order).movedim(-1, self.axis)
        return a.reshape(self.shape)

    def back_samples(self, a: Tensor) -> Tensor:
        """An array of the samples in the logits' shape without the class axis."""
        return a.reshape(self.sample_shape)


def view(x: Tensor, axis: int) -> View:
    """See ``x`` as rows or as (outer, classes, inner), without a copy where its strides allow."""
    shape, k = x.shape, x.shape[axis]
    last = x.ndim - 1
    if axis == last:
        return View(x if x.ndim == 2 else x.reshape(math.prod(shape[:-1]), k), shape, axis, False)
    inner = math.prod(shape[axis + 1 :])
    outer = math.prod(shape[:axis])
    if inner == 1:
        return View(x.reshape(outer, k), shape, axis, False)
    if not x.is_contiguous():
        turned = x.movedim(axis, -1)
        if turned.is_contiguous():
            return View(turned.reshape(outer * inner, k), shape, axis, True)
    return View(x.reshape(outer, k, inner), shape, axis, False)


def inverse(divisor: Tensor) -> Tensor:
    """1 / divisor; 0 where every sample was ignored."""
    none = divisor == 0
    return divisor.masked_fill(none, 1).reciprocal_().masked_fill_(none, 0)


def kept_where(keep: Tensor, a: Tensor, other: float = 0.0) -> Tensor:
    """``a`` where ``keep`` is True; a number in torch.where would be a plain tensor beside one without values."""
    return torch.where(keep, a, a.new_full((), other))
