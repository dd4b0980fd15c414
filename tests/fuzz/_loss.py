"""Calls of the loss on logits and of its derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

import softgrad as sg

from ._compare import alike, both, compare
from ._formulas import Losses, Target
from ._inputs import LARGEST, LD, given, in_any_order, like, shape_of, values_of


def target_of(rng, library, dtype, samples, k, axis):
    """(Target, options of the loss, arguments beside the labels, the labels), ``k`` classes on ``axis``."""
    fields: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    is_dense, eps, z = rng.random() < 0.25, 0.0, 0.0
    if rng.random() < 0.2:
        eps = fields["label_smoothing"] = 0.1
    if rng.random() < 0.15:
        z = fields["z_loss"] = 0.125
    # of weights that half precision would round, none is
    held = "float32" if "16" in dtype and rng.random() < 0.5 else dtype
    cw = np.ones(k, LD)
    if rng.random() < 0.2:
        w = np.round(rng.uniform(0, 2, k), 1)
        fields["class_weight"], cw = given(rng, library, w, held)
    sw = np.ones(samples, LD)
    if rng.random() < 0.25:
        w = np.where(rng.random(samples) < 0.3, 0.0, np.round(rng.uniform(0, 2, samples), 2))
        kind = "bool" if rng.random() < 0.2 else held
        beside["sample_weight"], sw = given(rng, library, w, kind)
    shown = np.ones((*samples, k), bool)
    if rng.random() < 0.2:
        shown = rng.random((*samples, k)) < 0.7
        shown[rng.random(samples) < 0.1] = False
        beside["where"] = like(library, np.moveaxis(shown, -1, axis))
    ignore = y = None
    if is_dense:
        q = np.where(rng.random((*samples, k)) < 0.3, 0.0, np.round(rng.dirichlet(np.ones(k), samples), 3))
        labels, q = given(rng, library, np.moveaxis(q, -1, axis), held)
        q = np.moveaxis(q, axis, -1)
        counts = sw * (q * cw).sum(-1)
    else:
        y = rng.integers(0, k, samples)
        if rng.random() < 0.3:
            ignore = fields["ignore_index"] = int(rng.choice([-100, -1, 0, k, 255]))
            y = np.where(rng.random(samples) < 0.3, ignore, y)
        if rng.random() < 0.1:
            y = np.where(rng.random(samples) < 0.2, int(rng.choice([-1, k, 100])), y)
        y = np.asarray(y)
        kinds = ["int8", "int16", "int32", "int64", "uint8"] if library == "numpy" else ["int32", "int64"]
        kinds = [kind for kind in kinds if y.size == 0 or np.array_equal(y.astype(kind), y)]
        labels = like(library, y.astype(str(rng.choice(kinds))))
        labels = in_any_order(rng, labels) if library == "numpy" else labels
        q = (np.arange(k) == y[..., None]).astype(LD)
        # a label that is no class counts for one: its loss is NaN
        counts = sw * np.where(q.any(-1), (q * cw).sum(-1), 1)
        if ignore is not None:
            counts = np.where(y == ignore, 0, counts)
    counts = np.where(shown.any(-1), counts, 0)
    return Target(q, eps, z, cw, sw, shown, y, ignore, counts), fields, beside, labels


def reduced(losses, reduction, dtype):
    """(the loss, the size of its terms), or None where a sum of a few may overflow on the way."""
    if reduction == "none":
        return np.where(losses.special, 0, losses.value), np.where(losses.special, 0, losses.value_size)
    total = losses.target.counts.sum() if reduction == "mean" else LD(1)
    if total == 0:
        return np.asarray(LD(0)), np.asarray(LD(0))
    if losses.special.any() or not losses.value.sum() < LARGEST[dtype]:
        return None
    return losses.value.sum() / total, losses.value_size.sum() / total


def scaled_options(rng, library, dtype, k):
    """Options that scale the logits or the losses."""
    if rng.random() < 0.7:
        return {}
    some = {"softcap": 4.0, "temperature": float(rng.choice([0.25, 0.7, 3.0])), "focal": float(rng.choice([0.5, 2.0]))}
    some["logit_shift"] = given(rng, library, np.round(rng.normal(size=k), 1), dtype)[0]
    return {name: value for name, value in some.items() if rng.random() < 0.5}


def loss_call(rng, call, dtype):
    library = call.library
    shape = shape_of(rng, call, 1)
    axis = int(rng.integers(len(shape)))
    if shape[axis] == 0:
        shape = (*shape[:axis], 3, *shape[axis + 1 :])
    x, exact = given(rng, library, values_of(rng, shape, dtype), dtype)
    reduction = str(rng.choice(["none", "sum", "mean"]))
    samples = shape[:axis] + shape[axis + 1 :]
    target, fields, beside, labels = target_of(rng, library, dtype, samples, shape[axis], axis)
    fields = {**fields, "axis": axis - (len(shape) if rng.random() < 0.5 else 0), "reduction": reduction}
    if rng.random() < 0.1:
        fields["precision"] = "high"
    scaling = scaled_options(rng, library, dtype, shape[axis])
    fields |= scaling
    call.function = str(rng.choice(["value", "grad", "value_and_grad", "grad", "hvp", "hessian_diag"]))
    call.options = {**fields, **beside}
    call.note = f"{dtype} {shape} labels {'by weight' if target.index is None else labels.dtype}"
    loss = sg.CrossEntropy(**fields)
    arrays = [x, labels, *beside.values()]
    vectors = ()
    if call.function == "hvp":
        vector, u = given(rng, library, rng.normal(size=shape), dtype)
        vectors = (vector,)
        arrays.append(vector)
    name = "__call__" if call.function == "value" else call.function
    got, generic = both(lambda: getattr(loss, name)(x, labels, *vectors, **beside), arrays)
    pairs = [(got, generic)] if call.function != "value_and_grad" else list(zip(got, generic, strict=True))
    wants = ("value", "grad") if call.function == "value_and_grad" else (call.function,)
    losses = Losses(np.moveaxis(exact, axis, -1), target)
    # what is added up near the largest number may overflow on the way to a mean or a weighted loss that does not
    huge = bool((np.abs(exact[np.isfinite(exact)]) > LARGEST[dtype] / 1e5).any()) and dtype != "float16"
    if target.z and exact.size:
        huge |= bool((np.abs(exact[np.isfinite(exact)]) > np.sqrt(LD(LARGEST[dtype])) / 100).any())
    if scaling:
        # the formulas know them not: what runs agrees with the generic kernels, which mpmath is held to elsewhere
        for want, (mine, theirs) in zip(wants, pairs, strict=True):
            alike(mine, theirs, want)
        return
    weighing = {"class_weight", "sample_weight", "z_loss", "label_smoothing"}
    plain = reduction == "none" and target.index is not None and not weighing & {*fields, *beside}
    if huge and not plain:
        return
    for want, (mine, theirs) in zip(wants, pairs, strict=True):
        alike(mine, theirs, want)
        if want == "value":
            expected = reduced(losses, reduction, dtype)
            if expected is not None:
                for what, result in (("", mine), ("generic ", theirs)):
                    result = np.where(losses.special, 0, result) if reduction == "none" else result
                    compare(result, expected[0], dtype, expected[1], what=f"{what}loss, {reduction}")
            continue
        if want == "grad":
            rows, size = losses.gradient, losses.size
        elif want == "hvp":
            moved = np.moveaxis(u, axis, -1)
            rows, size = losses.curvature(moved, np.abs(moved))
        else:
            rows, size = losses.diagonal()
        total = target.counts.sum() if reduction == "mean" else LD(1)
        fine = ~np.broadcast_to(losses.special[..., None], rows.shape)
        if total == 0:
            rows, size, fine = rows * 0, size * 0, np.ones(rows.shape, bool)
        else:
            rows, size = rows / total, size / total
        size = np.where(np.isfinite(size), size, 0)
        rows, size = (np.moveaxis(np.where(fine, a, 0), -1, axis) for a in (rows, size))
        for what, result in (("", mine), ("generic ", theirs)):
            compare(np.where(np.moveaxis(fine, -1, axis), result, 0), rows, dtype, size, what + want, losses.factor)
