"""The divergence of two softmaxes on NumPy arrays: blocks of rows, on several threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._array.namespace import without_fp_warnings
from ..._array.typing import AnyArray, Namespace
from ..._kernels import divergence as generic
from ..._kernels.divergence import DivergenceArgs
from .. import _divergence, _threads
from .blocks import Floats, in_rows, threads_for

#: Elements that are worth a thread.
THREAD_ELEMENTS = 1 << 16


def _rows(xp: Namespace, x: AnyArray, y: AnyArray, args: DivergenceArgs, wrt: tuple[str, ...]) -> Any:
    def run(task: Any, n: int) -> None:
        _threads.run(without_fp_warnings(task), n, threads_for(x.size, THREAD_ELEMENTS))

    return _divergence.rows(xp, x, y, args, wrt, run)


def divergence(xp: Namespace, logits: AnyArray, args: DivergenceArgs, wrt: tuple[str, ...] = ()) -> Any:
    """The divergence, reduced, and its gradients by ``wrt``."""
    axis, shape = args.axis, logits.shape

    def turned(a: Floats) -> Floats:
        return in_rows(a, axis)

    where = None if args.where is None else turned(np.broadcast_to(args.where, shape))
    grads: Any
    value, grads = generic.divergence(xp, turned(logits), _divergence.turned(args, turned, where), wrt, _rows)
    return value, tuple(np.moveaxis(g, -1, axis) for g in grads)
