"""The linear model on Dask arrays: one task a chunk of rows, partial sums merged by a tree.

The parameters are one chunk each, so a scheduler sends them to a worker once. The graph is written out by hand: a
solver builds it anew at every step, and of a ``delayed`` call for each chunk it would wait longer than for the sums.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from ..._array.namespace import library, without_fp_warnings
from ..._array.typing import AnyArray, Namespace
from ..._kernels import linear as linear_kernels
from ..._kernels.dense import held_dtype
from ..._kernels.loss import divided
from ..._options import ARRAYS, BY_CLASS, LossArgs
from .chunks import meta_of, on_chunk, quotient, whole_rows

#: Partial results merged by one task.
FAN = 8
#: The name of a task, by which others take its result.
Key: TypeAlias = Any


@without_fp_warnings
def _merge(parts: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Add partial sums; None is skipped."""
    total = parts[0]
    for part in parts[1:]:
        total = tuple(None if a is None else a + b for a, b in zip(total, part, strict=True))
    return total


@without_fp_warnings
def _finish(total: tuple[Any, ...], *, mean: bool, dtype: Any) -> tuple[Any, ...]:
    """(weight, sums...) as the sums themselves, divided where the mean is wanted; None stays."""
    weight, *sums = total
    xp = library(weight, "a sum").xp

    def done(a: AnyArray) -> AnyArray:
        return xp.astype(divided(xp, xp.asarray(a), weight) if mean else xp.asarray(a), dtype)

    return tuple(None if a is None else done(a) for a in sums)


