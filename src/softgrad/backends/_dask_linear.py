"""The linear model on Dask arrays: one task a chunk of rows, partial sums merged by a tree.

The parameters are one chunk each, so a scheduler sends them to a worker once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import dask.array as da
from dask.delayed import Delayed, delayed

from .. import _kernels_linear
from .._kernels_loss import divided
from .._namespace import library
from .._typing import Array, Job, Namespace
from ._dask_chunks import meta_of, on_chunk, whole_rows

#: Partial results merged by one task.
FAN = 8


def _merge(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Partial sums added up; None stands for what has none."""
    total = parts[0]
    for part in parts[1:]:
        total = tuple(None if a is None else a + b for a, b in zip(total, part, strict=True))
    return total


def _tree(parts: list[Delayed]) -> Delayed:
    merge = delayed(_merge, pure=True)
    while len(parts) > 1:
        parts = [merge(parts[i : i + FAN]) for i in range(0, len(parts), FAN)]
    return parts[0]


def _finish(total: tuple[Any, ...], mean: bool, dtype: Any) -> tuple[Any, ...]:
    """(weight, sums...) as the sums themselves, divided where the mean is wanted."""
    weight, *sums = total
    xp = library(weight, "a sum").xp
    return tuple(xp.astype(divided(xp, xp.asarray(a), weight) if mean else xp.asarray(a), dtype) for a in sums)


def _rows(a: Array, like: Array, name: str) -> list[Any]:
    """The row chunks of ``a``, cut as those of ``like``."""
    if a is None:
        return [None] * like.numblocks[0]
    if a.ndim == 2:
        a = whole_rows(a, 1)
    if a.shape[0] == 1 and like.shape[0] != 1:
        return list(a.to_delayed().ravel()) * like.numblocks[0]
    unknown = any(math.isnan(size) for size in (*a.chunks[0], *like.chunks[0]))
    if unknown and a.numblocks[0] != like.numblocks[0]:
        raise ValueError(
            f"{name} has {a.numblocks[0]} chunks of rows and X has {like.numblocks[0]}, of unknown sizes: "
            "call compute_chunk_sizes() on them first"
        )
    if not unknown and a.chunks[0] != like.chunks[0]:
        a = a.rechunk({0: like.chunks[0]})
    return list(a.to_delayed().ravel())


def _one(a: Array) -> Any:
    """The single chunk of a parameter."""
    return None if a is None else a.rechunk(-1).to_delayed().ravel()[0]


class Plan:
    """The chunks of X with what belongs to each, and the parameters."""

    def __init__(self, X: Array, W: Array, bias: Array, job: Job) -> None:
        self.X = whole_rows(X, 1)
        self.job, self.dtype = job, X.dtype
        self.parameters = (_one(W), _one(bias), _one(job.class_weight))
        self.bare = job._replace(labels=None, sample_weight=None, where=None, class_weight=None)
        columns = (
            self.X.to_delayed().ravel(),
            _rows(job.labels, self.X, "labels"),
            _rows(job.sample_weight, self.X, "sample_weight"),
            _rows(job.where, self.X, "where"),
        )
        self.chunks = list(zip(*columns, strict=True))

    def parts(self, call: Callable[..., Any], extra: list[Any] | None = None, **options: Any) -> list[Delayed]:
        """``call`` on each chunk."""
        task = delayed(call, pure=True)
        given = extra or [None] * len(self.chunks)
        return [
            task(*chunk, *self.parameters, more, job=self.bare, **options)
            for chunk, more in zip(self.chunks, given, strict=True)
        ]

    def results(self, parts: list[Delayed], shapes: list[tuple[int, ...]]) -> list[Array]:
        """The merged sums as lazy arrays of ``shapes``."""
        done = delayed(_finish, pure=True)(_tree(parts), self.job.reduction == "mean", self.dtype)
        return [
            da.from_delayed(done[i], shape, dtype=self.dtype, meta=meta_of(self.X, len(shape), self.dtype))
            for i, shape in enumerate(shapes)
        ]

    def stacked(self, parts: list[Any], index: int, shape: tuple[int, ...]) -> Array:
        """Rows of each chunk, one under the other."""
        meta = meta_of(self.X, len(shape), self.dtype)
        rows = [
            da.from_delayed(part[index], (size, *shape[1:]), dtype=self.dtype, meta=meta)
            for part, size in zip(parts, self.X.chunks[0], strict=True)
        ]
        return da.concatenate(rows, axis=0, allow_unknown_chunksizes=True)


