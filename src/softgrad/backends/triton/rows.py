"""Softmax, its logarithm, log-sum-exp and their derivatives of PyTorch tensors, in one of Triton's kernels each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..torch.blocks import view
from . import dense_kernels
from .layout import Wrap, as_it_is, how, launch, on_device_of, strides, together

_MODES = {"softmax": 0, "log_softmax": 1, "logsumexp": 2}


def dense(function: str, x: Tensor, axis: int, where: Tensor | None = None, wrap: Wrap = as_it_is) -> Tensor:
    """The softmax, its logarithm or its normaliser."""
    v = view(x, axis)
    shown = None if where is None else v.logits(where)
    n, k, inner = x.numel() // v.classes, v.classes, 1 if v.rows else v.x.shape[2]
    sums = function == "logsumexp"
    out = torch.empty(v.sample_shape, dtype=x.dtype, device=x.device) if sums else torch.empty_like(v.x)
    shape, mode = launch(n, k, together(v.x), may_split=True), _MODES[function]
    at, to = (*strides(v.x), *strides(shown)), strides(None if sums else out)
    options = {"MODE": mode, "HOW": how(shown), "BLOCK": shape.block, "num_warps": shape.warps}
    with on_device_of(x):
        if shape.tile:
            wrap(dense_kernels.dense_tile)[shape.grid](
                v.x, shown, out, n, k, inner, *at, *to, ROWS=shape.rows, **options
            )
            return out if sums else v.back(out)
        parts, grid = None, shape.grid
        if shape.parts:
            parts = shape.scratch(x)
            wrap(dense_kernels.dense_parts)[grid](v.x, shown, parts, k, inner, *at, **options)
            grid = (n, 1) if sums else grid
        wrap(dense_kernels.dense_loop)[grid](
            v.x, shown, parts, out, n, k, inner, *at, *to, SPLIT=parts is not None, ROWS=shape.rows, **options
        )
    return out if sums else v.back(out)


def _dense(function: str, x: Tensor, axis: int, where: Tensor | None) -> Tensor:
    if torch.compiler.is_compiling():
        out: Tensor = torch.ops.softgrad.dense(x, function, axis, where)
        return out
    return dense(function, x, axis, where)


def softmax(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: None = None) -> Tensor:
    """exp(x) / sum(exp(x))."""
    return _dense("softmax", x, axis, where)


def log_softmax(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: None = None) -> Tensor:
    """X - logsumexp(x)."""
    return _dense("log_softmax", x, axis, where)


def logsumexp(xp: Any, x: Tensor, axis: int, where: Tensor | None = None, precision: None = None) -> Tensor:
    """log(sum(exp(x))), without ``axis``."""
    return _dense("logsumexp", x, axis, where)


def vjp(a: Tensor, cotangent: Tensor, axis: int, log: bool, wrap: Wrap = as_it_is) -> Tensor:
    """A cotangent pulled back through the softmax ``a``, or its logarithm."""
    v = view(a, axis)
    c = v.logits(cotangent)
    n, k, inner = a.numel() // v.classes, v.classes, 1 if v.rows else v.x.shape[2]
    out = torch.empty_like(v.x)
    shape = launch(n, k, together(v.x), may_split=True)
    at, options = (*strides(v.x), *strides(c)), {"LOG": log, "BLOCK": shape.block, "num_warps": shape.warps}
    kernel = dense_kernels.vjp_tile
    more: tuple[Tensor | None, ...] = ()
    split: dict[str, bool] = {}
    with on_device_of(a):
        if not shape.tile:
            kernel, more, split = dense_kernels.vjp_loop, (shape.scratch(a),), {"SPLIT": shape.parts > 0}
            if shape.parts:
                wrap(dense_kernels.vjp_parts)[shape.grid](v.x, c, *more, k, inner, *at, **options)
        wrap(kernel)[shape.grid](
            v.x, c, *more, out, n, k, inner, *at, *strides(out), ROWS=shape.rows, **options, **split
        )
    return v.back(out)


def _vjp(a: Tensor, cotangent: Tensor, axis: int, log: bool) -> Tensor:
    if torch.compiler.is_compiling():
        out: Tensor = torch.ops.softgrad.vjp(a, cotangent, axis, log)
        return out
    return vjp(a, cotangent, axis, log)


def softmax_vjp(xp: Any, probs: Tensor, cotangent: Tensor, axis: int) -> Tensor:
    """P (c - sum(p c)), with c less its value at the largest p."""
    return _vjp(probs, cotangent, axis, False)


def log_softmax_vjp(xp: Any, log_probs: Tensor, cotangent: Tensor, axis: int) -> Tensor:
    """C - p sum(c)."""
    return _vjp(log_probs, cotangent, axis, True)


#: The Jacobian diag(p) - p pT is symmetric.
softmax_jvp = softmax_vjp
