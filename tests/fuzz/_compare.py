"""Results against what they have to be, and calls that must leave their inputs alone and say nothing."""

from __future__ import annotations

import warnings

import numpy as np

import softgrad as sg

from ._inputs import LARGEST, SMALLEST, host

#: Libraries that take a number below the smallest normal one for 0.
FLUSHING = ("jax",)
#: The least number that results are told apart by, of the library under test.
_unit = dict(SMALLEST)

#: Relative tolerance: the bounds of docs/accuracy.md with some room, those of half precision for one rounding.
TOLERANCE = {"float64": 4.5e-13, "float32": 1.9e-5, "float16": 1.1e-3, "bfloat16": 9e-3}


class WrongError(AssertionError):
    """A result that differs from what it has to be."""


def measure_for(library):
    """Judge results of ``library``."""
    normal = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-24, "bfloat16": 2.0**-126}
    _unit.update(normal if library in FLUSHING else SMALLEST)


def unit(dtype):
    """What a number may be off by for being small."""
    return _unit[dtype]


def compare(got, exact, dtype, scale=None, what="", factor=1):
    """Finite results within the tolerance, of ``scale`` where given; others the same.

    ``factor`` is what an exponential is multiplied by at most: in subnormal numbers it stretches their unit.
    """
    if got.shape != exact.shape:
        raise WrongError(f"{what} shape {got.shape}, expected {exact.shape}")
    size = np.abs(exact) if scale is None else np.maximum(np.abs(exact), scale)
    known = np.isnan(exact) | (np.abs(exact) < LARGEST[dtype] * 0.99) | np.isinf(exact)
    same = (np.isnan(got) & np.isnan(exact)) | (got == exact)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(got - exact) <= TOLERANCE[dtype] * size + 200 * unit(dtype) * factor
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
