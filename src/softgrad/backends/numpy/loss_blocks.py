"""The cross-entropy of a block of logits and its derivatives, for NumPy's loss and linear kernels.

The label's exponential is left out of the sum: the loss is ``log1p(sum_ex_label / label_exp)`` and the gradient at the
label ``-sum_ex_label / sum``, so that neither cancels. An irregular sample (a label that is no class, a
maximum that is not finite, a weight of 0 times an infinity) is left to the generic kernel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..._options import LossArgs
from .blocks import AS_LIST, Floats, Memory, all_finite, column_sums, least, row_dots
from .dense_blocks import SAFE, are_in, shifted_columns, shifted_rows, shifts

#: Below this exponent the label's own exponential is taken to be too small to divide by.
FAR = {"f": -40.0, "d": -300.0}

_max: Any = np.maximum.reduce


def within(labels: Floats, k: int) -> bool:
    """Whether all labels are classes; a negative one is a large number without its sign."""
    if labels.size <= AS_LIST:
        some = labels.tolist()
        return not some or (min(some) >= 0 and max(some) < k)
    if labels.dtype.kind == "i":
        if k > np.iinfo(labels.dtype).max:
            return bool(labels.min() >= 0)
        labels = labels.view(labels.dtype.str.replace("i", "u"))
    return bool(labels.max() < k)


class Target(NamedTuple):
    """The labels of a block of samples and their weights, each an array or the number that all share."""

    y: Floats
    #: Sample weight; 0 for a sample that is ignored.
    weight: Any
    #: Sample weight times class weight times the label's share: what multiplies the loss at the label.
    label_weight: Any
    #: Sample weight times class weight times ``z_loss``.
    z: Any


class Loss:
    """The loss on blocks of logits, for one thread."""

    def __init__(self, args: LossArgs, k: int, memory: Memory, scale: float, want_grad: bool) -> None:
        self.args, self.k, self.memory, self.scale, self.want_grad = args, k, memory, scale, want_grad
        dtype = self.dtype = memory.dtype
        weight = args.class_weight
        self.class_weight: Floats | None = None if weight is None else weight.astype(dtype)
        self.smoothing: Floats | None = None
        self.total_smoothing = 0.0
        if args.label_smoothing:
            share = args.label_smoothing / k
            self.smoothing = np.full(k, share, dtype) if weight is None else self.class_weight * dtype.type(share)
            self.total_smoothing = float(np.add.reduce(self.smoothing, dtype=np.float64))
        self.plain = self.smoothing is None and not args.z_loss
        #: The irregular samples of the last block, or None.
        self.irregular: Floats | None = None

    def target(self, labels: Floats, weight: Floats | None) -> Target | None:
        """Prepare the labels of a block; None if one of them is no class."""
        args = self.args
        if args.ignore_index is not None:
            kept = labels != args.ignore_index
            labels = np.where(kept, labels, 0)
            weight = kept.astype(self.dtype) if weight is None else np.where(kept, weight, 0)
        if not within(labels, self.k):
            return None
        y = labels.astype(np.intp, copy=False)
        w: Any = 1.0 if weight is None else weight.astype(self.dtype, copy=False)
        full: Any = w if self.class_weight is None else w * self.class_weight.take(y)
        label_weight = full if not args.label_smoothing else full * (1.0 - args.label_smoothing)
        return Target(y, w, label_weight, full * args.z_loss if args.z_loss else 0.0)

    def rows(self, x: Floats, e: Floats, target: Target) -> Floats:
        """Losses of the rows of ``x``; ``e``, which may be ``x``, is lost or becomes the gradient times the scale.

        Both are lost of the rows that ``irregular`` then names.
        """
        memory, limits = self.memory, SAFE[self.dtype.char]
        n, k = x.shape
        at = memory.starts(n, k) + target.y
        flat, sum_ex_label = e.reshape(-1), memory(1, (n,))
        label_logit = x.reshape(-1).take(at)
        smooth_dot = c = None
        if self.smoothing is not None and x is not e:
            smooth_dot = row_dots(x, self.smoothing)
        free = memory.free and x is not e
        if free:
            np.exp(x, out=e)
            label_exp = flat.take(at)
            flat[at] = 0.0
            s = memory.row_sums(e, sum_ex_label) + label_exp
            free = memory.free = are_in(limits, s, k)
        if not free:
            c = shifts(limits, x, memory)
            if c is not None:
                x = np.subtract(x, c[:, None], out=e)
                label_logit -= c
            if self.smoothing is not None and (smooth_dot is None or c is not None):
                smooth_dot = row_dots(x, self.smoothing)
            np.exp(x, out=e)
            label_exp = flat.take(at)
            flat[at] = 0.0
            s = memory.row_sums(e, sum_ex_label) + label_exp
        self.irregular = self.find_irregular(c, smooth_dot)
        losses, factor, at_label = self.from_sums(target, sum_ex_label, label_exp, s, label_logit, c, smooth_dot)
        return self._write_rows(losses, factor, at_label, e, at, target)

    @staticmethod
    def find_irregular(m: Floats | None, smooth_dot: Floats | None) -> Floats | None:
        """The numbers of the samples whose shift is not finite, or whose product with the smoothing is NaN, or None."""
        if (m is None or all_finite(m)) and (smooth_dot is None or not np.isnan(smooth_dot).any()):
            return None
        bad = np.zeros(1, bool) if m is None else ~np.isfinite(m)
        return np.flatnonzero(bad if smooth_dot is None else bad | np.isnan(smooth_dot))

    def _write_rows(
        self, losses: Floats, factor: Floats, at_label: Floats, e: Floats, at: Floats, target: Target
    ) -> Floats:
        if self.want_grad:
            np.multiply(e, factor[:, None], out=e)
            if self.smoothing is not None:
                lift = self.smoothing * self.dtype.type(self.scale)
                if isinstance(target.weight, float):
                    np.subtract(e, lift, out=e)
                else:
                    np.subtract(e, np.multiply(target.weight[:, None], lift, out=self.memory(3, e.shape)), out=e)
            e.reshape(-1)[at] = at_label
        return losses

    def weighted_rows(self, x: Floats, e: Floats, q: Floats, weight: Floats | None) -> Floats:
        """Losses of the rows of ``x`` whose labels ``q`` are weights of the classes; else as ``rows``."""
        args, memory = self.args, self.memory
        n, k = x.shape
        v, T, w = self.targets(q)
        m, top = shifted_rows(x, e, memory)
        cost = row_dots(v, e)
        self.irregular = self.find_irregular(m, cost)
        np.exp(e, out=e)
        flat = e.reshape(-1)
        flat[top] = 0.0
        sum_ex_max = memory.row_sums(e, memory(1, (n,)))
        log_s = np.log1p(sum_ex_max)
        losses = T * log_s - cost
        slope: Any = T
        if args.z_loss:
            lse = log_s + m
            losses += args.z_loss * w * lse * lse
            slope = T + 2.0 * args.z_loss * w * lse
        scale: Any = self.dtype.type(self.scale)
        if weight is not None:
            weight = weight.astype(self.dtype, copy=False)
            losses *= weight
            losses[weight == 0] = 0.0
            scale = scale * weight
        if self.want_grad:
            inverse = scale / (1.0 + sum_ex_max)
            top_weight = v.reshape(-1).take(top) if v.flags.c_contiguous else v[np.arange(n), top - memory.starts(n, k)]
            np.multiply(e, (slope * inverse)[:, None], out=e)
            pull = np.multiply(v, scale if weight is None else scale[:, None], out=memory(3, (n, k)))
            np.subtract(e, pull, out=e)
            flat[top] = ((slope - top_weight) - top_weight * sum_ex_max) * inverse
        return losses

    def targets(self, q: Floats) -> tuple[Floats, Floats, Floats]:
        """(weight of each class, their sum, the sum without smoothing) of labels that are weights."""
        eps, memory = self.args.label_smoothing, self.memory
        n, k = q.shape
        v = q.astype(self.dtype, copy=False)
        if not eps and self.class_weight is None:
            T = memory.row_sums(v, memory(8, (n,)))
            return v, T, T
        base = memory.row_sums(v, memory(8, (n,)))
        w = base if self.class_weight is None else row_dots(v, self.class_weight)
        out = memory(3, (n, k))
        if eps:
            np.multiply(v, 1.0 - eps, out=out)
            np.add(out, (base * (eps / k))[:, None], out=out)
            v = out
        if self.class_weight is not None:
            v = np.multiply(v, self.class_weight, out=out)
        return v, memory.row_sums(v, memory(9, (n,))), w

    def columns(self, src: Floats, dst: Floats | None, target: Target) -> Floats:
        """Losses of a block (outer, class, inner); ``dst`` becomes the gradient times the scale; else as ``rows``."""
        m, z = shifted_columns(src, self.memory)
        return self.shifted(m, z, dst, target)

    def small_columns(self, z: Floats, target: Target) -> Floats:
        """Losses of a block of logits, class first in ``z``, which becomes the gradient times the scale."""
        m = _max(z, 0)
        np.subtract(z, m, out=z)
        return self.shifted(m, z, None, target)

    def shifted(self, m: Floats, z: Floats, dst: Floats | None, target: Target) -> Floats:
        """Losses of a block of shifted logits, class first in ``z``; their gradient goes there or to ``dst``."""
        memory, smooth_dot, n = self.memory, None, len(m)
        at = target.y * n
        at += memory.starts(n, 1)
        if self.smoothing is not None:
            np.multiply(z, self.smoothing[:, None], out=memory(3, z.shape))
            smooth_dot = column_sums(memory(3, z.shape), np.empty_like(m))
        self.irregular = self.find_irregular(m, smooth_dot)
        flat = z.reshape(-1)
        label_logit = flat.take(at)
        np.exp(z, out=z)
        label_exp = flat.take(at)
        flat[at] = 0.0
        sum_ex_label = column_sums(z, memory(2, m.shape))
        losses, factor, at_label = self.from_sums(
            target, sum_ex_label, label_exp, sum_ex_label + label_exp, label_logit, m, smooth_dot
        )
        return self._write_columns(losses, factor, at_label, z, dst, at, target)

    def _write_columns(
        self,
        losses: Floats,
        factor: Floats,
        at_label: Floats,
        z: Floats,
        dst: Floats | None,
        at: Floats,
        target: Target,
    ) -> Floats:
        if not self.want_grad:
            return losses
        np.multiply(z, factor, out=z)
        if self.smoothing is not None:
            np.subtract(z, (self.smoothing * self.dtype.type(self.scale))[:, None] * target.weight, out=z)
        z.reshape(-1)[at] = at_label
        if dst is not None:
            np.copyto(dst.transpose(1, 0, 2), z.reshape(z.shape[0], dst.shape[0], dst.shape[2]))
        return losses

    def from_sums(
        self,
        t: Target,
        sum_ex_label: Floats,
        label_exp: Floats,
        s: Floats,
        label_logit: Floats,
        m: Floats | None,
        smooth_dot: Any,
    ) -> tuple[Floats, Floats, Floats]:
        """(losses, what multiplies the exponentials, the gradient at the label) of a block.

        ``label_exp`` is the label's exponential, ``sum_ex_label`` the sum of the others', ``label_logit`` the label's
        shifted logit, ``m`` the shift and ``smooth_dot`` the dot product of smoothing weights and logits.
        """
        ratio = sum_ex_label / label_exp
        losses = np.log1p(ratio)
        if label_logit.size and not least(label_logit) >= FAR[self.dtype.char]:
            far = np.flatnonzero(label_logit < FAR[self.dtype.char])
            losses[far] = np.log(s[far]) - label_logit[far]
        weighted = not isinstance(t.label_weight, float)
        if weighted:
            losses *= t.label_weight
            losses[t.label_weight == 0] = 0.0
        elif t.label_weight != 1.0:
            # all of the label's weight may be smoothed away, and 0 times infinity is nothing lost
            losses = losses * t.label_weight if t.label_weight else np.zeros_like(losses)
        slope: Any = t.label_weight
        extra: Any = 0.0
        if not self.plain:
            # near 1 the sum's logarithm comes from the terms beside its largest
            beside = np.where(label_exp > sum_ex_label, (label_exp - 1) + sum_ex_label, (sum_ex_label - 1) + label_exp)
            log_s = np.where(s < 0.5, np.log(s), np.log1p(np.maximum(beside, -0.5)))
            if self.smoothing is not None:
                cost = t.weight * (self.total_smoothing * log_s - smooth_dot)
                if weighted:
                    cost[t.weight == 0] = 0.0
                losses += cost
                extra = t.weight * self.total_smoothing
            if self.args.z_loss:
                lse = log_s if m is None else log_s + m
                losses += t.z * lse * lse
                extra = extra + 2.0 * t.z * lse
            slope = slope + extra
        if not self.want_grad:
            return losses, losses, losses
        inverse = np.divide(self.scale, s)
        factor = inverse if isinstance(slope, float) and slope == 1.0 else inverse * slope
        if self.plain:
            return losses, factor, -sum_ex_label * factor
        at_label = -sum_ex_label * (inverse * t.label_weight)
        at_label += extra * label_exp * inverse
        if self.smoothing is not None:
            at_label -= self.smoothing.take(t.y) * t.weight * self.scale
        return losses, factor, at_label
