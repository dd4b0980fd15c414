"""Whether ``precision="high"`` gives the same bits on every library: ``python tests/same_bits_libraries.py``.

Needs ``PYTHONPATH=tests:tools``. The rows are those of the accuracy suite's families, drawn anew until so many values
of each function have been compared with what NumPy's kernels gave for them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

import arrays
import softgrad as sg
from accuracy._families import PLAIN
from accuracy._formats import FORMATS, Format

#: Classes, around the limits between kernels.
CLASSES = (2, 5, 12, 16, 40, 129, 300, 1000)
#: (logits of each function, elements of the arrays that are compared at a time): so few that every family is met with
#: every number of classes, and as many as take hours.
USUAL, EVERY = (2_000_000, 16_000), (100_000_000, 240_000)
#: By name: the library, and whose kernels run; with "numpy" all are compared. Of JAX's arrays: as they are, without
#: float64 at all, and as a program compiles them.
SUBJECTS = {
    "generic": ("numpy", "generic"),
    "numba": ("numpy", "numba"),
    "torch": ("torch", None),
    "torch's own": ("torch", "torch"),
    "torch generic": ("torch", "generic"),
    "array_api_strict": ("array_api_strict", None),
    "jax": ("jax", None),
    "jax in 32 bits": ("jax", None),
    "jax.jit": ("jax", None),
    "jax.jit generic": ("jax", "generic"),
    "dask": ("dask", None),
    "dask generic": ("dask", "generic"),
    "cupy": ("cupy", None),
}


def _loss(**options: Any) -> Callable[..., dict[str, Any]]:
    def call(a: dict[str, Any]) -> dict[str, Any]:
        given = {
            name: a[value[1:]] if isinstance(value, str) and value[0] == "@" else value
            for name, value in options.items()
        }
        labels = given.pop("labels", a["labels"])
        value, grad = sg.cross_entropy_value_and_grad(a["x"], labels, reduction="none", precision="high", **given)
        return {"loss": value, "gradient": grad}

    return call


def _dense(a: dict[str, Any]) -> dict[str, Any]:
    return {f.__name__: f(a["x"], axis=-1, precision="high") for f in (sg.softmax, sg.log_softmax, sg.logsumexp)}


def _masked(a: dict[str, Any]) -> dict[str, Any]:
    return {
        f"{f.__name__}, where": f(a["x"], axis=-1, where=a["where"], precision="high")
        for f in (sg.softmax, sg.log_softmax, sg.logsumexp)
    }


def _signed(a: dict[str, Any]) -> dict[str, Any]:
    value, sign = sg.logsumexp(a["x"], axis=-1, b=a["b"], return_sign=True, precision="high")
    return {"logsumexp, b": value, "sign": sign}


GROUPS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "dense": _dense,
    "dense, where": _masked,
    "b": _signed,
    "loss": _loss(),
    "loss, distribution": _loss(labels="@q"),
    "loss, label_smoothing": _loss(label_smoothing=0.1),
    "loss, class_weight": _loss(class_weight="@class_weight"),
    "loss, temperature": _loss(temperature=0.7),
    "loss, softcap": _loss(softcap=30.0),
    "loss, z_loss": _loss(z_loss=1e-3),
    "loss, focal": _loss(focal=2.0),
    "loss, where": _loss(where="@where"),
}


@dataclass
class Tally:
    """What was compared of a function on a library."""

    values: int = 0
    differ: int = 0
    #: Results that are 0 where others are subnormal numbers.
    flushed: int = 0
    example: str = ""


def batch(family: Any, form: Format, k: int, seed: int, values: int) -> dict[str, np.ndarray[Any, Any]]:
    """Rows of a family and what goes with them, in float64 of the format's numbers."""
    n = max(12, values // k)
    rng = np.random.default_rng([seed, k])
    x = form.round(np.clip(family(rng, form, (n, k)), -form.largest, form.largest))
    where = rng.random((n, k)) < 0.7
    labels = np.where(np.arange(n) % 2 == 0, x.argmax(1), rng.integers(0, k, n))
    where[np.arange(n), labels] = True
    q = rng.dirichlet(np.ones(k), n)
    return {
        "x": x,
        "where": where,
        "labels": labels,
        "b": form.round(rng.normal(size=(n, k))),
        "q": form.round(q),
        "class_weight": form.round(rng.random(k) + 0.5),
    }


class Subject:
    """A library, and whose kernels run."""

    def __init__(self, name: str) -> None:
        library, self.kernels = SUBJECTS.get(name, (name, name))
        self.name, self.library = name, arrays.LOADERS[library]()
        self.compile = self.library.declared.compile if name.startswith("jax.jit") else None
        self.compiled: dict[str, Any] = {}

    @contextlib.contextmanager
    def context(self) -> Iterator[None]:
        """What the calls are made in."""
        with contextlib.ExitStack() as stack:
            if self.kernels:
                stack.enter_context(sg.backends.use(self.kernels))
            if self.name == "jax in 32 bits":
                jax = importlib.import_module("jax")
                home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
                stack.enter_context(home.enable_x64(False))
            stack.enter_context(self.library.context())
            stack.enter_context(np.errstate(all="ignore"))
            yield

    def run(self, group: str, host: dict[str, Any], dtype: str) -> dict[str, Any]:
        """The results of a group of functions, on the host in float64, which holds all numbers of the format."""
        call = GROUPS[group]
        if self.compile is not None:
            call = self.compiled.setdefault(group, self.compile(call))
        with self.context():
            given = {name: self.library.asarray(a, dtype if a.dtype.kind == "f" else None) for name, a in host.items()}
            out = call(given)
            return {name: np.asarray(self.library.to_numpy(a)) for name, a in out.items()}


def compare(got: Any, expected: Any, form: Format, tally: Tally, words: str) -> None:
    """Count what differs."""
    got, expected = got.astype(np.float64), expected.astype(np.float64)
    same = (got == expected) & (np.signbit(got) == np.signbit(expected)) | (np.isnan(got) & np.isnan(expected))
    tally.values += same.size
    if same.all():
        return
    tiny = (np.abs(expected) < form.tiny) & (expected != 0) & (got == 0)
    tally.flushed += int((~same & tiny).sum())
    off = ~same & ~tiny
    if off.any():
        tally.differ += int(off.sum())
        tally.example = tally.example or f"{words}: {got[off][0]!r}, not {expected[off][0]!r}"


def rounds() -> Iterator[tuple[int, Any, int]]:
    """(seed, family, classes) without end."""
    for seed in itertools.count(1):
        for k in CLASSES:
            for family in PLAIN:
                yield seed, family, k


def run(names: list[str], dtypes: list[str], groups: list[str], values: int, at_a_time: int) -> int:
    """Compare with NumPy or, where that lacks a format, with torch; print, and return how many differ."""
    found = 0
    everyone = [Subject(name) for name in dict.fromkeys(("numpy", "torch", *names))]
    for dtype in dtypes:
        form = FORMATS[dtype]
        # NumPy has no bfloat16, and array-api-strict none of half precision
        first, *subjects = (subject for subject in everyone if subject.library.has_dtype(dtype))
        subjects = [subject for subject in subjects if subject.name in names]
        tallies: dict[tuple[str, str, str], Tally] = {}
        spent: Counter[str] = Counter()
        done, words = 0, ", ".join(subject.name for subject in subjects)
        for seed, family, k in rounds():
            if done >= values:
                break
            host = batch(family, form, k, seed, at_a_time)
            done += host["x"].size
            for group in groups:
                started = time.perf_counter()
                expected = first.run(group, host, dtype)
                spent[first.name] += time.perf_counter() - started
                for subject in subjects:
                    started = time.perf_counter()
                    got = subject.run(group, host, dtype)
                    spent[subject.name] += time.perf_counter() - started
                    for name, result in got.items():
                        tally = tallies.setdefault((subject.name, group, name), Tally())
                        compare(result, expected[name], form, tally, f"{family.__name__}, {k} classes, seed {seed}")
        for (name, group, function), tally in tallies.items():
            if tally.differ or tally.flushed:
                print(
                    f"  {dtype} {name} | {group} | {function}: {tally.differ} of {tally.values:,} differ, "
                    f"{tally.flushed} flushed; {tally.example}"
                )
            found += tally.differ
        total = sum(tally.values for tally in tallies.values())
        print(
            f"{dtype}: {done:,} logits, {total:,} results of {words} compared with {first.name}'s; seconds: "
            + ", ".join(f"{name} {s:.0f}" for name, s in spent.items()),
            flush=True,
        )
    return found


def main() -> int:
    """Compare the libraries asked for with NumPy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libraries", default="generic,torch")
    parser.add_argument("--dtypes", default="float32,float16,bfloat16")
    parser.add_argument("--groups", default="|".join(GROUPS))
    parser.add_argument("--values", type=float, help="logits of each function; without it two million")
    parser.add_argument("--at-a-time", type=int, help="elements of the arrays that are compared at a time")
    parser.add_argument("--every", action="store_true", help="a hundred million logits, unless told: takes hours")
    given = parser.parse_args()
    libraries, groups = given.libraries.split(","), given.groups.split("|")
    values, at_a_time = EVERY if given.every else USUAL
    values, at_a_time = int(given.values or values), given.at_a_time or at_a_time
    jobs = [(libraries, [dtype], groups, values, at_a_time) for dtype in given.dtypes.split(",")]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        return int(any(pool.map(run, *zip(*jobs, strict=True))))


if __name__ == "__main__":
    sys.exit(main())
