"""The linear model where a row of logits alone is too large: classes in tiles, with a running log-sum-exp.

Two passes over the classes for each block of samples. The first keeps, for each sample, the maximum so far and the sum
of exponentials without the label's; the second makes the logits again and turns them into the gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import products
from .blocks import Floats, Memory, row_dots
from .linear_call import Linear
from .loss_blocks import Loss, Target

#: Samples of a block, and bytes of a tile.
ROWS, TILE_BYTES = 1024, 16 << 20


def tiles(model: Linear) -> tuple[float, Any, Any]:
    """Return (sum of losses, gradient with respect to W, to bias)."""
    work = model.work
    rows = min(model.n, model.block_size or ROWS)
    width = max(1, TILE_BYTES // (rows * work.itemsize))
    run = _Tiles(model, width, rows)
    for start in range(0, model.n, rows):
        run.block(start, min(start + rows, model.n))
    if model.classes is not None:
        return run.total, run.grad_W, run.grad_bias.take(model.classes)
    return run.total, run.grad_W, run.grad_bias


class _Tiles:
    def __init__(self, model: Linear, width: int, rows: int) -> None:
        self.model, self.width = model, width
        self.loss = Loss(model.args, model.k, Memory(model.work), model.scale, bool(model.wrt))
        self.Z = np.empty(rows * min(width, model.k), model.work)
        self.grad_W = np.zeros((model.columns if "W" in model.wrt else 0, model.m), model.work)
        self.grad_bias = np.zeros(model.k)
        self.total = 0.0

    def logits(self, x: Floats, c0: int, c1: int) -> Floats:
        model = self.model
        z = self.Z[: len(x) * (c1 - c0)].reshape(len(x), c1 - c0)
        products.product_beside(z, x, model.W[c0:c1].T, self.grad_W[c0:c1])
        if model.bias is not None:
            z += model.bias[c0:c1]
        return z

    def block(self, start: int, stop: int) -> None:
        model, loss = self.model, self.loss
        x = model.cleared(model.block(start, stop), start, stop)
        labels, weight = model.labels[start:stop], model.sample_weights(start, stop)
        counts = model.counts(start, stop)
        known = ~counts | ((labels >= 0) & (labels < model.k))
        if not counts.all():
            weight = counts.astype(model.work) if weight is None else np.where(counts, weight, 0)
        target = loss.target(np.where(known & counts, labels, 0), weight)
        assert target is not None
        m, sum_ex_label, label_logit, smooth_dot = self._sums(x, target)
        shifted = label_logit - m
        label_exp = np.exp(shifted)
        losses, factor, at_label = loss.from_sums(
            target, sum_ex_label, label_exp, sum_ex_label + label_exp, shifted, m, smooth_dot
        )
        bad = counts & ~(known & np.isfinite(m))
        losses[bad] = np.nan
        losses[~counts] = 0.0
        self.total += model.note(losses, start)
        if model.wrt:
            for a in (factor, at_label):
                a[bad] = np.nan
                a[~counts] = 0.0
            self._gradient(x, target, m, factor, at_label, start, stop)

    def _sums(self, x: Floats, target: Target) -> tuple[Floats, Floats, Floats, Any]:
        """(maximum, sum without the label, the label's logit, smoothing weights times shifted logits) by sample."""
        model, loss = self.model, self.loss
        n = len(x)
        m, sum_ex_label = np.full(n, -np.inf, model.work), np.zeros(n, model.work)
        label_logit = np.empty(n, model.work)
        smooth_dot = None if loss.smoothing is None else np.zeros(n, model.work)
        for c0 in range(0, model.k, self.width):
            c1 = min(c0 + self.width, model.k)
            z = self.logits(x, c0, c1)
            if smooth_dot is not None and loss.smoothing is not None:
                smooth_dot += row_dots(z, loss.smoothing[c0:c1])
            here = np.flatnonzero((target.y >= c0) & (target.y < c1))
            at = here * (c1 - c0) + (target.y[here] - c0)
            label_logit[here] = z.reshape(-1)[at]
            higher = np.maximum(m, np.maximum.reduce(z, axis=1))
            safe = np.where(np.isneginf(higher), 0, higher)
            np.subtract(z, safe[:, None], out=z)
            np.exp(z, out=z)
            z.reshape(-1)[at] = 0.0
            sum_ex_label *= np.exp(m - safe)
            sum_ex_label += loss.memory.row_sums(z, np.empty(n, model.work))
            m = higher
        return (
            m,
            sum_ex_label,
            label_logit,
            None if smooth_dot is None else smooth_dot - m * model.work.type(loss.total_smoothing),
        )

    def _gradient(
        self, x: Floats, target: Target, m: Floats, factor: Floats, at_label: Floats, start: int, stop: int
    ) -> None:
        model, loss = self.model, self.loss
        grad_X = None if model.grad_X is None else np.zeros((len(x), model.m), model.work)
        for c0 in range(0, model.k, self.width):
            c1 = min(c0 + self.width, model.k)
            z = self.logits(x, c0, c1)
            np.subtract(z, m[:, None], out=z)
            np.exp(z, out=z)
            np.multiply(z, factor[:, None], out=z)
            if loss.smoothing is not None:
                lift = loss.smoothing[c0:c1] * model.work.type(model.scale)
                z -= lift if isinstance(target.weight, float) else np.multiply.outer(target.weight, lift)
            here = np.flatnonzero((target.y >= c0) & (target.y < c1))
            z.reshape(-1)[here * (c1 - c0) + (target.y[here] - c0)] = at_label[here]
            if "bias" in model.wrt:
                self.grad_bias[c0:c1] += np.add.reduce(z, axis=0, dtype=np.float64)
            if "W" in model.wrt:
                if model.classes is None:
                    products.add_product(self.grad_W[c0:c1], z.T, x, False)
                else:
                    for place, c in enumerate(model.classes):
                        if c0 <= c < c1:
                            self.grad_W[place] += z[:, c - c0] @ x
            if grad_X is not None:
                grad_X += z @ model.W[c0:c1]
        if grad_X is not None and model.grad_X is not None:
            np.copyto(model.grad_X[start:stop], grad_X, casting="same_kind")
