"""The linear model on Dask arrays: one task a chunk of rows, partial sums merged by a tree.

The parameters are one chunk each, so a scheduler sends them to a worker once.
"""

from __future__ import annotations

import math
from typing import Any

import dask.array as da
from dask.delayed import Delayed, delayed

from .. import _kernels_linear
from .._kernels_loss import divided
from .._namespace import library
from .._typing import Array, Job, Namespace
from ._dask_chunks import meta_of, on_chunk, quietly, quotient, whole_rows

#: Partial results merged by one task.
FAN = 8


@quietly
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


@quietly
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

    def parts(
        self, function: str, *options: Any, vectors: list[Any] | None = None, extra: list[Any] | None = None
    ) -> list[Delayed]:
        """A kernel on each chunk."""
        task = delayed(_part, pure=True)
        given = extra or [None] * len(self.chunks)
        reduction = "none" if self.job.reduction == "none" else "sum"
        job = self.bare._replace(reduction=reduction)
        return [
            task(*chunk, *self.parameters, more, job=job, function=function, options=options, vectors=vectors)
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


@quietly
def _part(
    x: Array,
    labels: Array,
    sample_weight: Array,
    where: Array,
    W: Array,
    bias: Array,
    class_weight: Array,
    extra: Array,
    *,
    job: Job,
    function: str,
    options: tuple[Any, ...],
    vectors: list[Any] | None = None,
) -> tuple[Any, ...]:
    """(total weight, what a kernel gives) of one chunk; ``vectors`` go before the last option, ``extra`` for X's."""
    piece = job._replace(labels=labels, sample_weight=sample_weight, where=where, class_weight=class_weight)
    if vectors is not None:
        given = tuple(extra if v is None else v for v in vectors)
        options = (*options[:-1], given, options[-1])
    result = on_chunk(function, x, W, bias, piece, *options)
    xp = library(x, "a chunk").xp
    weight = _kernels_linear.Wide(xp, x, W, None, piece._replace(reduction="mean"), None).divisor()
    if function == "linear_cross_entropy_value_and_grad":
        result = (result[0], *result[1])
    return (weight, *result) if isinstance(result, tuple) else (weight, result)


def linear_cross_entropy(
    xp: Namespace, X: Array, W: Array, bias: Array, job: Job, block_size: int | None = None
) -> Array:
    """The loss, reduced."""
    plan = Plan(X, W, bias, job)
    if job.reduction == "none":
        return plan.stacked(plan.parts("linear_cross_entropy", block_size), 1, (X.shape[0],))
    return plan.results(plan.parts("linear_cross_entropy", block_size), [()])[0]


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
                rows = quotient(rows, by, plan.dtype)
            out.append(rows)
        else:
            meta = meta_of(plan.X, len(shapes[name]), plan.dtype)
            out.append(da.from_delayed(done[i], shapes[name], dtype=plan.dtype, meta=meta))
    return out


def _weight_of(total: tuple[Any, ...]) -> Any:
    return total[0]


@quietly
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
    parts = plan.parts("linear_cross_entropy_value_and_grad", wrt, classes, block_size)
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
    parts = plan.parts("linear_cross_entropy_hvp", wrt, block_size, vectors=small, extra=extra)
    return tuple(_collect(plan, parts, wrt, shapes, 0))


def linear_cross_entropy_hessian(
    xp: Namespace, X: Array, W: Array, bias: Array, job: Job, intercept: bool, block_size: int | None = None
) -> Array:
    """The Hessian as (k, m, k, m)."""
    plan = Plan(X, W, bias, job)
    k, m = W.shape[0], W.shape[1] + intercept
    parts = plan.parts("linear_cross_entropy_hessian", intercept, block_size)
    return plan.results(parts, [(k, m, k, m)])[0]