def _without(part: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    return (*part[:at], None, *part[at + 1 :])


@without_fp_warnings
def _part(
    x: AnyArray,
    labels: AnyArray,
    sample_weight: AnyArray,
    where: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    by_class: list[AnyArray],
    extra: AnyArray,
    vectors: list[Any],
    *,
    args: LossArgs,
    function: str | Callable[..., Any],
    options: tuple[Any, ...],
) -> tuple[Any, ...]:
    """(total weight, what a kernel gives) of one chunk; ``vectors`` go before the last option, ``extra`` for X's."""
    vectors_by_class = {name: a for (_, name), a in zip(BY_CLASS, by_class, strict=True)}
    piece = args._replace(labels=labels, sample_weight=sample_weight, where=where, **vectors_by_class)
    if vectors:
        given = tuple(extra if v is None else v for v in vectors)
        options = (*options[:-1], given, options[-1])
    if callable(function):
        result = function(x, W, bias, piece, *options)
    else:
        result = on_chunk(function, x, W, bias, piece, *options)
    xp = library(W, "a parameter").xp
    weight = linear_kernels.BlockedLinear(xp, x, W, None, piece._replace(reduction="mean"), None).divisor()
    if function == "linear_cross_entropy_value_and_grad":
        result = (result[0], *result[1])
    return (weight, *result) if isinstance(result, tuple) else (weight, result)


class Graph:
    """The tasks of one call: a part for each chunk of X, the tree of their sums, and the results.

    Parameters
    ----------
    X, W, bias, args
        As the kernels have them, of Dask arrays; partial sums are kept in W's dtype, in float32 where that is narrower.
    function : str or callable
        The kernel that each chunk goes through, or a function of (X, W, bias, args) and the options.
    options : tuple
        What it is given after the args.
    vectors : sequence of arrays, optional
        Directions by parameter, None for X's, which is ``extra``.
    extra : array, optional
        Rows beside those of X.
    """

    def __init__(
        self,
        X: AnyArray,
        W: AnyArray,
        bias: AnyArray,
        args: LossArgs,
        function: str | Callable[..., Any],
        options: tuple[Any, ...],
        vectors: Sequence[AnyArray] = (),
        extra: AnyArray = None,
    ) -> None:
        self.X, self.dtype, self.mean = whole_rows(X, 1), W.dtype, args.reduction == "mean"
        self.held = held_dtype(np, W.dtype)
        W, bias = (None if a is None else a.astype(self.held, copy=False) for a in (W, bias))
        self.arrays: list[AnyArray] = [self.X]
        columns = [_keys(self.X)]
        columns += [
            self._rows(a, name)
            for a, name in (
                (args.labels, "labels"),
                (args.sample_weight, "sample_weight"),
                (args.where, "where"),
            )
        ]
        small = [self._one(W), self._one(bias), [self._one(getattr(args, name)) for _, name in BY_CLASS]]
        last = self._rows(extra, "vector for X")
        given = [self._one(v) for v in vectors]
        bare = args._replace(**dict.fromkeys(ARRAYS), reduction="none" if args.reduction == "none" else "sum")
        call = functools.partial(_part, args=bare, function=function, options=options)
        self.token = tokenize(function, options, args.reduction, bare, columns[1:], last, small, given, self.X.name)
        label = function if isinstance(function, str) else function.__name__
        name = f"{label}_part-{self.token}"
        self.parts: list[Key] = [(name, i) for i in range(len(columns[0]))]
        self.tasks: dict[Key, Any] = {
            key: (call, *(column[i] for column in columns), *small, last[i], given) for i, key in enumerate(self.parts)
        }
        self.name = f"{label}-{self.token}"

    def _rows(self, a: AnyArray, name: str) -> list[Key]:
        """The row chunks of ``a``, cut as those of X."""
        X = self.X
        if a is None:
            return [None] * X.numblocks[0]
        if a.ndim == 2:
            a = whole_rows(a, 1)
        if not (a.shape[0] == 1 and X.shape[0] != 1):
            unknown = any(math.isnan(size) for size in (*a.chunks[0], *X.chunks[0]))
            if unknown and a.numblocks[0] != X.numblocks[0]:
                raise ValueError(
                    f"{name} has {a.numblocks[0]} chunks of rows and X has {X.numblocks[0]}, of unknown sizes: "
                    "call compute_chunk_sizes() on them first"
                )
            if not unknown and a.chunks[0] != X.chunks[0]:
                a = a.rechunk({0: X.chunks[0]})
        self.arrays.append(a)
        keys = _keys(a)
        return keys if len(keys) == X.numblocks[0] else keys * X.numblocks[0]

    def _one(self, a: AnyArray) -> Key:
        """The single chunk of a parameter."""
        if a is None:
            return None
        a = a.rechunk(-1)
        self.arrays.append(a)
        return _keys(a)[0]

    def sums(self, drop: int | None = None) -> Key:
        """The merged sums of all parts, without the entry ``drop``, which stays with its chunk."""
        keys = self.parts
        if drop is not None:
            keys = [(f"_without-{self.token}", i) for i in range(len(self.parts))]
            self.tasks |= {key: (_without, part, drop) for key, part in zip(keys, self.parts, strict=True)}
        level = 0
        while len(keys) > 1:
            groups = [keys[i : i + FAN] for i in range(0, len(keys), FAN)]
            keys = [(f"_merge-{self.token}", level, i) for i in range(len(groups))]
            self.tasks |= {key: (_merge, group) for key, group in zip(keys, groups, strict=True)}
            level += 1
        return keys[0]

    def finished(self, total: Key) -> Key:
        """The array of ``total``, in the dtype of the results."""
        key = f"_finish-{self.token}"
        self.tasks[key] = (functools.partial(_finish, mean=self.mean, dtype=self.dtype), total)
        return key

    def array(self, name: str, keys: list[Key], index: int, chunks: tuple[Any, ...], dtype: Any) -> AnyArray:
        """A lazy array of the entries ``index`` of ``keys``, one chunk under the other; made after all tasks."""
        name = f"{name}-{self.token}"
        rest = (0,) * (len(chunks) - 1)
        places = [(name, i, *rest) for i in range(len(keys))] if chunks else [(name,)]
        layer = {place: (operator.getitem, key, index) for place, key in zip(places, keys, strict=True)}
        shared = HighLevelGraph.from_collections(self.name, self.tasks, dependencies=self.arrays)
        graph = HighLevelGraph({**shared.layers, name: layer}, {**shared.dependencies, name: {self.name}})
        return da.Array(graph, name, chunks, meta=meta_of(self.X, len(chunks), dtype))

    def whole(self, name: str, key: Key, index: int, shape: tuple[int, ...], dtype: Any = None) -> AnyArray:
        """A lazy array of one chunk, in ``dtype`` or the dtype of the results."""
        return self.array(name, [key], index, tuple((size,) for size in shape), self.dtype if dtype is None else dtype)

    def stacked(self, name: str, index: int, width: tuple[int, ...]) -> AnyArray:
        """Rows of each chunk, one under the other."""
        return self.array(name, self.parts, index, (self.X.chunks[0], *((size,) for size in width)), self.held)


def _keys(a: AnyArray) -> list[Key]:
    """The keys of chunks of whole rows."""
    keys: list[Any] = a.__dask_keys__()
    return [key[0] if isinstance(key, list) else key for key in keys] if a.ndim else keys


def linear_cross_entropy(
    xp: Namespace, X: AnyArray, W: AnyArray, bias: AnyArray, args: LossArgs, block_size: int | None = None
) -> AnyArray:
    """The loss, reduced."""
    graph = Graph(X, W, bias, args, "linear_cross_entropy", (block_size,))
    if args.reduction == "none":
        return quotient(graph.stacked("losses", 1, ()), None, W.dtype)
    return graph.whole("loss", graph.finished(graph.sums()), 0, ())


def results(graph: Graph, names: list[str], shapes: dict[str, Any]) -> list[AnyArray]:
    """The lazy results by name; rows of X stay with their chunk."""
    at = names.index("X") + 1 if "X" in names else None
    total = graph.sums(at)
    done = graph.finished(total)
    out = []
    for i, name in enumerate(names):
        if name != "X":
            out.append(graph.whole(name, done, i, shapes[name]))
            continue
        rows = graph.stacked("X", i + 1, (graph.X.shape[1],))
        out.append(
            quotient(rows, graph.whole("weight", total, 0, (), graph.held) if graph.mean else None, graph.X.dtype)
        )
    return out


def linear_cross_entropy_value_and_grad(
    xp: Namespace,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wrt: tuple[str, ...],
    classes: tuple[int, ...] | None = None,
    block_size: int | None = None,
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """The loss and its gradients in one pass over the chunks."""
    graph = Graph(X, W, bias, args, "linear_cross_entropy_value_and_grad", (wrt, classes, block_size))
    count = W.shape[0] if classes is None else len(classes)
    value, *grads = results(
        graph, ["loss", *wrt], {"loss": (), "W": (count, W.shape[1]), "bias": (count,), "X": X.shape}
    )
    return value, tuple(grads)


def linear_cross_entropy_hvp(
    xp: Namespace,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    wrt: tuple[str, ...],
    vectors: tuple[AnyArray, ...],
    block_size: int | None = None,
) -> tuple[AnyArray, ...]:
    """Second derivative with respect to ``wrt``, times ``vectors``."""
    given = dict(zip(wrt, vectors, strict=True))
    small = [None if name == "X" else v for name, v in given.items()]
    graph = Graph(X, W, bias, args, "linear_cross_entropy_hvp", (wrt, block_size), small, given.get("X"))
    return tuple(results(graph, list(wrt), {"W": W.shape, "bias": (W.shape[0],), "X": X.shape}))


def linear_cross_entropy_hessian(
    xp: Namespace,
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    intercept: bool,
    block_size: int | None = None,
) -> AnyArray:
    """The Hessian as (k, m, k, m)."""
    graph = Graph(X, W, bias, args, "linear_cross_entropy_hessian", (intercept, block_size))
    k, m = W.shape[0], W.shape[1] + intercept
    return graph.whole("hessian", graph.finished(graph.sums()), 0, (k, m, k, m))


def sums_by_chunk(
    function: Callable[..., Any],
    X: AnyArray,
    W: AnyArray,
    bias: AnyArray,
    args: LossArgs,
    options: tuple[Any, ...],
    shapes: list[tuple[int, ...]],
) -> list[AnyArray]:
    """What ``function(X, W, bias, args, *options)`` gives for the rows of each chunk, added up and reduced."""
    graph = Graph(X, W, bias, args, function, options)
    done = graph.finished(graph.sums())
    return [graph.whole(f"sum-{i}", done, i, shape) for i, shape in enumerate(shapes)]
