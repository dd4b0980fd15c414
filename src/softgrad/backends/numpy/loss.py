"""Cross-entropy of NumPy logits, its gradient, and both from one exponential, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._array.typing import AnyArray
from ..._kernels import high as high_kernels
from ..._kernels import loss as loss_kernels
from ..._options import LossArgs
from . import small
from .blocks import AT_A_TIME, Block, Floats, Memory, View, narrow, over_blocks, unsure, view
from .dense_blocks import FEW, rows_into, rows_of, working
from .loss_blocks import Loss

#: The options that the blocks take; others, and ``where``, go through the generic kernel, block by block.
TAKEN = ("label_smoothing", "class_weight", "ignore_index", "z_loss", "precision", "sample_weight")
#: Labels that are looked at together.
CHUNK = 1 << 20


def weight_sum(args: LossArgs, labels: Floats, weight: Floats | None, k: int) -> float:
    """What the mean divides by: the weights of the samples that count."""
    if args.class_weight is None and weight is None and args.ignore_index is None:
        return float(labels.size)
    total = 0.0
    labels, flat = labels.reshape(-1), None if weight is None else weight.reshape(-1)
    for i in range(0, labels.size, CHUNK):
        y = labels[i : i + CHUNK]
        w = np.ones(y.shape) if flat is None else flat[i : i + CHUNK].astype(np.float64)
        if args.class_weight is not None:
            known = (y >= 0) & (y < k)
            w *= np.where(known, args.class_weight.astype(np.float64).take(np.where(known, y, 0).astype(np.intp)), 1.0)
        if args.ignore_index is not None:
            w[y == args.ignore_index] = 0.0
        if flat is not None:
            w[flat[i : i + CHUNK] == 0] = 0.0
        total += float(np.add.reduce(w))
    return total


def dense_weight_sum(args: LossArgs, labels: Floats, weight: Floats | None) -> float:
    """The same for labels (outer, class, inner) that are weights."""
    scale = np.ones(labels.shape[1]) if args.class_weight is None else args.class_weight.astype(np.float64)
    total = 0.0
    step = max(1, CHUNK // max(1, labels.shape[1] * labels.shape[2]))
    for i in range(0, labels.shape[0], step):
        w = np.einsum("okj,k->oj", labels[i : i + step].astype(np.float64, copy=False), scale)
        if weight is not None:
            part = weight[i : i + step]
            w = np.where(part == 0, 0.0, w * part)
        total += float(np.add.reduce(w, None))
    return total


def sum_of(losses: Floats) -> float:
    """The sum of all losses, in float64 and in an order that their number decides."""
    flat = losses.reshape(-1)
    if flat.dtype.char == "d" or flat.size <= AT_A_TIME:
        return float(np.add.reduce(flat, dtype=np.float64))
    wide = np.empty(AT_A_TIME)
    total = 0.0
    for start in range(0, flat.size, AT_A_TIME):
        some = wide[: min(AT_A_TIME, flat.size - start)]
        np.copyto(some, flat[start : start + AT_A_TIME])
        total += float(np.add.reduce(some))
    return total


class _Call:
    """One call of a kernel: the arrays as (outer, class, inner), and what comes out."""

    def __init__(self, xp: Any, x: Floats, args: LossArgs, want_value: bool, want_grad: bool) -> None:
        self.xp, self.args, self.want_value, self.want_grad = xp, args, want_value, want_grad
        self.x, self.dtype = x, x.dtype
        self.work = working(x.dtype, args.precision)
        self.view: View = view(x, args.axis)
        seen = self.view
        self.k = seen.x.shape[1]
        self.labels = seen.logits(args.labels) if args.dense else seen.samples(args.labels)
        samples = x.shape[: args.axis] + x.shape[args.axis + 1 :]
        weight = args.sample_weight
        self.weight = None if weight is None else seen.samples(np.broadcast_to(weight, samples))
        self.where = None if args.where is None else seen.logits(np.broadcast_to(args.where, x.shape))
        self.grad = self.grad3 = self.losses = self.losses2 = self.each = None
        if want_grad:
            self.grad, self.grad3 = seen.empty(x.shape, x.dtype)
        if want_value and args.reduction == "none":
            self.losses, self.losses2 = seen.empty_samples(samples, x.dtype)
        elif want_value:
            # of all samples: added in an order that no number of threads decides
            self.each = np.empty((seen.x.shape[0], seen.x.shape[2]), self.work)
        self.divisor = 1.0
        if args.reduction == "mean":
            if args.dense:
                self.divisor = dense_weight_sum(args, self.labels, self.weight)
            else:
                self.divisor = weight_sum(args, self.labels, self.weight, self.k)
        #: Whether results are rounded from float64, and some computed again.
        self.rounds_once = args.precision == "high" and self.work != self.dtype
        # where the log-sum-exp of z_loss is nearly 0, rounded results ask for more digits of it
        compensated = args.precision == "high" and (x.dtype.char == "d" or args.z_loss)
        self.fast = not args.beyond(TAKEN) and not compensated

    def run(self) -> tuple[Any, Any]:
        if self.divisor == 0.0:
            if self.grad3 is not None:
                self.grad3[...] = 0
            return np.zeros((), self.dtype), self.grad
        if self.x.size:
            over_blocks(self.view.x.shape, self.work, self.make)
        value: Any = self.losses
        if self.each is not None:
            value = np.asarray(sum_of(self.each) / self.divisor).astype(self.dtype)
        return value, self.grad

    def make(self, memory: Memory) -> Callable[[Block], None]:
        loss = Loss(self.args, self.k, memory, 1.0 / self.divisor, self.want_grad)

        def block(at: Block) -> None:
            o0, o1, i0, i1 = at
            losses = self.fast_block(loss, at) if self.fast else self.generic_rows(loss.memory, at, slice(None))
            out = self.losses2 if self.each is None else self.each
            if out is not None:
                out[o0:o1, i0:i1] = losses.reshape(o1 - o0, i1 - i0)

        return block

    def fast_block(self, loss: Loss, at: Block) -> Floats:
        o0, o1, i0, i1 = at
        memory, args = loss.memory, self.args
        weight = None if self.weight is None else self.weight[o0:o1, i0:i1].reshape(-1)
        src, dst = self.view.x[o0:o1, :, i0:i1], None if self.grad3 is None else self.grad3[o0:o1, :, i0:i1]
        o, k, i = src.shape
        target, unknown = None, None
        if not args.dense:
            labels = self.labels[o0:o1, i0:i1].reshape(-1)
            target = loss.target(labels, weight)
            if target is None:
                known = (labels >= 0) & (labels < k)
                unknown = ~known if args.ignore_index is None else ~known & (labels != args.ignore_index)
                # those that are ignored stay what they are
                target = loss.target(np.where(unknown, 0, labels), weight)
        results: list[tuple[Floats, int]] = []
        if target is not None and k <= FEW:
            wide = dst if dst is None or dst.dtype == self.work else memory(5, dst.shape)
            losses = loss.columns(src, wide, target)
            if wide is not dst and wide is not None and dst is not None:
                narrow(wide, dst)
            results += [] if wide is None else [(wide, 1)]
        else:
            x = rows_of(src, memory)
            e, own = (memory(0, x.shape), True) if dst is None else rows_into(dst, memory)
            if target is None:
                losses = loss.weighted_rows(x, e, self.rows(self.labels, at), weight)
            else:
                losses = loss.rows(x, e, target)
            if dst is not None and not own:
                narrow(e.reshape(o, i, k).transpose(0, 2, 1), dst)
            results += [] if dst is None else [(e, 1)]
        irregular = loss.irregular
        if unknown is not None:
            irregular = np.flatnonzero(unknown) if irregular is None else np.union1d(irregular, np.flatnonzero(unknown))
        if self.rounds_once:
            results += [] if self.losses2 is None else [(losses, 0)]
            for result, axis in results:
                again = unsure(result, high_kernels.ERROR, self.dtype, axis)
                irregular = again if irregular is None else np.union1d(irregular, again)
        if irregular is not None and len(irregular):
            losses[irregular] = self.generic_rows(memory, at, irregular)
        return losses

    def rows(self, a: Floats, at: Block, some: Any = slice(None)) -> Floats:
        """Some samples of a block of an array of the logits' kind, as contiguous rows."""
        o0, o1, i0, i1 = at
        block = a[o0:o1, :, i0:i1].transpose(0, 2, 1)
        return np.ascontiguousarray(block.reshape(-1, block.shape[2])[some])

    def generic_rows(self, memory: Memory, at: Block, some: Any) -> Floats:
        """Losses of some samples of a block by the generic kernel, and their gradient."""
        o0, o1, i0, i1 = at
        args, labels = self.args, self.labels
        piece = args._replace(
            axis=1,
            labels=self.rows(labels, at, some) if args.dense else labels[o0:o1, i0:i1].reshape(-1)[some],
            sample_weight=None if self.weight is None else self.weight[o0:o1, i0:i1].reshape(-1)[some],
            where=None if self.where is None else self.rows(self.where, at, some),
            reduction="none",
            precision=args.precision if self.work == self.dtype else None,
        )
        grad: AnyArray
        x = self.rows(self.view.x, at, some)
        if self.rounds_once:
            piece = piece._replace(reduction=args.reduction, precision=args.precision)
            divisor = np.asarray(self.divisor) if args.reduction == "mean" else None
            losses, grad = high_kernels.loss_rows(self.xp, x, piece, True, self.grad3 is not None, divisor)
            if self.grad3 is not None:
                self._put(grad, at, some)
            return np.asarray(losses)[:, 0]
        x = x.astype(self.work, copy=False)
        if self.grad3 is None:
            return np.asarray(loss_kernels.cross_entropy(self.xp, x, piece))
        losses, grad = loss_kernels.cross_entropy_value_and_grad(self.xp, x, piece)
        grad = np.multiply(grad, self.work.type(1.0 / self.divisor)).astype(self.dtype, copy=False)
        self._put(grad, at, some)
        return np.asarray(losses)

    def _put(self, grad: Floats, at: Block, some: Any) -> None:
        """Write the gradient of some samples of a block."""
        assert self.grad3 is not None
        o0, o1, i0, i1 = at
        o, i = np.divmod(np.arange((o1 - o0) * (i1 - i0))[some], i1 - i0)
        self.grad3[o0 + o, :, i0 + i] = grad


