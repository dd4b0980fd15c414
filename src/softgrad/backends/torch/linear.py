"""The linear softmax model on PyTorch tensors: blocks of logits in place, two matrix products each.

Triton's loss turns a block of logits into its slopes. Where it cannot, the generic kernel takes the loss of each block
from the registry.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..._kernels import linear as linear_kernels
from ..._kernels import loss as loss_kernels
from ..._options import LossArgs
from .._registry import call
from . import shared
from .blocks import autocast, working


def _fits(like: Tensor, args: LossArgs) -> bool:
    """Whether slopes stay within the range of float16: no weights, and a mean that is divided at the end."""
    return not args.beyond(_NEAR_ONE) and shared.logits_in_place(like, torch.float16, args) is not None


#: What leaves slopes within float16's range and digits.
_NEAR_ONE = ("logit_shift", "label_smoothing", "ignore_index", "precision")


class Linear:
    """One pass over the data on a GPU: the parameters, and the sums that its blocks add to."""

    def __init__(
        self,
        xp: Any,
        X: Tensor,
        W: Tensor,
        bias: Tensor | None,
        args: LossArgs,
        wrt: tuple[str, ...] = (),
        classes: tuple[int, ...] | None = None,
        block_size: int | None = None,
    ) -> None:
        self.X, self.wrt = X, wrt
        self.wide = working(X.dtype, args.precision)
        #: What operands of products, logits and slopes are in: autocast's dtype where that is on, or as X came.
        self.narrow = self.wide
        self.n, self.m = X.shape
        self.k = W.shape[0]
        # the logits' shape, with none of them held
        like = torch.zeros((), dtype=self.wide, device=X.device).expand(self.n, self.k)
        if self.wide is torch.float32:
            if autocast(X):
                self.narrow = torch.get_autocast_dtype(X.device.type)
            elif args.precision is None and (X.dtype is not torch.float16 or _fits(like, args)):
                self.narrow = X.dtype
        #: The loss of a block in place, or None where there is none.
        self.loss = shared.losses_in_place(like, self.narrow, args)
        if self.loss is None:
            return
        self.W = W.to(self.narrow)
        self.bias = None if bias is None else bias.to(self.narrow)
        memory = linear_kernels.memory_of(xp, X)
        self.rows = linear_kernels.block_rows(self.n, self.k, self.narrow.itemsize, block_size, memory)
        if self.narrow is torch.float16 and block_size is None:
            # slopes of more rows, at most 1 each, could add up to more than float16 holds
            self.rows = min(self.rows, linear_kernels.DEVICE_ROWS[1])
        kept: Tensor = loss_kernels.keep(xp, args, like)[0]
        self.ignored = None if kept is None else kept.logical_not()
        if self.ignored is not None:
            # for all blocks at once, which is one launch; a NaN there must not reach a product as 0 * NaN
            self.X = X.masked_fill(self.ignored, 0)
        self.classes = None if classes is None else torch.tensor(classes, device=X.device)
        self.grads: dict[str, Tensor] = {}
        if "X" in wrt:
            self.grads["X"] = torch.empty_like(X, dtype=self.wide if X.dtype is torch.float16 else X.dtype)
        #: What the first block writes and the others add to; half precision with float16's range is too small.
        self.sums = self.wide if self.narrow is torch.float16 else self.narrow

    def product(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """``a @ b`` in ``out``."""
        if out.dtype is self.narrow:
            return torch.mm(a, b, out=out)
        # no copy, which a build without a GPU refuses to a fake tensor of one
        return torch.mul(torch.mm(a, b), 1, out=out)

    def block(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """(rows of X, their logits)."""
        x = self.X.narrow(0, start, stop - start).to(self.narrow)
        return x, torch.mm(x, self.W.t()) if self.bias is None else torch.addmm(self.bias, x, self.W.t())

    def spread(self, start: int, stop: int, x: Tensor, g: Tensor) -> None:
        """Add what a block's slopes ``g`` give to the gradients."""
        if "X" in self.wrt:
            self.product(g, self.W, self.grads["X"].narrow(0, start, stop - start))
        slopes = g.t()
        if self.classes is not None and ("W" in self.wrt or "bias" in self.wrt):
            slopes = slopes.index_select(0, self.classes)
        if "bias" in self.wrt:
            step = slopes.sum(1, dtype=self.wide)
            self.grads["bias"] = self.grads["bias"].add_(step) if "bias" in self.grads else step
        if "W" in self.wrt:
            held = self.grads.get("W")
            if held is None:
                out = torch.empty((slopes.shape[0], self.m), dtype=self.sums, device=x.device)
                self.grads["W"] = self.product(slopes, x, out)
            elif self.narrow is self.sums:
                held.addmm_(slopes, x)
            else:
                held.add_(torch.mm(slopes, x))

    def run(self, value: bool, grad: bool) -> list[Tensor]:
        """Go through the blocks; returns the losses of each."""
        out: list[Tensor] = []
        for start in range(0, max(1, self.n), self.rows):
            stop = min(start + self.rows, self.n)
            x, z = self.block(start, stop)
            out += self.loss.block(start, z, value, grad)
            if grad:
                self.spread(start, stop, x, z)
            del x, z  # before the next of their size is made
        if not grad:
            return out
        if "X" in self.grads and self.ignored is not None:
            # 0 times what is NaN in a parameter
            self.grads["X"].masked_fill_(self.ignored, 0)
        nothing = None if self.loss.scale is None else self.loss.scale == 0
        for each in self.grads.values():
            if self.loss.late is not None:
                each.mul_(self.loss.late)
            if nothing is not None:
                each.masked_fill_(nothing, 0)
        return out