def _job(job: Job, labels: Array, sample_weight: Array, where: Array, class_weight: Array, reduction: str) -> Job:
    return job._replace(
        labels=labels, sample_weight=sample_weight, where=where, class_weight=class_weight, reduction=reduction
    )


def _weight(x: Array, W: Array, job: Job) -> Array:
    return _kernels_linear.Wide(library(x, "a chunk").xp, x, W, None, job._replace(reduction="mean"), None).divisor()


def _loss_part(
    x: Array,
    labels: Array,
    sample_weight: Array,
    where: Array,
    W: Array,
    bias: Array,
    class_weight: Array,
    extra: None,
    *,
    job: Job,
    block_size: int | None,
) -> tuple[Any, ...]:
    piece = _job(job, labels, sample_weight, where, class_weight, "sum")
    return _weight(x, W, piece), on_chunk("linear_cross_entropy", x, W, bias, piece, block_size)


def _each_part(
    x: Array,
    labels: Array,
    sample_weight: Array,
    where: Array,
    W: Array,
    bias: Array,
    class_weight: Array,
    extra: None,
    *,
    job: Job,
    block_size: int | None,
) -> tuple[Any, ...]:
    piece = _job(job, labels, sample_weight, where, class_weight, "none")
    return (on_chunk("linear_cross_entropy", x, W, bias, piece, block_size),)


def _grad_part(
    x: Array,
    labels: Array,
    sample_weight: Array,
    where: Array,
    W: Array,
    bias: Array,
    class_weight: Array,
    extra: None,
    *,
    job: Job,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None,
    block_size: int | None,
) -> tuple[Any, ...]:
    piece = _job(job, labels, sample_weight, where, class_weight, "sum")
    value, grads = on_chunk("linear_cross_entropy_value_and_grad", x, W, bias, piece, wrt, classes, block_size)
    return _weight(x, W, piece), value, *grads


def _curvature_part(
    x: Array,
    labels: Array,
    sample_weight: Array,
    where: Array,
    W: Array,
    bias: Array,
    class_weight: Array,
    extra: Any,
    *,
    job: Job,
    wrt: tuple[str, ...],
    vectors: Any,
    block_size: int | None,
) -> tuple[Any, ...]:
    piece = _job(job, labels, sample_weight, where, class_weight, "sum")
    given = tuple(extra if name == "X" else v for name, v in zip(wrt, vectors, strict=True))
    return _weight(x, W, piece), *on_chunk("linear_cross_entropy_hvp", x, W, bias, piece, wrt, given, block_size)


def _hessian_part(
    x: Array,
    labels: Array,
    sample_weight: Array,
    where: Array,
    W: Array,
    bias: Array,
    class_weight: Array,
    extra: None,
    *,
    job: Job,
    intercept: bool,
    block_size: int | None,
) -> tuple[Any, ...]:
    piece = _job(job, labels, sample_weight, where, class_weight, "sum")
    return (
        _weight(x, W, piece),
        on_chunk("linear_cross_entropy_hessian", x, W, bias, piece, intercept, block_size),
    )


def linear_cross_entropy(
    xp: Namespace, X: Array, W: Array, bias: Array, job: Job, block_size: int | None = None
) -> Array:
    """The loss, reduced."""
    plan = Plan(X, W, bias, job)
    if job.reduction == "none":
        return plan.stacked(plan.parts(_each_part, block_size=block_size), 0, (X.shape[0],))
    return plan.results(plan.parts(_loss_part, block_size=block_size), [()])[0]


