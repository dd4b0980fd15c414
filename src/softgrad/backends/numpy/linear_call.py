"""One call of the linear model on NumPy arrays: its data, the sizes of its blocks, and the threads for their pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._array.typing import AnyArray
from ..._kernels import loss as loss_kernels
from ..._kernels.linear import BLOCK_BYTES, BLOCK_ROWS
from ..._options import LossArgs
from .. import _threads
from . import loss as numpy_loss
from . import products as numpy_products
from .blocks import UNBUFFERED, Floats
from .dense_blocks import working
from .loss_blocks import Loss, Target

#: Classes from which logits are worked on as rows.
MANY = 24
#: Samples and bytes from which a larger block gains nothing: the accumulated product is then read seldom enough.
ENOUGH_ROWS, ENOUGH_BYTES = 2048, 4 << 20
#: Bytes of the pieces of it that a thread works on at a time.
PIECE_BYTES = 1 << 20
#: Bytes of X in a block with few classes, and samples that it has at most.
SPAN_BYTES, SPAN_ROWS = 1 << 20, 16384
#: Bytes of the gradients that pieces of a call with few classes add to, and how many pieces there are at most.
PIECES_BYTES, MOST_PIECES = 32 << 20, 64
#: Pieces of a block of logits are as many times this, for the sake of so many threads.
EVEN = 4


def run_blocks(task: Callable[[int, int], Any], n: int, size: int, parts: int, pieces: int, held: int) -> list[Any]:
    """``task(start, stop)`` for pieces of ``n`` samples, in whole blocks of ``size``; each piece holds ``held`` bytes.

    There are ``pieces`` at most whatever the number of threads, and a power of two, which most numbers of those divide.
    """
    pieces = max(1, min(pieces, MOST_PIECES, PIECES_BYTES // max(1, held)))

    def blocks(first: int, last: int) -> Any:
        return task(first * size, min(last * size, n))

    return _threads.run(blocks, -(-n // size), parts, 1 << (pieces.bit_length() - 1))


class Linear:
    """One call: the data, the parameters, and the sums that its blocks add to."""

    def __init__(
        self,
        xp: Any,
        X: Floats,
        W: Floats,
        bias: Floats | None,
        args: LossArgs,
        block_size: int | None,
        wrt: tuple[str, ...] = (),
        classes: tuple[int, ...] | None = None,
    ) -> None:
        self.xp, self.args, self.wrt, self.dtype = xp, args, wrt, W.dtype
        self.work = working(W.dtype, args.precision)
        self.X, self.W = np.asarray(X), np.asarray(W).astype(self.work, copy=False)
        self.bias = None if bias is None else bias.astype(self.work, copy=False)
        self.n, self.m = X.shape
        self.k, self.block_size = len(W), block_size
        self.classes = None if classes is None else np.asarray(classes, np.intp)
        self.labels = np.asarray(args.labels)
        weight = args.sample_weight
        self.weight: Floats | None = None if weight is None else np.broadcast_to(weight, (self.n,))
        self.divisor = 1.0
        if args.reduction == "mean":
            if args.dense:
                self.divisor = numpy_loss.dense_weight_sum(
                    args, self.labels[:, :, None], None if self.weight is None else self.weight[:, None]
                )
            else:
                self.divisor = numpy_loss.weight_sum(args, self.labels, self.weight, self.k)
        self.scale = 1.0 / self.divisor if self.divisor else 0.0
        self.losses = np.empty(self.n, self.dtype) if args.reduction == "none" else None
        self.columns = self.k if classes is None else len(classes)
        self.grad_X = np.empty((self.n, self.m), self.dtype) if "X" in wrt else None
        self.many = args.dense or self.k >= MANY

    def rows(self, spare: int = 1) -> int:
        """Samples of a block of logits, with ``spare`` blocks held at a time; all blocks of about the same size."""
        if self.block_size is not None:
            return self.block_size
        row = self.k * self.work.itemsize
        # as many numbers in double precision
        block = BLOCK_BYTES * self.work.itemsize // 4
        most = max(BLOCK_ROWS, min(block, max(ENOUGH_BYTES, ENOUGH_ROWS * row)) // spare // row)
        return max(1, -(-self.n // max(1, -(-self.n // most))))

    def span_rows(self) -> tuple[int, int]:
        """(samples of a block with few classes, samples of one small matrix product in it)."""
        group = numpy_products.small_rows(self.m, self.k)
        if self.block_size is not None:
            return self.block_size, self.block_size
        size = max(group, min(SPAN_ROWS, SPAN_BYTES // (self.work.itemsize * max(self.m, self.k))))
        return max(1, size // group) * group, group

    def run_spans(self, task: Callable[[int, int], Any], size: int) -> list[Any]:
        """``task(start, stop)`` of pieces of blocks of ``size`` samples, each with a gradient of its own to add to."""
        held = self.k * self.m * self.work.itemsize
        return run_blocks(task, self.n, size, _threads.count(), self.n // (2 * size), held)

    def block(self, start: int, stop: int) -> Floats:
        """Rows of X in the dtype to compute in."""
        return self.X[start:stop].astype(self.work, copy=False)

    def target(self, loss: Loss, start: int, stop: int) -> Target | None:
        """Labels of some samples, None if one is no class."""
        return loss.target(self.labels[start:stop], self.sample_weights(start, stop))

    def sample_weights(self, start: int, stop: int) -> Floats | None:
        """Sample weights of some samples, None for 1."""
        return None if self.weight is None else self.weight[start:stop]

    def counts(self, start: int, stop: int) -> Floats:
        """Which of some samples count."""
        count = np.ones(stop - start, bool)
        if self.args.ignore_index is not None and not self.args.dense:
            count &= self.labels[start:stop] != self.args.ignore_index
        if self.weight is not None:
            count &= self.weight[start:stop] != 0
        return count

    def cleared(self, x: Floats, start: int, stop: int) -> Floats:
        """``x`` with nothing in the samples that do not count, which may hold anything."""
        count = self.counts(start, stop)
        return x if count.all() else np.where(count[:, None], x, self.work.type(0))

    def generic(self, x: Floats, start: int, stop: int, vector: Floats | None = None) -> tuple[AnyArray, AnyArray]:
        """(losses, gradient times the scale, or second derivative times ``vector``) by the generic kernel."""
        z = x @ self.W.T
        if self.bias is not None:
            z += self.bias
        args = self.args._replace(
            labels=self.labels[start:stop],
            sample_weight=self.sample_weights(start, stop),
            reduction="none",
            precision=None,
        )
        scale = self.work.type(self.scale)
        if vector is not None:
            return z, loss_kernels.cross_entropy_hvp(self.xp, z, args, vector) * scale
        losses, grad = loss_kernels.cross_entropy_value_and_grad(self.xp, z, args)
        return losses, grad * scale

    def note(self, losses: Floats, start: int) -> float:
        """Keep or add the losses of a block."""
        if self.losses is not None:
            self.losses[start : start + len(losses)] = losses
        return float(np.add.reduce(losses, dtype=np.float64))

    def value(self, total: float) -> Any:
        """The loss, reduced."""
        if self.losses is not None:
            return self.losses
        return np.asarray(total * self.scale).astype(self.dtype)


class Pieces:
    """The threads that turn a block of logits into its gradient, with a loss (and its scratch memory) for each."""

    def __init__(self, model: Linear, make: Callable[[], Any]) -> None:
        self.model, self.make = model, make
        self.spare: list[Any] = []
        self.size = max(1, PIECE_BYTES // (model.k * model.work.itemsize))

    def run(self, rows: int, work_on: Callable[[Any, int, int], Any]) -> list[Any]:
        """``work_on(loss, start, stop)`` of all pieces of a block."""
        count = -(-rows // self.size)
        # whatever the number of threads: sums over pieces are added in their order
        size = -(-rows // (count if count == 1 else -(-count // EVEN) * EVEN))

        def task(start: int, stop: int) -> list[Any]:
            try:
                loss = self.spare.pop()
                loss.memory.free = True
            except IndexError:
                loss = self.make()
            with np.errstate(all="ignore"):
                if self.model.k >= UNBUFFERED:
                    np.setbufsize(UNBUFFERED)
                out = [work_on(loss, i * size, min((i + 1) * size, rows)) for i in range(start, stop)]
            self.spare.append(loss)
            return out

        count = -(-rows // size)
        return [one for some in _threads.run(task, count, min(_threads.count(), count)) for one in some]
