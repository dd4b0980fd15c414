"""The linear softmax model on NumPy arrays: logits a block at a time, worked on while they are in cache.

Many classes: a block of logits of some 32 MiB comes from one large matrix product, threads turn pieces of it into the
gradient in place, and a second product adds it to the weights' gradient. Few classes: each thread takes its own span
of samples in blocks of which X stays in cache for both products, the logits class first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..._array.typing import Job
from ..._kernels import linear as linear_kernels
from ..._kernels import loss as loss_kernels
from .. import _threads
from . import loss as numpy_loss
from . import products as numpy_products
from .blocks import UNBUFFERED, Floats, Memory, column_sums
from .curvature import Curvature
from .dense_blocks import working
from .loss_blocks import Loss, Target

#: Classes from which logits are worked on as rows.
MANY = 24
#: Bytes of a block of logits, twice as many in double precision, and more only for the sake of the fewest samples.
BLOCK_BYTES, BLOCK_ROWS = 32 << 20, 128
#: Samples and bytes from which a block gains nothing more: the sum of products that it is added to is read that seldom.
ENOUGH_ROWS, ENOUGH_BYTES = 2048, 4 << 20
#: Bytes of the pieces of it that a thread works on at a time.
PIECE_BYTES = 1 << 20
#: Bytes of logits above which a block is cut along the classes too.
MOST_BYTES = 64 << 20
#: Bytes of X in a block with few classes, and samples that it has at most.
SPAN_BYTES, SPAN_ROWS = 1 << 20, 16384
#: Bytes of the gradients that pieces of a call with few classes add to.
PIECES_BYTES = 32 << 20


class Linear:
    """One call: the data, the parameters, and the sums that its blocks add to."""

    def __init__(
        self,
        xp: Any,
        X: Floats,
        W: Floats,
        bias: Floats | None,
        job: Job,
        block_size: int | None,
        wrt: tuple[str, ...] = (),
        classes: tuple[int, ...] | None = None,
    ) -> None:
        self.xp, self.job, self.wrt, self.dtype = xp, job, wrt, W.dtype
        self.work = working(W.dtype, job.precision)
        self.X, self.W = np.asarray(X), np.asarray(W).astype(self.work, copy=False)
        self.bias = None if bias is None else bias.astype(self.work, copy=False)
        self.n, self.m = X.shape
        self.k, self.block_size = len(W), block_size
        self.classes = None if classes is None else np.asarray(classes, np.intp)
        self.labels = np.asarray(job.labels)
        weight = job.sample_weight
        self.weight: Floats | None = None if weight is None else np.broadcast_to(weight, (self.n,))
        self.divisor = 1.0
        if job.reduction == "mean":
            if job.dense:
                self.divisor = numpy_loss.dense_mass(
                    job, self.labels[:, :, None], None if self.weight is None else self.weight[:, None]
                )
            else:
                self.divisor = numpy_loss.mass(job, self.labels, self.weight, self.k)
        self.scale = 1.0 / self.divisor if self.divisor else 0.0
        self.losses = np.empty(self.n, self.dtype) if job.reduction == "none" else None
        self.columns = self.k if classes is None else len(classes)
        self.grad_X = np.empty((self.n, self.m), self.dtype) if "X" in wrt else None
        self.many = job.dense or self.k >= MANY

    def rows(self, spare: int = 1) -> int:
        """Samples of a block of logits, of which there are ``spare`` at a time; all blocks about alike."""
        if self.block_size is not None:
            return self.block_size
        row = self.k * self.work.itemsize
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

    def span_parts(self, size: int) -> int:
        """Threads for blocks of ``size`` samples: each piece of the call has a gradient of its own to add to."""
        held = _threads.PIECES * self.k * self.m * self.work.itemsize
        return max(1, min(_threads.count(), self.n // (4 * size), PIECES_BYTES // max(1, held)))

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
        if self.job.ignore_index is not None and not self.job.dense:
            count &= self.labels[start:stop] != self.job.ignore_index
        if self.weight is not None:
            count &= self.weight[start:stop] != 0
        return count

    def cleared(self, x: Floats, start: int, stop: int) -> Floats:
        """``x`` with nothing in the samples that do not count, which may hold anything."""
        count = self.counts(start, stop)
        return x if count.all() else np.where(count[:, None], x, self.work.type(0))

    def generic(self, x: Floats, start: int, stop: int, vector: Floats | None = None) -> tuple[Floats, Floats]:
        """(losses, gradient times the scale, or second derivative times ``vector``) by the generic kernel."""
        z = x @ self.W.T
        if self.bias is not None:
            z += self.bias
        job = self.job._replace(
            labels=self.labels[start:stop],
            sample_weight=self.sample_weights(start, stop),
            reduction="none",
            precision=None,
        )
        scale = self.work.type(self.scale)
        if vector is not None:
            return z, loss_kernels.cross_entropy_hvp(self.xp, z, job, vector) * scale
        losses, grad = loss_kernels.cross_entropy_value_and_grad(self.xp, z, job)
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


def _declined(W: Floats, job: Job) -> bool:
    """Whether a job is for the generic kernel, whose blocks of logits then come here."""
    return job.where is not None or (job.precision == "high" and W.dtype.char == "d")


def _generic_rows(X: Floats, W: Floats, block_size: int | None) -> int:
    """Rows of a block of the generic kernel, which may copy those of X."""
    rows = linear_kernels.block_rows(len(X), len(W), W.itemsize, block_size)
    return block_size or min(rows, max(BLOCK_ROWS, BLOCK_BYTES // (W.itemsize * max(1, X.shape[1]))))


def _too_many(model: Linear) -> bool:
    rows = model.block_size or BLOCK_ROWS
    return min(rows, model.n) * model.k * model.work.itemsize > MOST_BYTES and not model.job.dense


def linear_cross_entropy(
    xp: Any, X: Floats, W: Floats, bias: Floats | None, job: Job, block_size: int | None = None
) -> Any:
    """Return the loss, reduced."""
    if _declined(W, job):
        rows = _generic_rows(X, W, block_size)
        return linear_kernels.linear_cross_entropy(xp, X, W, bias, job, rows, loss=numpy_loss.cross_entropy)
    model = Linear(xp, X, W, bias, job, block_size)
    return model.value(_sums(model)[0])


def linear_cross_entropy_value_and_grad(
    xp: Any,
    X: Floats,
    W: Floats,
    bias: Floats | None,
    job: Job,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[Any, tuple[Floats, ...]]:
    """Return the loss and its gradients with respect to ``wrt``."""
    if _declined(W, job):
        rows = _generic_rows(X, W, block_size)
        return linear_kernels.linear_cross_entropy_value_and_grad(
            xp, X, W, bias, job, wrt, classes, rows, loss=numpy_loss.cross_entropy_value_and_grad
        )
    model = Linear(xp, X, W, bias, job, block_size, wrt, classes)
    total, grad_W, grad_bias = _sums(model)
    if model.grad_X is not None and (model.weight is not None or job.ignore_index is not None):
        # 0 times what is NaN in a parameter
        model.grad_X[~model.counts(0, model.n)] = 0
    named = {"W": grad_W, "bias": grad_bias, "X": model.grad_X}
    return model.value(total), tuple(named[name].astype(W.dtype, copy=False) for name in wrt)


def _sums(model: Linear) -> tuple[float, Any, Any]:
    """(sum of losses, gradient with respect to W, to bias)."""
    if model.divisor == 0.0 or not model.n:
        # nothing counts: not even a NaN in what is ignored
        for a in (model.losses, model.grad_X):
            if a is not None:
                a[...] = 0
        return 0.0, np.zeros((model.columns, model.m), model.work), np.zeros(model.columns, model.work)
    if _too_many(model):
        from .tiles import tiles

        return tiles(model)
    return _many(model) if model.many else _few(model)


class _Pieces:
    """The threads that turn a block of logits into its gradient, with a loss (and its scratch memory) for each."""

    def __init__(self, model: Linear, make: Callable[[], Any]) -> None:
        self.model, self.make = model, make
        self.spare: list[Any] = []
        self.size = max(1, PIECE_BYTES // (model.k * model.work.itemsize))

    def run(self, rows: int, work_on: Callable[[Any, int, int], Any]) -> list[Any]:
        """``work_on(loss, start, stop)`` of all pieces of a block."""
        count = -(-rows // self.size)
        parts = min(_threads.count(), count)
        count = -(-count // parts) * parts
        size = -(-rows // count)

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
        return [one for some in _threads.run(task, count, parts) for one in some]


def _many(model: Linear) -> tuple[float, Any, Any]:
    job, work, k = model.job, model.work, model.k
    want_grad = bool(model.wrt)
    pieces = _Pieces(model, lambda: Loss(job, k, Memory(work), model.scale, want_grad))
    b = model.rows()
    Z = np.empty((min(b, model.n), k), work)
    grad_W = np.empty((model.columns if "W" in model.wrt else 0, model.m), work)
    grad_bias = np.zeros(k)
    total = 0.0
    for start in range(0, model.n, b):
        stop = min(start + b, model.n)
        x, z = model.block(start, stop), Z[: stop - start]
        numpy_products.product_beside(z, x, model.W.T, grad_W)
        first = start

        def piece(loss: Loss, i: int, j: int, x: Floats = x, z: Floats = z, first: int = first) -> tuple[Any, ...]:
            rows = z[i:j]
            if model.bias is not None:
                np.add(rows, model.bias, out=rows)
            losses = _losses(model, loss, rows, first + i, first + j)
            odd = losses is None
            if losses is None:
                kept = model.cleared(x[i:j], first + i, first + j)
                losses, rows[...] = model.generic(kept, first + i, first + j)
            sums = column_sums(rows, np.empty(k, work)) if "bias" in model.wrt else None
            return model.note(losses, first + i), sums, odd

        results = pieces.run(stop - start, piece)
        total += sum(result[0] for result in results)
        if any(result[2] for result in results):
            x = model.cleared(x, start, stop)
        if "bias" in model.wrt:
            for result in results:
                grad_bias += result[1]
        if "W" in model.wrt:
            some = z if model.classes is None else z.take(model.classes, axis=1)
            numpy_products.add_product(grad_W, some.T, x, start == 0)
        if model.grad_X is not None:
            numpy_products.write_product(model.grad_X[start:stop], z, model.W)
    return total, grad_W, grad_bias if model.classes is None else grad_bias.take(model.classes)


def _losses(model: Linear, loss: Loss, z: Floats, start: int, stop: int) -> Floats | None:
    """Losses of some rows of logits, which become their gradient."""
    if model.job.dense:
        return loss.weighted_rows(z, z, model.labels[start:stop], model.sample_weights(start, stop))
    target = model.target(loss, start, stop)
    return None if target is None else loss.rows(z, z, target)


def _few(model: Linear) -> tuple[float, Any, Any]:
    job, work, k, m = model.job, model.work, model.k, model.m
    want_grad = bool(model.wrt)
    size, group = model.span_rows()

    def task(first: int, last: int) -> tuple[float, Floats, Floats]:
        loss = Loss(job, k, Memory(work), model.scale, want_grad)
        products = numpy_products.Small(model.W, group, loss.memory)
        grad_W, grad_bias, total = np.zeros((k, m), work), np.zeros(k), 0.0
        with np.errstate(all="ignore"):
            for start in range(first, last, size):
                stop = min(start + size, last)
                x = model.block(start, stop)
                z = products.logits(x)
                if model.bias is not None:
                    z += model.bias[:, None]
                losses = None
                target = model.target(loss, start, stop)
                if target is not None:
                    losses = loss.small_columns(z, target)
                if losses is None:
                    x = model.cleared(x, start, stop)
                    losses, grad = model.generic(x, start, stop)
                    np.copyto(z, grad.T)
                total += model.note(losses, start)
                if "W" in model.wrt:
                    products.add_gradient(grad_W, z, x)
                if "bias" in model.wrt:
                    grad_bias += np.add.reduce(z, axis=1)
                if model.grad_X is not None:
                    products.write_rows(model.grad_X[start:stop], z)
        return total, grad_W, grad_bias

    results = _threads.run(task, model.n, model.span_parts(size))
    total = sum(result[0] for result in results)
    grad_W, grad_bias = results[0][1], results[0][2]
    for _, some_W, some_bias in results[1:]:
        grad_W += some_W
        grad_bias += some_bias
    if model.classes is not None:
        return total, grad_W.take(model.classes, axis=0), grad_bias.take(model.classes)
    return total, grad_W, grad_bias


def linear_cross_entropy_hvp(
    xp: Any,
    X: Floats,
    W: Floats,
    bias: Floats | None,
    job: Job,
    wrt: tuple[str, ...],
    vectors: tuple[Floats, ...],
    block_size: int | None = None,
) -> tuple[Floats, ...]:
    """Return the second derivative with respect to ``wrt``, times ``vectors``."""
    model = Linear(xp, X, W, bias, job, block_size)
    if _declined(W, job) or "X" in wrt or _too_many(model) or not model.n or model.divisor == 0.0:
        rows = _generic_rows(X, W, block_size)
        return linear_kernels.linear_cross_entropy_hvp(xp, X, W, bias, job, wrt, vectors, rows)
    model.wrt = wrt
    curvature = Curvature(
        model, dict(zip(wrt, (np.asarray(v).astype(model.work, copy=False) for v in vectors), strict=True))
    )
    h_W, h_bias = curvature.many(_Pieces) if model.many else curvature.few()
    named = {"W": h_W, "bias": h_bias}
    return tuple(named[name].astype(W.dtype, copy=False) for name in wrt)