def _without_rows(part: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return (*part[:at], None, *part[at + 1 :])


def _collect(plan: Plan, parts: list[Delayed], wrt: tuple[str, ...], shapes: dict[str, Any], lead: int) -> list[Array]:
    """The lazy results of ``wrt`` after ``lead`` scalars; rows of X stay with their chunk."""
    names = ["value"] * lead + list(wrt)
    sums = parts
    if "X" in wrt:
        drop = delayed(_without_rows, pure=True)
        at = names.index("X") + 1
        sums = [drop(part, at) for part in parts]
    tree = _tree(sums)
    done = delayed(_finish_some, pure=True)(tree, plan.job.reduction == "mean", plan.dtype)
    out: list[Array] = []
    for i, name in enumerate(names):
        if name == "X":
            rows = plan.stacked(parts, i + 1, shapes["X"])
            if plan.job.reduction == "mean":
                weight = delayed(_weight_of, pure=True)(tree)
                by = da.from_delayed(weight, (), dtype=plan.dtype, meta=meta_of(plan.X, 0, plan.dtype))
                rows = (rows / da.where(by == 0, 1, by)).astype(plan.dtype)
            out.append(rows)
        else:
            meta = meta_of(plan.X, len(shapes[name]), plan.dtype)
            out.append(da.from_delayed(done[i], shapes[name], dtype=plan.dtype, meta=meta))
    return out


def _weight_of(total: tuple[Any, ...]) -> Any:
    return total[0]


def _finish_some(total: tuple[Any, ...], mean: bool, dtype: Any) -> tuple[Any, ...]:
    present = [i for i, a in enumerate(total) if a is not None]
    done = iter(_finish(tuple(total[i] for i in present), mean, dtype))
    return tuple(None if a is None else next(done) for a in total[1:])


def linear_cross_entropy_value_and_grad(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array,
    job: Job,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[Array, tuple[Array, ...]]:
    """The loss and its gradients, each chunk read once."""
    plan = Plan(X, W, bias, job)
    count = W.shape[0] if classes is None else len(classes)
    shapes = {"value": (), "W": (count, W.shape[1]), "bias": (count,), "X": X.shape}
    parts = plan.parts(_grad_part, wrt=wrt, classes=classes, block_size=block_size)
    value, *grads = _collect(plan, parts, wrt, shapes, 1)
    return value, tuple(grads)


def linear_cross_entropy_hvp(
    xp: Namespace,
    X: Array,
    W: Array,
    bias: Array,
    job: Job,
    wrt: tuple[str, ...],
    vectors: tuple[Array, ...],
    block_size: int | None = None,
) -> tuple[Array, ...]:
    """Second derivative with respect to ``wrt``, times ``vectors``."""
    plan = Plan(X, W, bias, job)
    given = dict(zip(wrt, vectors, strict=True))
    extra = _rows(given["X"], plan.X, "vector for X") if "X" in given else None
    small = [None if name == "X" else _one(v) for name, v in given.items()]
    shapes = {"W": W.shape, "bias": (W.shape[0],), "X": X.shape}
    parts = plan.parts(_curvature_part, extra, wrt=wrt, vectors=small, block_size=block_size)
    return tuple(_collect(plan, parts, wrt, shapes, 0))


def linear_cross_entropy_hessian(
    xp: Namespace, X: Array, W: Array, bias: Array, job: Job, intercept: bool, block_size: int | None = None
) -> Array:
    """The Hessian as (k, m, k, m)."""
    plan = Plan(X, W, bias, job)
    k, m = W.shape[0], W.shape[1] + intercept
    parts = plan.parts(_hessian_part, intercept=intercept, block_size=block_size)
    return plan.results(parts, [(k, m, k, m)])[0]
