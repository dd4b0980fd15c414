"""The linear softmax model on PyTorch tensors: blocks of logits in place, two matrix products each.

With few classes the logits stand class first and a block is small, so that X is read once for both products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..._kernels import linear as linear_kernels
from ..._kernels import loss as loss_kernels
from ..._options import LossArgs
from . import shared
from .blocks import BLOCK_BYTES, Block, Scratch, View, autocast, host, put, rows_cut, working
from .loss import ROWS, TAKEN, Loss
from .samples import no_weight

#: Samples of a block with few classes at least.
FEWEST_ROWS = 512


def _fits(like: Tensor, job: LossArgs) -> bool:
    """Whether slopes stay within the range of float16: no weights, and a mean that is divided at the end."""
    plain = job.sample_weight is None and job.class_weight is None and not job.z_loss
    return plain and shared.logits_in_place(like, torch.float16, job) is not None


class Linear:
    """One pass over the data: the parameters, and the sums that its blocks add to."""

    def __init__(
        self,
        xp: Any,
        X: Tensor,
        W: Tensor,
        bias: Tensor | None,
        job: LossArgs,
        wrt: tuple[str, ...] = (),
        classes: tuple[int, ...] | None = None,
        block_size: int | None = None,
    ) -> None:
        self.X, self.wrt = X, wrt
        self.wide = working(X.dtype, job.precision)
        #: What the operands of products are in: autocast's dtype where that is on, half precision as it came on a GPU.
        self.narrow = self.wide
        self.value_dtype = W.dtype
        self.n, self.m = X.shape
        self.k = W.shape[0]
        # the logits' shape, with none of them held
        like = torch.zeros((), dtype=self.wide, device=X.device).expand(self.n, self.k)
        if self.wide is torch.float32:
            if autocast(X):
                self.narrow = torch.get_autocast_dtype(X.device.type)
                self.value_dtype = self.wide
            elif not host(X) and job.precision is None and (X.dtype is not torch.float16 or _fits(like, job)):
                self.narrow = X.dtype
        #: What logits, their slopes and sums by W are held in.
        self.held = self.wide if host(X) else self.narrow
        self.W = W.to(self.narrow)
        self.bias = None if bias is None else bias.to(self.held)
        self.first = self.k < ROWS and host(X)
        memory = linear_kernels.memory_of(xp, X)
        self.rows = linear_kernels.block_rows(self.n, self.k, self.held.itemsize, block_size, memory)
        if self.first and block_size is None:
            most = BLOCK_BYTES // (max(1, self.m, self.k) * self.wide.itemsize)
            self.rows = min(self.rows, max(FEWEST_ROWS, most))
        self.scratch, self.logits, self.widened = Scratch(X, self.wide), Scratch(X, self.held), Scratch(X, self.wide)
        in_place = None if host(X) else shared.losses_in_place(like, self.held, job)
        self.loss = in_place or Loss(xp, View(like, like.shape, 1, False), job, self.wide, self.scratch)
        samples = self.loss.samples if isinstance(self.loss, Loss) else None
        self.ignored = None if samples is None else samples.ignored
        if samples is None:
            kept, _ = loss_kernels.keep(xp, job, like)
            self.ignored = None if kept is None else kept.logical_not()
        if self.ignored is not None and not host(X):
            # for all blocks at once, which is one launch
            self.X = X.masked_fill(self.ignored, 0)
        self.classes = None if classes is None else torch.tensor(classes, device=X.device)
        self.grads: dict[str, Tensor] = {}
        #: What slopes are multiplied by: beside the slope 0 of a hidden class a parameter may be anything.
        self.beside = self.W
        if "X" in wrt:
            if job.where is not None:
                self.beside = self.W.masked_fill(~self.W.isfinite(), 0)
            self.grads["X"] = torch.empty_like(X, dtype=self.wide if X.dtype is torch.float16 else X.dtype)
        #: What the first block writes and the others add to; half precision with float16's range is too small.
        self.sums = self.wide if self.held is torch.float16 else self.held

    def product(self, a: Tensor, b: Tensor, out: Tensor) -> Tensor:
        """``a @ b`` in ``out``."""
        if out.dtype is self.narrow and a.dtype is b.dtype is self.narrow:
            return torch.mm(a, b, out=out)
        return put(torch.mm(a.to(self.narrow), b.to(self.narrow)), out)

    def block(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """(rows of X, their logits: class first with few classes)."""
        x = self.X.narrow(0, start, stop - start).to(self.narrow)
        if self.ignored is not None and host(x):
            # what stands in a sample that does not count must not reach a product as 0 * NaN
            x = x.masked_fill(self.ignored.narrow(0, start, stop - start), 0)
        if self.first:
            z = self.product(self.W, x.t(), self.logits((self.k, stop - start)))
            return x, z if self.bias is None else z.add_(self.bias.unsqueeze(1))
        if self.bias is not None and not host(x):
            return x, torch.addmm(self.bias, x, self.W.t())
        z = self.product(x, self.W.t(), self.logits((stop - start, self.k)))
        return x, z if self.bias is None else z.add_(self.bias)

    def losses(self, start: int, z: Tensor, value: bool, grad: bool) -> list[Tensor]:
        """Losses of the rows from ``start`` on, in pieces of each 1-D; leaves the gradient in their logits."""
        if not isinstance(self.loss, Loss):
            each: list[Tensor] = self.loss.block(start, z, value, grad)
            return each
        out = []
        dim = 0 if self.first else 1
        count = z.shape[1 - dim]
        size = max(1, BLOCK_BYTES // (self.k * self.wide.itemsize)) if host(z) else max(1, count)
        for i in range(0, count, size):
            j = min(i + size, count)
            piece = z.narrow(1 - dim, i, j - i)
            cut = rows_cut(start + i, start + j, self.first)
            wide = piece if self.held is self.wide else put(piece, self.widened(tuple(piece.shape)))
            loss = self.loss.block(Block(cut, dim, tuple(piece.shape)), wide, wide, value, grad)
            if grad and wide is not piece:
                put(wide, piece)
            if loss is not None:
                out.append(loss.reshape(-1))
        return out

    def spread(self, start: int, stop: int, x: Tensor, g: Tensor) -> None:
        """Add what a block's slopes ``g`` give to the gradients."""
        if "X" in self.wrt:
            rows = self.product(g.t() if self.first else g, self.beside, self.grads["X"].narrow(0, start, stop - start))
            if self.ignored is not None and host(rows):
                # 0 times what is NaN in a parameter
                rows.masked_fill_(self.ignored.narrow(0, start, stop - start), 0)
        slopes = g if self.first else g.t()
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
                held.add_(torch.mm(slopes.to(self.narrow), x))

    def run(self, value: bool, grad: bool) -> list[Tensor]:
        """Go through the blocks; returns the losses, in pieces of each 1-D."""
        out = []
        for start in range(0, max(1, self.n), self.rows):
            stop = min(start + self.rows, self.n)
            x, z = self.block(start, stop)
            out += self.losses(start, z, value, grad)
            if grad:
                self.spread(start, stop, x, z)
            del x, z  # before the next of their size is made
        if "X" in self.grads and self.ignored is not None and not host(self.X):
            self.grads["X"].masked_fill_(self.ignored, 0)
        return out


