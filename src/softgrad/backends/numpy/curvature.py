"""Second derivative of the linear model's loss times a vector, in the blocks of its gradient.

With p the softmax of a row and u the change of its logits, the change of the gradient is p (u - sum(p u)). ``u`` is
taken from its value at the row's maximum, where the difference would cancel.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import products as numpy_products
from .blocks import Floats, Memory, column_sums, row_dots
from .dense_blocks import shifted_rows
from .linear_call import Linear, Pieces
from .loss_blocks import Loss, Target


class Curvature:
    """One call: the model, and the directions by parameter."""

    def __init__(self, model: Linear, given: dict[str, Floats]) -> None:
        self.model, self.given = model, given

    def _scales(self, loss: Loss, start: int, stop: int) -> tuple[Any, Any] | None:
        """(weight of a row's second derivative, the same of ``z_loss``), None if a label is no class."""
        model, args = self.model, self.model.args
        if args.dense:
            _, T, w = loss.targets(model.labels[start:stop])
            weight: Any = model.sample_weights(start, stop)
            weight = 1.0 if weight is None else weight.astype(model.work, copy=False)
            return T * weight, args.z_loss * w * weight if args.z_loss else 0.0
        target: Target | None = model.target(loss, start, stop)
        if target is None:
            return None
        return target.label_weight + target.weight * loss.total_smoothing, target.z

    def _rows(self, loss: Loss, z: Floats, u: Floats, start: int, stop: int) -> bool:
        """Turn ``u`` into the change of the gradient of the rows ``z``; False if the block has an irregular sample."""
        scales = self._scales(loss, start, stop)
        if scales is None:
            return False
        memory = loss.memory
        m, top = shifted_rows(z, z, memory)
        if not np.isfinite(m).all():
            return False
        np.exp(z, out=z)
        z.reshape(-1)[top] = 0.0
        rest = memory.row_sums(z, memory(1, m.shape))
        z.reshape(-1)[top] = 1.0
        centre = u.reshape(-1).take(top)
        np.subtract(u, centre[:, None], out=u)
        s = 1.0 + rest
        mean = row_dots(z, u) / s
        lift, slope = self._terms(scales, m, np.log1p(rest), mean, centre, s)
        np.subtract(u, mean[:, None], out=u)
        np.multiply(u, z, out=u)
        np.multiply(u, slope[:, None], out=u)
        if lift is not None:
            np.multiply(z, lift[:, None], out=z)
            np.add(u, z, out=u)
        return True

    def _columns(self, loss: Loss, z: Floats, u: Floats, start: int, stop: int) -> bool:
        """The same, class first."""
        scales = self._scales(loss, start, stop)
        if scales is None:
            return False
        memory = loss.memory
        m = np.maximum.reduce(z, axis=0)
        if not np.isfinite(m).all():
            return False
        np.subtract(z, m, out=z)
        top = memory(3, z.shape)
        np.equal(z, 0, out=top)
        count = column_sums(top, np.empty_like(m))
        np.multiply(u, top, out=top)
        centre = column_sums(top, np.empty_like(m)) / count
        np.subtract(u, centre, out=u)
        np.exp(z, out=z)
        s = column_sums(z, np.empty_like(m))
        np.multiply(z, u, out=top)
        mean = column_sums(top, np.empty_like(m)) / s
        lift, slope = self._terms(scales, m, np.log(s), mean, centre, s)
        np.subtract(u, mean, out=u)
        np.multiply(u, z, out=u)
        np.multiply(u, slope, out=u)
        if lift is not None:
            np.multiply(z, lift, out=z)
            np.add(u, z, out=u)
        return True

    def _terms(
        self, scales: tuple[Any, Any], m: Floats, log_s: Floats, mean: Floats, centre: Floats, s: Floats
    ) -> tuple[Floats | None, Floats]:
        """(what multiplies the exponentials alone, what multiplies them times the change)."""
        slope, z = scales
        scale = self.model.scale
        if not self.model.args.z_loss:
            return None, np.divide(slope * scale, s)
        slope = slope + 2.0 * z * (m + log_s)
        return 2.0 * z * (mean + centre) * scale / s, np.asarray(slope * scale / s)

    def many(self) -> tuple[Floats, Floats]:
        """(part of W, part of bias), many classes."""
        model, given = self.model, self.given
        k, work = model.k, model.work
        pieces = Pieces(model, lambda: Loss(model.args, k, Memory(work), model.scale, False))
        b = model.rows(2)
        Z, U = np.empty((min(b, model.n), k), work), np.empty((min(b, model.n), k), work)
        h_W, h_bias = np.empty((k, model.m), work), np.zeros(k)
        for first in range(0, model.n, b):
            last = min(first + b, model.n)
            x, z, u = model.block(first, last), Z[: last - first], U[: last - first]
            numpy_products.product_beside(z, x, model.W.T, h_W)
            if "W" in given:
                numpy_products.product_beside(u, x, given["W"].T, h_W)
            else:
                u[...] = 0

            def piece(
                loss: Loss, i: int, j: int, x: Floats = x, z: Floats = z, u: Floats = u, first: int = first
            ) -> Any:
                rows, change = z[i:j], u[i:j]
                if model.bias is not None:
                    np.add(rows, model.bias, out=rows)
                if "bias" in given:
                    np.add(change, given["bias"], out=change)
                irregular = not self._rows(loss, rows, change, first + i, first + j)
                if irregular:
                    self._generic(x[i:j], change, first + i, first + j)
                return column_sums(change, np.empty(k, work)) if "bias" in given else None, irregular

            results = pieces.run(last - first, piece)
            if any(irregular for _, irregular in results):
                x = model.cleared(x, first, last)
            if "bias" in given:
                for sums, _ in results:
                    h_bias += sums
            if "W" in given:
                numpy_products.add_product(h_W, u.T, x, first == 0)
        return h_W, h_bias

    def few(self) -> tuple[Floats, Floats]:
        """(part of W, part of bias), few classes."""
        model, given = self.model, self.given
        k, m, work = model.k, model.m, model.work
        size, group = model.span_rows()

        def task(begin: int, end: int) -> tuple[Floats, Floats]:
            loss = Loss(model.args, k, Memory(work), model.scale, False)
            products = numpy_products.Small(model.W, group, loss.memory)
            changes = numpy_products.Small(given["W"], group, loss.memory) if "W" in given else None
            h_W, h_bias = np.zeros((k, m), work), np.zeros(k)
            with np.errstate(all="ignore"):
                for first in range(begin, end, size):
                    last = min(first + size, end)
                    x = model.block(first, last)
                    u = loss.memory(12, (k, last - first))
                    if changes is None:
                        u[...] = 0
                    else:
                        np.copyto(u, changes.logits(x))
                    if "bias" in given:
                        u += given["bias"][:, None]
                    z = products.logits(x)
                    if model.bias is not None:
                        z += model.bias[:, None]
                    if not self._columns(loss, z, u, first, last):
                        x = model.cleared(x, first, last)
                        rows = np.ascontiguousarray(u.T)
                        self._generic(x, rows, first, last)
                        np.copyto(u, rows.T)
                    if "W" in given:
                        products.add_gradient(h_W, u, x)
                    if "bias" in given:
                        h_bias += np.add.reduce(u, axis=1)
            return h_W, h_bias

        results = model.run_spans(task, size)
        h_W, h_bias = results[0]
        for some_W, some_bias in results[1:]:
            h_W += some_W
            h_bias += some_bias
        return h_W, h_bias

    def _generic(self, x: Floats, u: Floats, start: int, stop: int) -> None:
        """Compute the overwritten ``u`` again from ``x``, and turn it into the change of the gradient."""
        model, given = self.model, self.given
        x = model.cleared(x, start, stop)
        u[...] = x @ given["W"].T if "W" in given else 0
        if "bias" in given:
            u += given["bias"]
        u[...] = model.generic(x, start, stop, u)[1]
