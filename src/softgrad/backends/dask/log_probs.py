"""Log-probabilities of labels, the entropy, and their derivatives, on Dask arrays: one task a chunk."""

from __future__ import annotations

from typing import Any

from ..._array.typing import AnyArray, Namespace
from ..._kernels.log_probs import PLAIN
from ..._kernels.scaling import Scaling
from .chunks import on_chunk, rowwise


def _kernel(x: AnyArray, *arrays: AnyArray, function: str, axis: int, precision: str | None, scaling: Scaling) -> Any:
    *given, where = arrays
    return on_chunk(function, x, *given, axis, where, precision, scaling)


def _rows(
    function: str,
    arrays: list[tuple[AnyArray, bool | None]],
    axis: int,
    precision: str | None,
    scaling: Scaling,
    keeps_axis: bool | None,
) -> AnyArray:
    options = {"function": function, "axis": axis, "precision": precision, "scaling": scaling}
    return rowwise(_kernel, axis, arrays, arrays[0][0].dtype, keeps_axis=keeps_axis, options=options)


def log_probs(
    xp: Namespace,
    x: AnyArray,
    labels: AnyArray,
    axis: int,
    where: AnyArray = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``log(softmax(x))`` at the labels."""
    return _rows("log_probs", [(x, True), (labels, None), (where, True)], axis, precision, scaling, None)


def log_probs_vjp(
    xp: Namespace,
    x: AnyArray,
    labels: AnyArray,
    cotangent: AnyArray,
    axis: int,
    where: AnyArray = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``sum(c * (onehot - p))`` over a sample's labels."""
    arrays = [(x, True), (labels, None), (cotangent, None), (where, True)]
    return _rows("log_probs_vjp", arrays, axis, precision, scaling, True)


def entropy(
    xp: Namespace,
    x: AnyArray,
    axis: int,
    where: AnyArray = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``-sum(p log(p))``, without ``axis``."""
    return _rows("entropy", [(x, True), (where, True)], axis, precision, scaling, False)


def entropy_vjp(
    xp: Namespace,
    x: AnyArray,
    cotangent: AnyArray,
    axis: int,
    where: AnyArray = None,
    precision: str | None = None,
    scaling: Scaling = PLAIN,
) -> AnyArray:
    """``c * p * (mean(d) - d)``."""
    return _rows("entropy_vjp", [(x, True), (cotangent, False), (where, True)], axis, precision, scaling, True)