def linear_cross_entropy(
    xp: Any, X: Tensor, W: Tensor, bias: Tensor | None, job: LossArgs, block_size: int | None = None
) -> Tensor:
    """The loss, reduced."""
    if job.beyond(TAKEN):
        return linear_kernels.linear_cross_entropy(xp, X, W, bias, job, block_size)
    lent = shared.linear("linear_cross_entropy", X, W, bias, job, block_size)
    if lent is not None:
        return lent
    model = Linear(xp, X, W, bias, job, block_size=block_size)
    pieces = model.run(True, False)
    dtype = model.value_dtype
    if job.reduction == "none":
        return torch.cat(pieces).to(dtype) if pieces else X.new_zeros(0, dtype=dtype)
    return model.loss.total([piece.sum() for piece in pieces], dtype)


def value_and_grad(
    xp: Any,
    X: Tensor,
    W: Tensor,
    bias: Tensor | None,
    job: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
    final: bool = True,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss and its gradients; those of float16 in float32, whose range they need, unless they are ``final``."""
    if job.beyond(TAKEN):
        if not final and W.dtype is torch.float16:
            W, bias = W.float(), None if bias is None else bias.float()
        return linear_kernels.linear_cross_entropy_value_and_grad(xp, X, W, bias, job, wrt, classes, block_size)
    arguments = (X, W, bias, job, wrt, classes, block_size)
    lent = shared.linear("linear_cross_entropy_value_and_grad", *arguments)
    if lent is not None:
        return lent
    model = Linear(xp, X, W, bias, job, wrt, classes, block_size)
    pieces = model.run(True, True)
    value = model.loss.total([piece.sum() for piece in pieces], model.value_dtype)
    if model.loss.late is not None:
        for grad in model.grads.values():
            grad.mul_(model.loss.late)
    nothing = no_weight(model.loss.scale)
    if nothing is not None:
        # 0 times what is NaN in a parameter
        for grad in model.grads.values():
            grad.masked_fill_(nothing, 0)
    dtypes = (X.dtype if name == "X" else W.dtype for name in wrt)
    return value, tuple(
        model.grads[name] if not final and dtype is torch.float16 else model.grads[name].to(dtype)
        for name, dtype in zip(wrt, dtypes, strict=True)
    )
