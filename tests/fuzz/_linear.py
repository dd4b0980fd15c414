"""Calls of the linear softmax model and of its derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np

import softgrad as sg

from ._compare import TOLERANCE, alike, both, compare, unit
from ._formulas import Losses
from ._inputs import LD, given
from ._loss import target_of

ROUNDING = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-23, "bfloat16": 2.0**-23}


def _names(rng, bias):
    """(some of W, bias and X, in any order; as they are asked for)."""
    if rng.random() < 0.4:
        return (("W", "bias") if bias else ("W",)), None
    known = ["W", "bias", "X"] if bias else ["W", "X"]
    names = tuple(str(n) for n in rng.permutation(known)[: int(rng.integers(1, len(known) + 1))])
    return names, names[0] if len(names) == 1 else names


class Model:
    """Random data and parameters, as they are handed over (``held``) and in extended precision."""

    def __init__(self, rng, call, dtype):
        library = call.library
        self.n = int(rng.choice([0, 1, 2, 3, 7, 20, 20, 130, 600]))
        self.m, self.k = int(rng.choice([1, 2, 3, 5, 17])), int(rng.choice([1, 2, 2, 3, 4, 7, 10, 33, 50]))
        if library == "jax":
            self.n, self.m, self.k = int(rng.choice([1, 20])), 3, int(rng.choice([2, 17]))
        elif rng.random() < call.large:
            self.m = int(rng.choice([3, 8, 20, 40]))
            self.n = -(-66_000 // self.m)
        self.axis = int(rng.random() < 0.3)
        target, self.fields, self.beside, self.labels = target_of(
            rng, library, dtype, (self.n,), self.k, 0 if self.axis else 1
        )
        X = rng.normal(size=(self.n, self.m)) * rng.choice([0.1, 1.0, 3.0])
        if rng.random() < 0.2:
            X[target.dead] = rng.choice([np.nan, np.inf, -np.inf])
        if rng.random() < 0.05 and self.n:
            X[int(rng.integers(self.n)), int(rng.integers(self.m))] = np.nan
        W = rng.normal(size=(self.k, self.m)) * rng.choice([0.1, 1.0, 5.0])
        self.held: dict[str, Any] = {}
        self.exact: dict[str, Any] = {}
        for name, a in (("W", W), ("bias", rng.normal(size=self.k) if rng.random() < 0.5 else None), ("X", X)):
            if a is not None:
                self.put(rng, library, dtype, name, a)
        self.exact["X"] = np.where(target.dead[:, None], 0, self.exact["X"])
        bias = self.exact.get("bias", np.zeros(self.k, LD))
        logits = self.exact["X"] @ self.exact["W"].T + bias
        size = np.abs(self.exact["X"]) @ np.abs(self.exact["W"]).T + np.abs(bias)
        self.losses = Losses(logits, target, size.max(-1, keepdims=True, initial=0))
        #: Relative error of a row's exponentials and of sums over samples, at most.
        error = 8 * (self.m + 8) * ROUNDING[dtype] * size.max(-1, initial=0)
        base = TOLERANCE["float64" if dtype == "float64" else "float32"] + self.n * ROUNDING[dtype]
        self.error = np.where(np.isfinite(error), error, 0) + base
        # an exponential below the smallest normal number is off by the smallest one, whatever it is multiplied by
        smallest = 4 * unit("float64" if dtype == "float64" else "float32")
        self.unit = smallest * np.asarray(self.losses.weighed(self.losses.most[..., 0]))[:, None]

    def put(self, rng, library, dtype, name, a):
        """An array beside X, in the layout of ``sample_axis``."""
        turned = self.axis and a.ndim == 2
        held, exact = given(rng, library, a.T if turned else a, dtype)
        self.held[name], self.exact[name] = held, exact.T if turned else exact

    def gradient(self):
        """{name: (gradient, error)} of the sum of the losses."""
        return self.through(self.losses.gradient, self.slope_error())

    def slope_error(self):
        """Errors of the slopes of the logits."""
        return self.losses.size * self.error[:, None] + self.unit

    def through(self, g, error):
        """What slopes of the logits and their errors are for each parameter."""
        X, W = self.exact["X"], self.exact["W"]
        return {
            "W": (g.T @ X, error.T @ np.abs(X)),
            "bias": (g.sum(0), error.sum(0)),
            "X": (g @ W, error @ np.abs(W)),
        }

    def product(self, vectors):
        """{name: (second derivative times ``vectors``, error)} of the sum of the losses."""
        u, size = np.zeros((self.n, self.k), LD), np.zeros((self.n, self.k), LD)
        X, W = self.exact["X"], self.exact["W"]
        for name, v in vectors.items():
            if name == "X":
                v = np.where(self.losses.target.dead[:, None], 0, v)
            a, b = {"W": (X, v.T), "bias": (np.ones((self.n, 1)), v[None]), "X": (v, W.T)}[name]
            u, size = u + a @ b, size + np.abs(a) @ np.abs(b)
        h, h_size = self.losses.curvature(u, size)
        spread = np.abs(size).max(-1, keepdims=True, initial=0)
        out = self.through(h, h_size * self.error[:, None] + self.unit * np.where(np.isfinite(spread), spread, 0))
        g, g_error = self.losses.gradient, self.slope_error()
        if "X" in vectors:
            v = np.where(self.losses.target.dead[:, None], 0, vectors["X"])
            out["W"] = out["W"][0] + g.T @ v, out["W"][1] + g_error.T @ np.abs(v)
        if "W" in vectors:
            v = vectors["W"]
            out["X"] = out["X"][0] + g @ v, out["X"][1] + g_error @ np.abs(v)
        return out


def linear_call(rng, call, dtype):
    model = Model(rng, call, dtype)
    short = str(rng.choice(["value", "grad", "value_and_grad", "value_and_grad", "hvp"]))
    call.function = "linear " + short
    function = getattr(sg, "linear_cross_entropy" + ("" if short == "value" else "_" + short))
    reduction = str(rng.choice(["sum", "mean", *(["none"] if short == "value" else [])]))
    options: dict[str, Any] = {**model.fields, **model.beside, "sample_axis": model.axis, "reduction": reduction}
    l2 = 0.0
    if reduction != "none" and rng.random() < 0.3:
        l2 = options["l2"] = 0.25
    if rng.random() < 0.3:
        options["block_size"] = int(rng.choice([1, 3, 64]))
    names, wrt = _names(rng, "bias" in model.held)
    classes = None
    if short != "value":
        options["wrt"] = wrt
        if short != "hvp" and names != ("X",) and rng.random() < 0.15:
            classes = sorted(rng.choice(model.k, int(rng.integers(1, model.k + 1)), replace=False).tolist())
            options["classes"] = classes
    call.options = options
    kind = "by weight" if model.losses.target.index is None else model.labels.dtype
    call.note = f"{dtype} n={model.n} m={model.m} k={model.k} labels {kind}{' bias' if 'bias' in model.held else ''}"
    X, W, bias = model.held["X"], model.held["W"], model.held.get("bias")
    inputs = [X, W, model.labels, *model.beside.values(), *([] if bias is None else [bias])]
    vectors: dict[str, Any] = {}
    arguments = (X, model.labels, W)
    if short == "hvp":
        held = []
        for name in names:
            shape = model.exact[name].shape
            turned = model.axis and len(shape) == 2
            one, exact = given(rng, call.library, rng.normal(size=shape[::-1] if turned else shape), dtype)
            held.append(one)
            vectors[name] = exact.T if turned else exact
        inputs += held
        arguments = (*arguments, tuple(held) if isinstance(wrt, tuple) or len(names) > 1 else held[0])
    got, generic = both(lambda: function(*arguments, bias, **options), inputs)
    total = model.losses.target.counts.sum() if reduction == "mean" else LD(1)
    factor = 1 / total if total else LD(0)
    for what, result in (("", got), ("generic ", generic)):
        if short in ("value", "value_and_grad"):
            value = result if short == "value" else result[0]
            check_value(model, value, reduction, factor, l2, dtype, what)
        if short != "value":
            several = result[1] if short == "value_and_grad" else result
            several = several if isinstance(several, tuple) else (several,)
            check_parts(model, several, names, vectors, factor, l2, classes, dtype, what)
    flat = [list(flatten(result)) for result in (got, generic)]
    for mine, theirs in zip(*flat, strict=True):
        alike(mine, theirs)


def flatten(result):
    for part in result if isinstance(result, tuple) else (result,):
        yield from flatten(part) if isinstance(part, tuple) else (part,)


def check_value(model, got, reduction, factor, l2, dtype, what):
    losses = model.losses
    error = losses.value_size * model.error + losses.size.sum(-1) * model.error
    error = np.where(np.isfinite(error), error, 0)
    penalty = LD(l2) / 2 * (model.exact["W"] ** 2).sum()
    if reduction == "none":
        fine = ~losses.special
        value, size = (np.where(fine, a, 0) for a in (losses.value, error))
        compare(np.where(fine, got, 0), value, dtype, size / TOLERANCE[dtype], what + "losses")
    elif not (losses.special.any() and factor):
        value = (losses.value.sum() if factor else 0) * factor + penalty
        size = error.sum() * factor + penalty * model.error.max(initial=0)
        compare(got, np.asarray(value), dtype, size / TOLERANCE[dtype], what + "loss")


def check_parts(model, got, names, vectors, factor, l2, classes, dtype, what):
    if model.losses.special.any() and factor:
        return
    exact = model.product(vectors) if vectors else model.gradient()
    for name, result in zip(names, got, strict=True):
        part, error = exact[name]
        if not factor:
            part, error = np.zeros(part.shape, LD), np.zeros(part.shape, LD)
        part, error = part * factor, error * factor
        if name == "W":
            penalty = LD(l2) * (vectors["W"] if vectors else model.exact["W"])
            # added to a gradient that was rounded
            error = error + TOLERANCE[dtype] * (np.abs(part) + np.abs(penalty)) * bool(l2)
            part = part + penalty
        if classes is not None and name != "X":
            part, error = part[classes], error[classes]
        result = result.T if model.axis and result.ndim == 2 else result
        compare(result, part, dtype, error / TOLERANCE[dtype], f"{what}{'hvp' if vectors else 'grad'} {name}")
