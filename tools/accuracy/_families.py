"""The inputs: families of rows that each ask for something else, exact in the format they are made for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ._formats import Doubles, Format

#: Samples and classes; the first shape is everybody's, the others are for kernels that choose by the shape.
SHAPES = ((96, 12), (120, 3), (40, 80))
#: How often the rows stand one after the other where an array is to be too large for a shortcut.
COPIES = 8
LONG = 1_000_000
Rng: TypeAlias = np.random.Generator
Shape: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """One input: 2-D logits (1-D for a flat axis), the axis of the classes, what goes with it."""

    family: str
    form: Format
    x: Doubles
    labels: npt.NDArray[np.int64]
    axis: int = -1
    where: npt.NDArray[np.bool_] | None = None
    b: Doubles | None = None
    #: Whether it differs from others by its shape alone.
    special: bool = False


def _rounded(form: Format, x: Any) -> Doubles:
    return form.round(np.clip(x, -form.largest, form.largest))


def _random_labels(rng: Rng, x: Doubles) -> npt.NDArray[np.int64]:
    """The label at the maximum in half of the rows, anywhere in the others."""
    n, k = x.shape
    return np.where(np.arange(n) % 2 == 0, x.argmax(1), rng.integers(0, k, n)).astype(np.int64)


def scales(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Normal variates from 1/1000 of a unit to as far as exp reaches."""
    return rng.normal(size=shape) * np.geomspace(1e-3, form.normal_gap / 3, shape[0])[:, None]


