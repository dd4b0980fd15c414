"""The divergence of two softmaxes on NumPy arrays: blocks of rows, on several threads."""

from __future__ import annotations

from typing import Any

from ..._array.namespace import without_fp_warnings
from ..._array.typing import Array, Namespace
from ..._kernels import divergence as generic
from ..._kernels.divergence import DivergenceArgs
from .. import _divergence, _threads
from .blocks import threads_for

#: Elements that are worth a thread.
THREAD_ELEMENTS = 1 << 16


def _rows(xp: Namespace, x: Array, y: Array, args: DivergenceArgs, wrt: tuple[str, ...]) -> Any:
    def run(task: Any, n: int) -> None:
        _threads.run(without_fp_warnings(task), n, threads_for(x.size, THREAD_ELEMENTS))

    return _divergence.rows(xp, x, y, args, wrt, run)


def divergence(xp: Namespace, logits: Array, args: DivergenceArgs, wrt: tuple[str, ...] = ()) -> Any:
    """The divergence, reduced, and its gradients by ``wrt``."""
    return generic.divergence(xp, logits, args, wrt, _rows)
