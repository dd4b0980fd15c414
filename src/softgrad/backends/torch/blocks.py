"""What the PyTorch kernels share: whether a call may take them, and blocks that stay in cache.

Every array is seen as rows (samples, classes), or as (outer, classes, inner) where the classes are not the last axis.
A block of rows is worked on as it stands or, where rows are short, class first in scratch memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

#: Takes the part of an array that belongs to a block; samples' arrays have their class axis kept.
Cut: TypeAlias = Callable[[Tensor], Tensor]

#: Bytes of a block's scratch memory.
BLOCK_BYTES = 1 << 20
#: Samples of a block at least, where the inner axis is cut.
FEWEST_COLUMNS = 64
#: Classes up to which a plain sum of a native kernel is exact enough.
NATIVE_SUM = 1024
#: Rows shorter than this are slow in torch's row kernels.
SHORT = 16

_REAL = (torch.Tensor, torch.nn.Parameter)
_stack = torch._C._functorch.peek_interpreter_stack
_modes = torch._C._len_torch_dispatch_stack


def obstacle(*arrays: Tensor | None) -> str | None:
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


def plain(*arrays: Tensor | None) -> bool:
    """Whether nothing records or transforms the call, and the arrays hold numbers."""
    return obstacle(*arrays) is None


def plain_cotangent(c: Tensor, *arrays: Tensor | None) -> bool:
    """As ``plain`` for a cotangent ``c``, which autograd may batch without torch.func."""
    return plain(c, *arrays) and not torch._C._functorch.is_legacy_batchedtensor(c)


def host(x: Tensor) -> bool:
    """Whether ``x`` is where a value can steer Python without waiting for a device."""
    return x.is_cpu


def autocast(x: Tensor) -> bool:
    """Whether autocast is on for ``x``'s device."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def working(dtype: torch.dtype, precision: str | None) -> torch.dtype:
    """Return the dtype to compute in."""
    if precision == "high" or dtype is torch.float64:
        return torch.float64
    return torch.float32


def put(a: Tensor, out: Tensor) -> Tensor:
    """Write ``a`` into ``out``; no copy, for that transposes with one thread."""
    return torch.mul(a, 1, out=out)


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

    def empty(self, dtype: torch.dtype) -> Tensor:
        """A new array in this view's shape."""
        return torch.empty(self.x.shape, dtype=dtype, device=self.x.device)

    def empty_samples(self, dtype: torch.dtype) -> Tensor:
        """A new array of the samples in this view's shape, the class axis kept."""
        return torch.empty((self.x.shape[0], 1, *self.x.shape[2:]), dtype=dtype, device=self.x.device)

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


class Block(NamedTuple):
    """A part of a view: how to take it, its class axis, its shape."""

    cut: Cut
    dim: int
    shape: tuple[int, ...]


def rows_cut(start: int, stop: int, turned: bool = False) -> Cut:
    """Take rows, and turn them class first."""
    # not by brackets, which a build without a GPU refuses to a fake tensor of one
    if turned:
        return lambda a: a.narrow(0, start, stop - start).t()
    return lambda a: a.narrow(0, start, stop - start)


def _columns_cut(first: int, last: int, start: int, stop: int) -> Cut:
    return lambda a: a.narrow(0, first, last - first).narrow(2, start, stop - start)


def blocks(v: View, itemsize: int, class_first: bool = False) -> Iterator[Block]:
    """Cut a view into blocks of samples, in order; whole where the device is no CPU."""
    n, k = v.x.shape[:2]
    inner = 1 if v.rows else v.x.shape[2]
    elements = max(1, BLOCK_BYTES // itemsize) if host(v.x) else n * k * inner
    if v.rows:
        for start, stop in _ranges(n, elements // k):
            if class_first:
                yield Block(rows_cut(start, stop, True), 0, (k, stop - start))
            else:
                yield Block(rows_cut(start, stop), 1, (stop - start, k))
        return
    columns = inner
    if k * inner > elements:
        columns = min(inner, max(FEWEST_COLUMNS, elements // k))
    for first, last in _ranges(n, elements // (k * max(1, columns))):
        for start, stop in _ranges(inner, columns):
            yield Block(_columns_cut(first, last, start, stop), 1, (last - first, k, stop - start))


def _ranges(n: int, most: int) -> list[tuple[int, int]]:
    """0 to ``n`` in even parts of at most ``most``."""
    count = -(-n // max(1, most))
    size = -(-n // max(1, count))
    return [(i, min(i + size, n)) for i in range(0, n, size)] if n else []


class Scratch:
    """Memory that one block after the other is worked on in."""

    def __init__(self, like: Tensor, dtype: torch.dtype) -> None:
        self.device, self.dtype = like.device, dtype
        self.memory: dict[int, Tensor] = {}

    def __call__(self, shape: tuple[int, ...], slot: int = 0) -> Tensor:
        """Return an array of ``shape`` that is overwritten by the next of its slot."""
        size = math.prod(shape)
        held = self.memory.get(slot)
        if held is None or held.numel() < size:
            held = self.memory[slot] = torch.empty(size, dtype=self.dtype, device=self.device)
        return held.narrow(0, 0, size).view(shape)


def kept_where(keep: Tensor, a: Tensor, other: float = 0.0) -> Tensor:
    """``a`` where ``keep`` is True; a number in torch.where would be a plain tensor beside one without values."""
    return torch.where(keep, a, a.new_full((), other))