def _loss(xp: Any, x: Floats, args: LossArgs, value: bool, grad: bool) -> tuple[Any, Any]:
    if not args.dense and small.fits(x, args.axis) and not args.beyond(()):
        found = small.cross_entropy(x, args, value, grad)
        if found is not None:
            return found
    return _Call(xp, x, args, value, grad).run()


def cross_entropy(xp: Any, logits: Floats, args: LossArgs) -> Any:
    """Return the loss, reduced."""
    return _loss(xp, logits, args, True, False)[0]


def cross_entropy_grad(xp: Any, logits: Floats, args: LossArgs) -> Floats:
    """Return the gradient with respect to the logits."""
    grad: Floats = _loss(xp, logits, args, False, True)[1]
    return grad


def cross_entropy_value_and_grad(xp: Any, logits: Floats, args: LossArgs) -> tuple[Any, Floats]:
    """Return the loss and its gradient."""
    return _loss(xp, logits, args, True, True)


def _class_last(x: Floats, args: LossArgs, *arrays: Floats) -> tuple[Any, ...]:
    """Logits, what belongs to them and other arrays like them, with the classes last, in their order in memory."""

    def turned(a: Floats) -> Floats:
        return np.ascontiguousarray(np.moveaxis(a, args.axis, -1))

    where = None if args.where is None else turned(np.broadcast_to(args.where, x.shape))
    labels = turned(args.labels) if args.dense else args.labels
    return turned(x), args._replace(axis=x.ndim - 1, labels=labels, where=where), *map(turned, arrays)


def cross_entropy_hvp(xp: Any, logits: Floats, args: LossArgs, vector: Floats) -> Floats:
    """Return the second derivative times ``vector``, by the generic kernel."""
    product: AnyArray = loss_kernels.cross_entropy_hvp(xp, *_class_last(logits, args, vector))
    return np.moveaxis(product, -1, args.axis)


def cross_entropy_hessian_diag(xp: Any, logits: Floats, args: LossArgs) -> Floats:
    """Return the diagonal of the second derivative, by the generic kernel."""
    diagonal: AnyArray = loss_kernels.cross_entropy_hessian_diag(xp, *_class_last(logits, args))
    return np.moveaxis(diagonal, -1, args.axis)