def huge_spread(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Magnitudes from the smallest to a quarter of the largest, both signs."""
    top = min(np.log2(form.largest), 1020.0) - 2
    return np.ldexp(rng.uniform(-1, 1, shape), rng.uniform(form.least, top, shape).astype(int))


def near_ties(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Rows whose largest differ in the last places."""
    top = form.round(rng.uniform(0.1, 30, (shape[0], 1)))
    step = 2.0 ** (np.floor(np.log2(top)) - form.digits + 1)
    near = top - step * rng.integers(0, 4, shape)
    return np.where(rng.random(shape) < 0.5, near, top - rng.uniform(0, 20, shape))


def dominant(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """One class ahead by a gap up to the last at which the others' probability is a normal number."""
    return _ahead(rng, form, shape, rng.uniform(-5, 5, shape[0]))


def low_rows(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """The same far below 0, where exp of the others is not a normal number any more."""
    return _ahead(rng, form, shape, rng.uniform(-0.45, -0.4, shape[0]) * form.normal_gap)


def high_rows(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """The same far above 0, where exp of the largest is infinite."""
    return _ahead(rng, form, shape, rng.uniform(1.0, 3.0, shape[0]) * form.normal_gap)


def _ahead(rng: Rng, form: Format, shape: Shape, top: Doubles) -> Doubles:
    n, k = shape
    gap = np.linspace(0.2, form.normal_gap - 1.5, n)
    x = (top - gap)[:, None] - rng.exponential(4.0, shape)
    first = rng.integers(0, k, n)
    x[np.arange(n), (first + 1) % k] = top - gap
    x[np.arange(n), first] = top
    return x


def common_offset(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Everyday differences on top of a large number."""
    offset = 2.0 ** (form.digits - 6)
    return rng.choice([-1, 1], (shape[0], 1)) * offset + rng.normal(size=shape) * 8


def masks(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Rows of which a mask hides a half, with NaN and infinity beneath it."""
    return rng.normal(size=shape) * form.normal_gap / 6


def subnormal(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Probabilities that are subnormal numbers."""
    x = rng.uniform(-form.last_gap, -form.normal_gap, shape)
    x[:, shape[1] // 2] = rng.uniform(-0.2, 0.2, shape[0])
    return x


def near_largest(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Values near the largest number, some of the opposite sign."""
    x = form.largest * (1 - rng.integers(0, 6, shape) * 2.0**-form.digits)
    return np.where(rng.random(shape) < 0.3, -x, x)


def ties(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Several classes that share the maximum."""
    x = np.where(rng.random(shape) < 0.4, 2.5, rng.uniform(-10, 2.5, shape))
    return x * np.linspace(0.5, 8, shape[0])[:, None]


def near_zero(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Logarithms of distributions: their log-sum-exp is as near to 0 as rounding leaves it."""
    return np.log(np.maximum(rng.dirichlet(np.full(shape[1], 0.7), shape[0]), 1e-30))


def certain(rng: Rng, form: Format, shape: Shape) -> Doubles:
    """Logarithms of distributions, all but one class as improbable as may be and alike: a rounding has one sign."""
    n, k = shape
    rest = np.exp(-np.linspace(0.7, form.normal_gap - 5, n))[:, None]
    x = np.broadcast_to(np.log(rest / (k - 1)), shape).copy()
    x[np.arange(n), rng.integers(0, k, n)] = np.log1p(-rest[:, 0])
    return x


PLAIN: tuple[Callable[[Rng, Format, Shape], Doubles], ...] = (
    scales,
    huge_spread,
    near_ties,
    dominant,
    low_rows,
    high_rows,
    common_offset,
    masks,
    subnormal,
    near_largest,
    ties,
    near_zero,
    certain,
)


def _long(rng: Rng, form: Format) -> Iterator[Case]:
    """A million classes: down the first axis of two columns, along two rows, and flat."""
    # few distinct values: the reference needs each once
    pool = _rounded(form, rng.normal(size=1500) * min(3.0, form.normal_gap / 8))
    x = rng.choice(pool, (LONG, 2))
    labels = rng.integers(0, LONG, 2)
    yield Case("long, axis 0", form, x, labels, axis=0)
    yield Case("long, axis 1", form, np.ascontiguousarray(x.T), labels)
    yield Case("long, flat", form, np.ascontiguousarray(x[:, 0]), labels[0])
    yield Case("long, equal", form, np.full(LONG, pool[0]), labels[1])


def _short(form: Format, number: int, shape: Shape) -> Case:
    family = PLAIN[number]
    rng = np.random.default_rng([20240229, number])
    x = _rounded(form, family(rng, form, shape))
    where = None
    labels = x.argmax(1) if family in (dominant, low_rows, high_rows) else _random_labels(rng, x)
    if family is masks:
        where = rng.random(x.shape) < 0.5
        where[np.arange(len(x)), labels] = True
        x = np.where(where, x, rng.choice([np.nan, np.inf, -np.inf, 0.0], x.shape))
    name = family.__name__.replace("_", " ")
    return Case(name, form, x, labels, where=where, special=shape != SHAPES[0])


def cases(form: Format, long: bool = True, special: bool = True) -> Iterator[Case]:
    """Every family in one format; with ``special``, in the shapes that only some kernels treat as special too."""
    for shape in SHAPES if special else SHAPES[:1]:
        for number in range(len(PLAIN)):
            yield _short(form, number, shape)
    rng = np.random.default_rng([20240229, 99])
    x = _rounded(form, rng.normal(size=SHAPES[0]) * 4)
    yield Case("signed b", form, x, _random_labels(rng, x), b=_rounded(form, rng.normal(size=x.shape)))
    x = rng.normal(size=(12, 1000)) * np.geomspace(0.1, form.normal_gap / 4, 12)[:, None]
    x = _rounded(form, x)
    yield Case("many classes", form, x, _random_labels(rng, x))
    if long:
        yield from _long(rng, form)


def every(step: int, case: Case) -> Case:
    """The case with each ``step``-th of its rows."""
    where = None if case.where is None else case.where[::step]
    b = None if case.b is None else case.b[::step]
    return replace(case, x=case.x[::step], labels=case.labels[::step], where=where, b=b)


def together(inputs: Iterable[Case]) -> list[Case]:
    """The same rows in fewer cases: first those that are logits alone, one for each number of classes."""
    alike: dict[int, list[Case]] = {}
    others = []
    for case in inputs:
        if case.where is None and case.b is None:
            alike.setdefault(case.x.shape[1], []).append(case)
        else:
            others.append(case)
    merged = []
    for same in alike.values():
        x, labels = (np.concatenate([getattr(each, name) for each in same]) for name in ("x", "labels"))
        merged.append(replace(same[0], family="several", x=x, labels=labels))
    return merged + others


def layouts(case: Case) -> Iterator[tuple[Case, Callable[[Any], Any]]]:
    """The case with its rows repeated, and that with the class axis first; with what does the same to a result."""
    if case.x.ndim == 1 or case.x.size > 1 << 16 or case.axis != -1:
        return
    again = np.arange(len(case.x) * COPIES) % len(case.x)

    def of(a: Any) -> Any:
        return None if a is None else a[again]

    def first(a: Any) -> Any:
        return None if a is None else np.ascontiguousarray(of(a).T)

    parts = ("x", "labels", "where", "b")
    yield replace(case, **{p: of(getattr(case, p)) for p in parts}), of
    yield replace(case, axis=0, **{p: first(getattr(case, p)) for p in parts}), first
