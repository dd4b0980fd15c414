"""Random calls on NumPy and torch against slow formulas in extended precision: ``python tests/fuzz.py --calls 100000``.

Shapes, formats, strides, special values and options are drawn; every call has to end without an error, a warning or
a write to its input, agree with the formula, and be NaN, infinite or 0 where the generic kernel is.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
import traceback
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import softgrad as sg

LD = np.longdouble
#: Relative tolerance: the bounds of docs/accuracy.md with some room, those of half precision for one rounding.
TOLERANCE = {"float64": 4.5e-13, "float32": 1.9e-5, "float16": 1.1e-3, "bfloat16": 9e-3}
SMALLEST = {"float64": 5e-324, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}
LARGEST = {"float64": 1.79e308, "float32": 3.4e38, "float16": 65504.0, "bfloat16": 3.38e38}
SIZES = (1, 1, 2, 2, 3, 4, 7, 8, 12, 17, 33, 50, 130)


@dataclass
class Call:
    """One random call: enough to make it again, and to say what it was."""

    seed: tuple[int, int]
    library: str
    function: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    def __str__(self) -> str:
        options = {k: v if np.ndim(v) == 0 else f"array{np.shape(v)}" for k, v in self.options.items()}
        return f"--seed {self.seed[0]} --only {self.seed[1]}: {self.library} {self.function} {self.note} {options}"


# --------------------------------------------------------------------------- arguments


def shape_of(rng, least=0):
    ndim = int(rng.choice([1, 1, 2, 2, 2, 3, 4])) if least or rng.random() > 0.03 else 0
    shape = [int(rng.choice(SIZES)) for _ in range(max(ndim, least))]
    while np.prod(shape, dtype=int) > 4000:
        shape[int(np.argmax(shape))] //= 2
    if rng.random() < 0.02 and shape:
        shape[int(rng.integers(len(shape)))] = 600
    if rng.random() < 0.03 and len(shape) > 1:
        shape[0] = 0
    return tuple(shape)


def values_of(rng, shape, dtype):
    scale = rng.choice([1e-3, 1.0, 1.0, 10.0, 100.0, 700.0])
    x = rng.normal(size=shape) * scale
    if rng.random() < 0.15:
        x = x + rng.choice([-1, 1]) * rng.choice([60.0, 500.0, 1e4])
    if rng.random() < 0.1:
        x = np.round(x)
    if rng.random() < 0.3 and x.size:
        special = [np.nan, np.inf, -np.inf, -np.inf, -0.0, 0.0, LARGEST[dtype], -LARGEST[dtype], SMALLEST[dtype]]
        chosen = rng.choice(special, int(rng.integers(1, 3)))
        x = np.where(rng.random(shape) < rng.choice([0.02, 0.3]), rng.choice(chosen, shape), x)
    if rng.random() < 0.05:
        x = np.full(shape, rng.normal() * scale)
    return np.clip(x, -LARGEST[dtype], LARGEST[dtype]) if dtype in ("float16", "bfloat16") else x


def strided(rng, x):
    """The same values, another layout of memory."""
    kind = rng.integers(6)
    if kind == 1 and x.ndim > 1:
        order = rng.permutation(x.ndim)
        return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))
    if kind == 2 and x.ndim:
        wide = np.empty((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        wide[..., 1::2] = np.asarray(77, x.dtype)
        return wide[..., ::2]
    if kind == 3 and x.ndim and x.shape[0] > 0:
        return np.broadcast_to(x[:1], x.shape)
    return x


def given(rng, library, x, dtype):
    """(the array of the library, the exact values it holds)."""
    x = strided(rng, np.asarray(x).astype(np.float32 if dtype == "bfloat16" else dtype))
    if library == "torch":
        import torch

        base, strides = np.array(x), x.strides
        tensor = torch.from_numpy(base)
        if any(s == 0 and n > 1 for s, n in zip(strides, x.shape, strict=True)):
            tensor = tensor[:1].clone().expand(x.shape)
        elif x.ndim > 1 and not x.flags.c_contiguous:
            order = tuple(np.argsort([-s for s in strides], kind="stable"))
            tensor = tensor.permute(order).contiguous().permute(tuple(np.argsort(order)))
        tensor = tensor.to(getattr(torch, dtype))
        return tensor, tensor.double().numpy().astype(LD)
    if rng.random() < 0.1 and x.ndim:
        x = np.flip(np.ascontiguousarray(np.flip(x, -1)), -1)
    if isinstance(x, np.ndarray) and x.flags.owndata and rng.random() < 0.3:
        x.flags.writeable = False
    return x, x.astype(LD)


def like(library, a):
    if library == "torch":
        import torch

        return torch.from_numpy(np.array(a))
    return np.asarray(a)


def host(a):
    if isinstance(a, tuple):
        return tuple(host(part) for part in a)
    if hasattr(a, "detach"):
        return a.detach().double().numpy()
    return np.asarray(a, dtype=np.float64)


# --------------------------------------------------------------------------- formulas


def rows_of(x, axes):
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = np.transpose(x, (*kept, *axes))
    outer = moved.shape[: len(kept)]
    flat = moved.reshape((*outer, int(np.prod([x.shape[a] for a in axes], dtype=int))))
    return flat, lambda r: np.transpose(r.reshape(moved.shape), np.argsort((*kept, *axes)))


def parts(x, shown):
    """(finite rows, maximum, exponentials, sum without the maximum's own) of rows, hidden ones left out."""
    low = np.where(shown, x, -np.inf)
    m = low.max(-1, keepdims=True, initial=-np.inf)
    fine = np.isfinite(m) & ~np.isnan(np.where(shown, x, 0)).any(-1, keepdims=True)
    e = np.where(shown & fine, np.exp(np.where(fine, low - np.where(fine, m, 0), 0)), LD(0))
    index = np.argmax(np.where(fine, low, 0), -1)[..., None] if x.shape[-1] else None
    without = e.copy()
    if index is not None:
        np.put_along_axis(without, index, LD(0), -1)
    return fine, m, e, without.sum(-1, keepdims=True)


def dense(function, x, shown):
    """Exact softmax, log_softmax or logsumexp of rows by the table of edge cases."""
    fine, m, e, rest = parts(x, shown)
    some = shown.any(-1, keepdims=True)
    if function == "softmax":
        out = np.where(fine, e / (1 + rest), np.nan)
        return np.where(shown, out, 0)
    log = np.log1p(rest)
    if function == "log_softmax":
        with np.errstate(invalid="ignore"):
            out = np.where(fine, np.where(shown, x, 0) - np.where(fine, m, 0) - log, np.nan)
        return np.where(shown, out, -np.inf)
    nan = np.isnan(np.where(shown, x, 0)).any(-1, keepdims=True)
    out = np.where(fine, np.where(fine, m, 0) + log, np.where(nan, np.nan, m))
    return np.where(some, out, -np.inf)[..., 0]


# --------------------------------------------------------------------------- comparing


class WrongError(AssertionError):
    """A result that differs from what it has to be."""


def compare(got, exact, dtype, scale=None, what=""):
    """Finite results within the tolerance, of ``scale`` where given; others the same."""
    if got.shape != exact.shape:
        raise WrongError(f"{what} shape {got.shape}, expected {exact.shape}")
    size = np.abs(exact) if scale is None else np.maximum(np.abs(exact), scale)
    known = np.isnan(exact) | (np.abs(exact) < LARGEST[dtype] * 0.99) | np.isinf(exact)
    same = (np.isnan(got) & np.isnan(exact)) | (got == exact)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(got - exact) <= TOLERANCE[dtype] * size + 200 * SMALLEST[dtype]
    wrong = known & ~(same | (near & np.isfinite(exact)))
    if wrong.any():
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise WrongError(f"{what} at {at}: {got[at]!r}, expected {exact[at]!r}")


def alike(got, generic, what=""):
    """NaN and infinite where the generic kernel is."""
    for name, test in (("NaN", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)):
        if not np.array_equal(test(got), test(generic)):
            at = np.unravel_index(int(np.argmax(test(got) != test(generic))), got.shape)
            raise WrongError(f"{what} {name} where the generic kernel is not at {at}: {got[at]!r}, {generic[at]!r}")


# --------------------------------------------------------------------------- one call


def guarded(call, inputs):
    """The result, without a warning and with the inputs as they were."""
    before = [host(a).tobytes() for a in inputs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = host(call())
    for was, a in zip(before, inputs, strict=True):
        if host(a).tobytes() != was:
            raise WrongError("an input was written to")
    return out


def both(call, inputs):
    """The results of the default and of the generic kernels."""
    out = guarded(call, inputs)
    with sg.backends.use("generic"):
        return out, guarded(call, inputs)


def dense_call(rng, call, dtype):
    library = call.library
    call.function = str(rng.choice(["softmax", "log_softmax", "logsumexp"]))
    x, exact = given(rng, library, values_of(rng, shape_of(rng), dtype), dtype)
    axes = tuple(range(exact.ndim))
    axis = None
    if rng.random() < 0.8 and exact.ndim:
        axis = int(rng.integers(-exact.ndim, exact.ndim))
        axes = (axis % exact.ndim,)
        if exact.ndim > 1 and rng.random() < 0.15:
            axes = tuple(sorted(rng.choice(exact.ndim, 2, replace=False).tolist()))
            axis = axes
    options = call.options = {"axis": axis}
    if rng.random() < 0.15:
        options["precision"] = "high"
    shown = np.ones(exact.shape, bool)
    if rng.random() < 0.2:
        shape = tuple(n if rng.random() < 0.8 else 1 for n in exact.shape)
        mask = rng.random(shape) < rng.choice([0.3, 0.8])
        shown = np.broadcast_to(mask, exact.shape)
        options["where"] = like(library, mask)
    call.note = f"{dtype} {exact.shape}"
    function = getattr(sg, call.function)
    got, generic = both(lambda: function(x, **options), [x])
    if any(exact.shape[a] == 0 for a in axes) and call.function == "logsumexp":
        assert np.isneginf(got).all()
        return
    flat, back = rows_of(exact, axes)
    mask, _ = rows_of(shown, axes)
    result = dense(call.function, flat, mask)
    scale = None
    if call.function == "logsumexp":
        fine, m, _, _ = parts(flat, mask)
        scale = np.where(fine, np.abs(np.where(fine, m, 0)), 0)[..., 0]
    expected = result if call.function == "logsumexp" else back(result)
    compare(got, expected, dtype, scale, call.function)
    compare(generic, expected, dtype, scale, "generic")


def signed_call(rng, call, dtype):
    call.function = "logsumexp"
    shape = shape_of(rng, 1)
    x, exact = given(rng, call.library, values_of(rng, shape, dtype), dtype)
    b, factors = given(rng, call.library, np.round(rng.normal(size=shape) * 2, 2), dtype)
    options = call.options = {"axis": int(rng.integers(len(shape))), "return_sign": True, "b": b}
    call.note = f"{dtype} {shape} b"
    got, generic = both(lambda: sg.logsumexp(x, **options), [x, b])
    for mine, theirs in zip(got, generic, strict=True):
        alike(mine, theirs)
    if not exact.size or not np.isfinite(exact).all():
        return
    axis = options["axis"]
    m = exact.max(axis, keepdims=True)
    terms = factors * np.exp(exact - m)
    s, size = terms.sum(axis), np.abs(terms).sum(axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = m.squeeze(axis) + np.log(np.abs(s))
        condition = np.abs(m.squeeze(axis)) + np.abs(np.log(np.abs(s))) + 4 * size / np.abs(s)
    fine = np.abs(s) > 1e-3 * size
    compare(np.where(fine, got[0], 0), np.where(fine, value, 0), dtype, np.where(fine, condition, 0), "logsumexp")
    if not np.array_equal(got[1][fine], np.sign(s[fine]).astype(float)):
        raise WrongError("sign of the sum")


def loss_call(rng, call, dtype):
    library = call.library
    shape = shape_of(rng, 1)
    axis = int(rng.integers(len(shape)))
    if shape[axis] == 0:
        shape = (*shape[:axis], 3, *shape[axis + 1 :])
    x, exact = given(rng, library, values_of(rng, shape, dtype), dtype)
    k, samples = shape[axis], shape[:axis] + shape[axis + 1 :]
    reduction = str(rng.choice(["none", "sum", "mean"]))
    fields: dict[str, Any] = {"axis": axis - (len(shape) if rng.random() < 0.5 else 0), "reduction": reduction}
    given_: dict[str, Any] = {}
    is_dense, eps = rng.random() < 0.25, 0.0
    smooth = rng.random() < 0.2
    if smooth:
        eps = fields["label_smoothing"] = 0.1
    cw = np.ones(k, LD)
    if rng.random() < 0.2:
        w = np.round(rng.uniform(0, 2, k), 1)
        fields["class_weight"], cw = given(rng, library, w, dtype)
    sw = np.ones(samples, LD)
    if rng.random() < 0.25:
        w = np.where(rng.random(samples) < 0.3, 0.0, np.round(rng.uniform(0, 2, samples), 2))
        given_["sample_weight"], sw = given(rng, library, w, dtype)
    shown = np.ones(shape, bool)
    if rng.random() < 0.2:
        shown = rng.random(shape) < 0.7
        given_["where"] = like(library, shown)
    ignore = None
    if is_dense:
        q = np.where(rng.random((*samples, k)) < 0.3, 0.0, np.round(rng.dirichlet(np.ones(k), samples), 3))
        labels, q = given(rng, library, np.moveaxis(q, -1, axis), dtype)
        q = np.moveaxis(q, axis, -1)
    else:
        y = rng.integers(0, k, samples)
        if rng.random() < 0.3:
            ignore = fields["ignore_index"] = int(rng.choice([-100, -1, 0, k, 255]))
            y = np.where(rng.random(samples) < 0.3, ignore, y)
        if rng.random() < 0.1:
            y = np.where(rng.random(samples) < 0.2, int(rng.choice([-1, k, 100])), y)
        kinds = ["int8", "int16", "int32", "int64", "uint8"] if library == "numpy" else ["int32", "int64"]
        kinds = [kind for kind in kinds if np.size(y) == 0 or np.array_equal(np.asarray(y).astype(kind), y)]
        labels = like(library, np.asarray(y).astype(str(rng.choice(kinds))))
        q = (np.arange(k) == np.asarray(y)[..., None]).astype(LD)
    call.function = str(rng.choice(["value", "grad", "value_and_grad"]))
    call.options = {**fields, **given_}
    call.note = f"{dtype} {shape} labels {'by weight' if is_dense else labels.dtype}"
    loss = sg.CrossEntropy(**fields)
    name = "__call__" if call.function == "value" else call.function
    arrays = [x, labels, *(a for a in (given_.get("sample_weight"), given_.get("where")) if a is not None)]
    got, generic = both(lambda: getattr(loss, name)(x, labels, **given_), arrays)
    pairs = [(got, generic)] if call.function != "value_and_grad" else list(zip(got, generic, strict=True))
    wants = {"value": ("value",), "grad": ("grad",), "value_and_grad": ("value", "grad")}[call.function]
    rows, mask = np.moveaxis(exact, axis, -1), np.moveaxis(shown, axis, -1)
    value, gradient, size, special = formula(rows, mask, q, eps, cw, sw, None if is_dense else (np.asarray(y), ignore))
    counts = sw * (q * cw).sum(-1)
    if not is_dense:
        if "class_weight" not in fields:
            # a label that is no class counts for one: its loss is NaN
            counts = sw
        if ignore is not None:
            counts = np.where(np.asarray(y) == ignore, 0, counts)
    total = counts.sum() if reduction == "mean" else LD(1)
    # sums of losses near the largest number may overflow on the way to a mean or a weighted loss that does not
    huge = bool((np.abs(exact[np.isfinite(exact)]) > LARGEST[dtype] / 1e5).any()) and dtype != "float16"
    plain = reduction == "none" and not {"class_weight", "sample_weight"} & {*fields, *given_}
    for want, (mine, theirs) in zip(wants, pairs, strict=True):
        if (huge and not plain) or not total:
            continue
        alike(mine, theirs, want)
        if want == "grad":
            expected = gradient if reduction != "mean" else gradient / total if total else gradient * 0
            near = np.where(np.isfinite(size), size, 0) / (total if reduction == "mean" and total else 1)
            fine = np.broadcast_to(~special[..., None], expected.shape)
            swap = [np.moveaxis(np.where(fine, a, 0), -1, axis) for a in (expected, near)]
            for what, result in (("", mine), ("generic ", theirs)):
                result = np.where(np.moveaxis(fine, -1, axis), result, 0)
                compare(result, swap[0], dtype, swap[1], what + "gradient")
        elif reduction == "none":
            compare(np.where(special, 0, mine), np.where(special, 0, value), dtype, what="loss")
        elif not special.any() and value.sum() < LARGEST[dtype]:
            whole = value.sum() / total if total else LD(0)
            compare(mine, np.asarray(whole), dtype, what=f"{reduction} of the losses")


def formula(x, shown, q, eps, cw, sw, index):
    """(losses, gradient by row, what its rounding is a part of, rows whose result no formula gives)."""
    fine, m, e, rest = parts(x, shown)
    some = shown.any(-1)
    count = np.maximum(shown.sum(-1, keepdims=True), 1)
    v = cw * ((1 - LD(eps)) * q + np.where(shown, LD(eps), 0) * q.sum(-1, keepdims=True) / count)
    T = v.sum(-1, keepdims=True)
    low = np.where(shown, x, -np.inf)
    with np.errstate(invalid="ignore"):
        cost = np.log1p(rest) - np.where(fine, low - np.where(fine, m, 0), 0)
        value = np.where(v == 0, 0, v * cost).sum(-1)
    p = e / (1 + rest)
    gradient = np.where(shown, T * p - v, 0)
    size = np.where(shown, T * p + v, 0)
    if index is not None and not eps:
        # nothing cancels at the label
        others = np.where(q > 0, 0, e).sum(-1, keepdims=True)
        gradient = np.where(shown, np.where(q > 0, -v * others / (1 + rest), gradient), 0)
        size = np.abs(gradient)
    value, gradient = value * sw, gradient * sw[..., None]
    dead = ~some | (sw == 0)
    bad = np.zeros(sw.shape, bool)
    if index is not None:
        y, ignore = index
        if ignore is not None:
            dead = (sw == 0) | (y == ignore) | (~some & (y >= 0) & (y < x.shape[-1]))
        bad = ((y < 0) | (y >= x.shape[-1])) & ~((sw == 0) | (y == ignore if ignore is not None else False))
    value = np.where(bad, np.nan, np.where(dead, 0, value))
    gradient = np.where(dead[..., None], 0, gradient)
    special = bad | (~fine[..., 0] & ~dead)
    return value, gradient, np.where(dead[..., None], 0, size * sw[..., None]), special


KINDS = ((dense_call, 0.45), (signed_call, 0.1), (loss_call, 0.45))


def one(seed, number, library):
    """Make one call; raises what is wrong with it."""
    rng = np.random.default_rng([seed, number])
    call = Call((seed, number), library)
    dtypes = ["float64", "float32", "float32", "float64", "float16"] + (["bfloat16"] if library == "torch" else [])
    dtype = str(rng.choice(dtypes))
    kind = KINDS[int(rng.choice(len(KINDS), p=[share for _, share in KINDS]))][0]
    try:
        with np.errstate(all="ignore"):
            kind(rng, call, dtype)
    except Exception as error:
        error.add_note(str(call))
        raise
    return call


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--libraries", default="numpy,torch")
    parser.add_argument("--only", type=int, help="the number of one call, to make it again with a traceback")
    parser.add_argument("--failures", type=int, default=20, help="how many to print before it ends")
    options = parser.parse_args(arguments)
    libraries = options.libraries.split(",")
    numbers = range(options.calls) if options.only is None else [options.only]
    started, failed, done = time.perf_counter(), 0, collections.Counter()
    for number in numbers:
        library = libraries[number % len(libraries)]
        try:
            call = one(options.seed, number, library)
            done[f"{library} {call.function}"] += 1
        except Exception as error:  # noqa: BLE001 - whatever a call raises is what is looked for
            failed += 1
            notes = " ".join(getattr(error, "__notes__", []))
            print(f"{type(error).__name__}: {str(error)[:300]}\n  {notes}", flush=True)
            if options.only is not None:
                traceback.print_exc()
            if failed >= options.failures:
                break
    seconds = time.perf_counter() - started
    print(", ".join(f"{name} {count}" for name, count in sorted(done.items())))
    print(f"{sum(done.values()) + failed} calls in {seconds:.0f} s, {failed} failed, seed {options.seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
