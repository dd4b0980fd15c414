"""Softmax, its logarithm, its normaliser and their derivatives on Dask arrays."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..._array.typing import AnyArray, Namespace
from .chunks import on_chunk, rowwise


def _kernel(x: AnyArray, where: AnyArray, *, function: str, axis: int, precision: str | None) -> Any:
    return on_chunk(function, x, axis, where, precision)


def _dense(
    function: str, xp: Namespace, x: AnyArray, axis: int, where: AnyArray = None, precision: str | None = None
) -> AnyArray:
    return rowwise(
        _kernel,
        axis,
        [(x, True), (where, True)],
        x.dtype,
        keeps_axis=function != "logsumexp",
        options={"function": function, "axis": axis, "precision": precision},
    )


softmax = partial(_dense, "softmax")
log_softmax = partial(_dense, "log_softmax")
logsumexp = partial(_dense, "logsumexp")


def _signed_part(x: AnyArray, b: AnyArray, where: AnyArray, *, axis: int, precision: str | None, part: int) -> Any:
    return on_chunk("signed_logsumexp", x, b, axis, where, precision)[part]


def signed_logsumexp(
    xp: Namespace, x: AnyArray, b: AnyArray, axis: int, where: AnyArray = None, precision: str | None = None
) -> tuple[AnyArray, AnyArray]:
    """``log(abs(sum(b * exp(x))))`` and the sign of the sum, as lazy results computed independently."""
    arrays = [(x, True), (b, True), (where, True)]
    value, sign = (
        rowwise(
            _signed_part,
            axis,
            arrays,
            x.dtype,
            keeps_axis=False,
            options={"axis": axis, "precision": precision, "part": part},
        )
        for part in (0, 1)
    )
    return value, sign


def _pair(first: AnyArray, second: AnyArray, *, function: str, axis: int) -> Any:
    return on_chunk(function, first, second, axis)


def _derivative(function: str, xp: Namespace, first: AnyArray, second: AnyArray, axis: int) -> AnyArray:
    return rowwise(
        _pair,
        axis,
        [(first, True), (second, True)],
        first.dtype,
        keeps_axis=True,
        options={"function": function, "axis": axis},
    )


softmax_vjp = partial(_derivative, "softmax_vjp")
softmax_jvp = partial(_derivative, "softmax_jvp")
log_softmax_vjp = partial(_derivative, "log_softmax_vjp")
log_softmax_jvp = partial(_derivative, "log_softmax_jvp")
