"""Rows of divergences on a CPU, a block that stays in cache at a time, for libraries whose arrays can be written to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .._array.typing import AnyArray
from .._kernels import divergence as generic
from .._kernels.divergence import DivergenceArgs

#: Elements of a block: of float64 fewer bytes than those from which malloc asks the system for pages, each time.
BLOCK = 15 << 10


def turned(args: DivergenceArgs, turn: Callable[[AnyArray], AnyArray], where: AnyArray) -> DivergenceArgs:
    """The arguments with the classes last, where ``turn`` puts them: in one order of memory sums have the same bits."""
    labels = None if args.labels is None else turn(args.labels)
    return args._replace(axis=args.target.ndim - 1, target=turn(args.target), labels=labels, where=where)


def _in_rows(xp: Any, a: AnyArray, axis: int) -> AnyArray:
    """``a`` as a matrix with the classes last."""
    return xp.reshape(xp.moveaxis(a, axis, -1), (-1, a.shape[axis]))


def rows(
    xp: Any,
    x: AnyArray,
    y: AnyArray,
    args: DivergenceArgs,
    wrt: tuple[str, ...],
    run: Callable[[Callable[[int, int], Any], int], Any],
) -> tuple[AnyArray, tuple[AnyArray, ...]]:
    """What the generic ``rows`` gives; ``run(task, n)`` calls ``task(start, stop)`` for pieces of the rows."""
    axis, shape = args.axis, tuple(x.shape)
    a, b = _in_rows(xp, x, axis), _in_rows(xp, y, axis)
    where = None if args.where is None else _in_rows(xp, xp.broadcast_to(args.where, x.shape), axis)
    n, k = a.shape
    value, grads = xp.empty_like(a[:, :1]), tuple(xp.empty_like(a) for _ in wrt)
    single, mixed = x.dtype == xp.float32, 0.0 < args.beta < 1.0
    plain = where is None and (single or (x.dtype == xp.float64 and not mixed))
    step = max(1, BLOCK // k)

    outs = (value, *grads)
    sure = [xp.empty_like(value, dtype=xp.bool) for _ in outs]

    def exact(index: Any) -> list[AnyArray]:
        some = args._replace(axis=1, where=None if where is None else where[index])
        each, found = generic.rows(xp, a[index], b[index], some, wrt)
        return [each, *found]

    def task(start: int, stop: int) -> None:
        again = []
        for i in range(start, stop, step):
            block = slice(i, min(i + step, stop))
            if not plain:
                for out, part in zip(outs, exact(block), strict=True):
                    out[block] = part
                continue
            found, good = generic.plain_rows(xp, a[block], b[block], args.temperature, args.beta, wrt, single)
            for out, part, enough, fine in zip(outs, found, sure, good, strict=True):
                out[block], enough[block] = part, fine
            if not all(fine.all() for fine in good):
                again.append(i + xp.nonzero(~functools.reduce(xp.logical_and, good)[:, 0])[0])
        if again:
            rows = xp.concat(again)
            for i in range(0, rows.shape[0], step):
                some = rows[i : i + step]
                # each result by itself, so that a value is the same with a gradient and without
                for out, part, enough in zip(outs, exact(some), sure, strict=True):
                    out[some] = xp.where(enough[some], out[some], part)

    run(task, n)
    kept = (*shape[:axis], *shape[axis + 1 :])
    back = tuple(xp.moveaxis(xp.reshape(g, (*kept, k)), -1, axis) for g in grads)
    return xp.reshape(value, (*shape[:axis], 1, *shape[axis + 1 :])), back