def _cast(X: Tensor) -> bool:
    """Whether autocast makes half precision of the operands of products."""
    return X.dtype is not torch.float64 and autocast(X)


def _widened(a: Any, always: bool = True) -> Any:
    """Parameters of float16, whose range is too small for sums of slopes, in single precision; ``always`` or not."""
    return a.float() if always and a is not None and a.dtype is not torch.float64 else a


def _of_block(name: str, xp: Any, z: Tensor, args: LossArgs) -> Any:
    """A loss of a block of logits, which under autocast come in half precision."""
    return call(name, xp, z.float() if _cast(z) else z, args)


def linear_cross_entropy(
    xp: Any, X: Tensor, W: Tensor, bias: Tensor | None, args: LossArgs, block_size: int | None = None
) -> Tensor:
    """The loss, reduced."""
    dtype = torch.float32 if _cast(X) else W.dtype
    model = Linear(xp, X, W, bias, args, block_size=block_size)
    if model.loss is not None:
        pieces = model.run(True, False)
        if args.reduction == "none":
            return torch.cat(pieces).to(dtype)
        return model.loss.total([piece.sum() for piece in pieces], dtype)
    loss = partial(_of_block, "cross_entropy")
    W, bias = (_widened(a, _cast(X)) for a in (W, bias))
    return linear_kernels.linear_cross_entropy(xp, X, W, bias, args, block_size, loss)


def value_and_grad(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
    final: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss and its gradients; those of float16 in float32, whose range they need, unless they are ``final``."""
    half = W.dtype is torch.float16
    dtype = torch.float32 if _cast(X) else W.dtype
    dtypes = [X.dtype if name == "X" else W.dtype for name in wrt]
    if not final:
        dtypes = [torch.float32 if each is torch.float16 else each for each in dtypes]
    options = args, wrt, classes, block_size
    model = Linear(xp, X, W, bias, *options)
    found: Any
    if model.loss is not None:
        sums = [piece.sum() for piece in model.run(True, True)]
        found = model.loss.total(sums, dtype), [model.grads[name] for name in wrt]
    else:
        W, bias = (_widened(a, half or _cast(X)) for a in (W, bias))
        loss = partial(_of_block, "cross_entropy_value_and_grad")
        found = linear_kernels.linear_cross_entropy_value_and_grad(xp, X, W, bias, *options, loss)
    value, grads = found
    return value.to(dtype), tuple(g.to(dtype) for g, dtype in zip(grads, dtypes, strict=True))
