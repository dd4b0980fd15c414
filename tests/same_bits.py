"""Whether a row's result depends on the row alone: ``python tests/same_bits.py --libraries numpy,torch``.

Each function is called on one large array and on the same rows in other company: alone, few, many, from other places,
in other layouts of memory, on other numbers of threads, with the value's gradient and without. The bits must be equal.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import arrays
import softgrad as sg

#: Classes, around the limits between kernels: of a vector, of a short row, of a block's sums, of a long row's parts.
CLASSES = (1, 2, 3, 5, 7, 8, 9, 10, 15, 16, 17, 31, 33, 48, 100, 129, 257, 1000, 1025, 4099, 8192, 12345, 40000, 100000)
#: Those that are enough for a kernel of each kind; and elsewhere than on NumPy, and for large arrays.
SOME, FEW = (1, 2, 3, 5, 8, 9, 16, 17, 33, 129, 257, 1025, 4099, 40000), (3, 17, 257, 4099)
#: Libraries that compile anew for each shape: there the promise is for one program.
ONE_SHAPE = ("jax",)
#: Libraries whose generic code takes sums in an order that the layout of memory decides: each is compared with itself.
ONE_LAYOUT = ("array_api_strict", "cupy")
#: Elements of the largest array of a case: enough for several threads; and where these are not in question.
LARGEST, SMALL = 300_000, 30_000
#: Libraries whose calls a thread of our own kernels takes a part of.
THREADED = ("numpy", "torch")
Rows = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Layout:
    """How rows lie in memory: ``put(asarray, xp, rows)`` gives the array, ``axis`` is that of the classes."""

    name: str
    axis: int
    put: Callable[[Any, Any, Rows], Any]
    #: The samples' shape of so many rows.
    samples: Callable[[int], tuple[int, ...]] = lambda n: (n,)


def _strided(asarray: Any, xp: Any, a: Rows) -> Any:
    return asarray(np.stack([a, a[::-1]], axis=-1).reshape(len(a), -1))[:, ::2]


def _offset(asarray: Any, xp: Any, a: Rows) -> Any:
    return xp.reshape(asarray(np.concatenate([a[:1, :1].ravel(), a.ravel()]))[1:], a.shape)


def _middle(asarray: Any, xp: Any, a: Rows) -> Any:
    outer, inner = _two(len(a))
    return asarray(np.ascontiguousarray(a.reshape(outer, inner, -1).transpose(0, 2, 1)))


def _two(n: int) -> tuple[int, int]:
    outer = next(i for i in (5, 3, 2, 1) if n % i == 0)
    return outer, n // outer


LAYOUTS = (
    Layout("rows", 1, lambda asarray, xp, a: asarray(a)),
    Layout("offset", 1, _offset),
    Layout("strided", 1, _strided),
    Layout("fortran", 1, lambda asarray, xp, a: xp.permute_dims(asarray(np.ascontiguousarray(a.T)), (1, 0))),
    Layout("class first", 0, lambda asarray, xp, a: asarray(np.ascontiguousarray(a.T))),
    Layout("class in the middle", 1, _middle, _two),
)
ROWS = LAYOUTS[0]


def rows_of(n: int, k: int, dtype: str, calm: bool, seed: int = 0) -> Rows:
    """Rows of eight kinds, which kernels may take to be out of the ordinary; all of the first kind where ``calm``."""
    rng = np.random.default_rng(seed + k)
    x = rng.normal(size=(n, k)) * 2
    if not calm:
        at = rng.integers(0, k, n)
        each = np.arange(n)
        kind = each % 8
        x[kind == 1] *= 40
        x[kind == 2] -= 300
        x[each[kind == 3], at[kind == 3]] += 12  # one class has nearly all of the sum
        x[each[kind == 4], at[kind == 4]] = -np.inf
        x[kind == 5] = np.round(x[kind == 5])
        x[each[kind == 6], at[kind == 6]] = 100
        special = each[kind == 7]
        x[special, at[special]] = np.resize([np.inf, np.nan, -np.inf], len(special))
        x[special[2::3]] = -np.inf
    return x.astype(dtype)


@dataclass(frozen=True)
class Call:
    """Arrays of the same samples: logits, labels and what is of a sample or a class."""

    x: Any
    c: Any
    p: Any
    log_p: Any
    q: Any
    where: Any
    target: Any
    #: Of some classes of each sample, with the axis of the classes.
    some: Any
    some_c: Any
    some_log_p: Any
    labels: Any
    weight: Any
    class_weight: Any
    axis: int


def _loss(**options: Any) -> Callable[[Call], dict[str, Any]]:
    """What a loss and its derivatives give with options, in all ways to ask for them."""

    def call(a: Call) -> dict[str, Any]:
        given = {
            name: getattr(a, value[1:]) if isinstance(value, str) and value[0] == "@" else value
            for name, value in options.items()
        }
        labels = given.pop("labels", a.labels)
        common = {"reduction": "none", "axis": a.axis, **given}
        per_call = {name: common.pop(name) for name in ("sample_weight", "where") if name in common}
        loss = sg.CrossEntropy(**common)
        value, grad = loss.value_and_grad(a.x, labels, **per_call)
        return {
            "loss": loss(a.x, labels, **per_call),
            "loss, with its gradient": value,
            "gradient": loss.grad(a.x, labels, **per_call),
            "gradient, with its loss": grad,
            "hvp": loss.hvp(a.x, labels, a.c, **per_call),
            "hessian diagonal": loss.hessian_diag(a.x, labels, **per_call),
        }

    return call


def _dense(**options: Any) -> Callable[[Call], dict[str, Any]]:
    def call(a: Call) -> dict[str, Any]:
        given = {name: a.where if value == "@where" else value for name, value in options.items()}
        return {
            function.__name__: function(a.x, axis=a.axis, **given)
            for function in (sg.softmax, sg.log_softmax, sg.logsumexp)
        }

    return call


def _pulls(a: Call) -> dict[str, Any]:
    return {
        "softmax_vjp": sg.softmax_vjp(a.p, a.c, axis=a.axis),
        "softmax_jvp": sg.softmax_jvp(a.p, a.c, axis=a.axis),
        "log_softmax_vjp": sg.log_softmax_vjp(a.log_p, a.c, axis=a.axis),
        "log_softmax_jvp": sg.log_softmax_jvp(a.log_p, a.c, axis=a.axis),
    }


def _with_factors(a: Call) -> dict[str, Any]:
    value, sign = sg.logsumexp(a.x, axis=a.axis, b=a.c, return_sign=True)
    return {"logsumexp, b": value, "sign": sign}


def _entropy(a: Call) -> dict[str, Any]:
    out = {}
    for name, options in {"": {}, ", where": {"where": a.where}, ", softcap": {"softcap": 30.0}}.items():
        out[f"entropy{name}"] = sg.entropy(a.x, axis=a.axis, **options)
        out[f"entropy_vjp{name}"] = sg.entropy_vjp(a.x, a.weight, axis=a.axis, **options)
    return out


def _log_probs(a: Call) -> dict[str, Any]:
    out = {}
    for name, options in {"": {}, ", where": {"where": a.where}, ", temperature": {"temperature": 0.7}}.items():
        out[f"log_probs{name}"] = sg.log_probs(a.x, a.some, axis=a.axis, **options)
        out[f"log_probs_vjp{name}"] = sg.log_probs_vjp(a.x, a.some, a.some_c, axis=a.axis, **options)
    out["log_probs, softcap"] = sg.log_probs(a.x, a.some, axis=a.axis, softcap=30.0)
    return out


def _divergences(a: Call) -> dict[str, Any]:
    out = {}
    calls = {
        "kl": (sg.kl_divergence, sg.kl_divergence_value_and_grad, {}),
        "kl, where": (sg.kl_divergence, sg.kl_divergence_value_and_grad, {"where": a.where}),
        "js": (sg.js_divergence, sg.js_divergence_value_and_grad, {}),
    }
    for name, (value, both, options) in calls.items():
        common = {"axis": a.axis, "reduction": "none", **options}
        out[name] = value(a.x, a.target, **common)
        out[f"{name}, with its gradients"], grads = both(a.x, a.target, wrt=("logits", "target_logits"), **common)
        out |= dict(zip((f"{name}, gradient", f"{name}, gradient by the target"), grads, strict=True))
    given = a.x, a.some_log_p, a.some
    out["top k"] = sg.top_k_kl_divergence(*given, axis=a.axis, reduction="none")
    both = sg.top_k_kl_divergence_value_and_grad(*given, axis=a.axis, reduction="none")
    return out | dict(zip(("top k, with its gradient", "top k, gradient"), both, strict=True))


GROUPS: dict[str, Callable[[Call], dict[str, Any]]] = {
    "dense": _dense(),
    "dense, where": _dense(where="@where"),
    "dense, high": _dense(precision="high"),
    "logsumexp, b": _with_factors,
    "derivatives": _pulls,
    "entropy": _entropy,
    "log_probs": _log_probs,
    "divergences": _divergences,
    "loss": _loss(),
    "loss, ignore_index": _loss(ignore_index=0),
    "loss, sample_weight": _loss(sample_weight="@weight"),
    "loss, class_weight": _loss(class_weight="@class_weight"),
    "loss, label_smoothing": _loss(label_smoothing=0.1),
    "loss, z_loss": _loss(z_loss=1e-3),
    "loss, where": _loss(where="@where"),
    "loss, all": _loss(label_smoothing=0.1, z_loss=1e-3, class_weight="@class_weight", sample_weight="@weight"),
    "loss, labels by class": _loss(labels="@q"),
    "loss, high": _loss(precision="high"),
}


def bits(a: Rows) -> Rows:
    """As integers; a NaN is any other."""
    a = np.where(np.isnan(a), np.asarray(np.nan, a.dtype), a)
    return a.view(f"u{a.dtype.itemsize}")


class Case:
    """Rows of so many classes and what belongs to them, on the host."""

    def __init__(self, name: str, k: int, dtype: str, calm: bool, largest: int = LARGEST) -> None:
        self.name, self.library, self.dtype = name, arrays.LOADERS[name](), dtype
        n = self.n = max(24 if k <= 10_000 else 16, largest // k)
        rng = np.random.default_rng(k)
        self.x = rows_of(n, k, dtype, calm)
        self.c = rng.normal(size=(n, k)).astype(dtype)
        with np.errstate(all="ignore"):
            wide = self.x.astype(np.float64)
            e = np.exp(wide - wide.max(1, keepdims=True))
            p = e / e.sum(1, keepdims=True)
            self.p, self.log_p = p.astype(dtype), np.log(p).astype(dtype)
            self.target = self.x + np.exp(rng.normal(size=(n, k)) * 4 - 4).astype(dtype)
        self.q = rng.random((n, k)).astype(dtype)
        self.where = rng.random((n, k)) > 0.2
        self.where[:, 0] = True
        self.some = np.argsort(rng.random((n, k)), 1)[:, :11]
        self.some_c, self.some_log_p = (np.take_along_axis(a, self.some, 1) for a in (self.c, self.log_p))
        self.labels = rng.integers(0, k, n)
        self.weight = rng.integers(0, 4, n).astype(dtype)
        self.class_weight = rng.random(k).astype(dtype)

    def call(self, group: str, layout: Layout, rows: Any) -> dict[str, Rows]:
        """What a group of functions gives for some rows, one a row again."""
        library, xp = self.library, self.library.xp

        def whole(a: Rows) -> Any:
            return layout.put(lambda host: library.asarray(host, None), xp, a[rows])

        def each(a: Rows) -> Any:
            some = a[rows]
            return library.asarray(some.reshape(layout.samples(len(some))), None)

        some = self.some, self.some_c, self.some_log_p
        arrays_ = (whole(a) for a in (self.x, self.c, self.p, self.log_p, self.q, self.where, self.target, *some))
        call = Call(
            *arrays_, each(self.labels), each(self.weight), library.asarray(self.class_weight, None), layout.axis
        )
        out, count = {}, len(self.x[rows])
        results = GROUPS[group](call)
        # at once: on Dask what they share is computed once
        hosts = library.declared.read_all(library.xp, list(results.values()))
        for name, host in zip(results, map(np.asarray, hosts), strict=True):
            if host.ndim > len(layout.samples(count)):
                host = np.moveaxis(host, layout.axis, -1)
                host = host.reshape(-1, host.shape[-1])
            out[name] = np.ascontiguousarray(host.reshape(count, -1))
        return out

    def compiled(self, group: str) -> bool:
        """Whether a program is compiled for each shape: not in high precision, which is NumPy's on a CPU."""
        return self.name in ONE_SHAPE and not group.endswith("high")

    def companies(self, group: str) -> Iterator[tuple[str, Layout, Any]]:
        """(name, layout, rows) of the calls that are compared with the one of all rows."""
        n, k = self.x.shape
        if self.compiled(group):
            for shift in (1, 5, n // 2):
                yield f"rows moved by {shift}", ROWS, np.roll(np.arange(n), shift)
            yield "rows in reverse", ROWS, np.arange(n)[::-1]
            return
        for i in (0, 3, 7, n - 1):
            yield f"row {i} alone", ROWS, slice(i, i + 1)
        for start, stop in ((1, n), (3, 5), (2, 19), (n - 13, n)):
            yield f"rows {start} to {stop}", ROWS, slice(start, stop)
        for size in (1 << 9, 1 << 11, 1 << 13, 1 << 14, 1 << 15, 1 << 17):
            some = size // k
            if 1 < some < n - 2:
                yield f"rows 1 to {some + 2}", ROWS, slice(1, some + 2)
        yield "calm rows", ROWS, np.arange(0, n, 8)
        yield "rows in reverse", ROWS, np.arange(n)[::-1]
        for layout in LAYOUTS[1:]:
            for stop in (15, n - n % 5):
                yield f"{layout.name}, {stop} rows", layout, slice(0, stop)
            if layout.name == "class first" and self.name not in ONE_LAYOUT:  # one column is as a row in memory
                yield f"{layout.name}, row 3 alone", layout, slice(3, 4)

    def differences(self, group: str, threads: tuple[int, ...] = (1, 2)) -> Iterator[tuple[str, str, int]]:
        """(function, company, rows that differ), 0 included."""
        with sg.backends.workers(1):
            wholes = {ROWS.name: self.call(group, ROWS, slice(None))}
        whole = wholes[ROWS.name]
        for one in whole:
            other = one.partition(", with its ")[0]
            if one != other and not self.compiled(group):
                yield one, "the other call", int((bits(whole[one]) != bits(whole[other])).any(1).sum())
        for many in threads:
            with sg.backends.workers(many):
                companies = self.companies(group) if many == 1 else [(f"{many} threads", ROWS, slice(None))]
                for company, layout, rows in companies:
                    key = layout.name if self.name in ONE_LAYOUT else ROWS.name
                    if key not in wholes:
                        n = len(self.x) - len(self.x) % 5
                        wholes[key] = self.call(group, layout, slice(0, n))
                    for name, some in self.call(group, layout, rows).items():
                        yield name, company, int((bits(some) != bits(wholes[key][name][rows])).any(1).sum())


@dataclass
class Found:
    """What was compared on a library in a dtype."""

    seen: int = 0
    differ: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: By group and function, the first of the comparisons that differ.
    examples: dict[tuple[str, str], str] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: Found) -> None:
        """Take in what was compared elsewhere."""
        self.seen += other.seen
        self.differ += other.differ
        self.examples = {**other.examples, **self.examples}
        self.seconds += other.seconds


def run(name: str, dtype: str, k: int, groups: tuple[str, ...], sizes: tuple[int, ...]) -> Found:
    """Compare rows of so many classes, at most so many elements: of all kinds, and then of calm ones."""
    found, started = Found(), time.process_time()
    for calm, largest in zip((False, True), sizes, strict=False):
        case = Case(name, k, dtype, calm, largest)
        for group in groups:
            with np.errstate(all="ignore"):
                for function, company, rows in case.differences(group):
                    found.seen += 1
                    if rows:
                        found.differ[group, function] += 1
                        words = f"{k} classes, {'calm, ' if calm else ''}{company}: {rows}"
                        found.examples.setdefault((group, function), words)
    found.seconds = time.process_time() - started
    return found


def main() -> int:
    """Compare on the libraries asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libraries", default="numpy,torch")
    parser.add_argument("--dtypes", default="float32,float64,float16")
    parser.add_argument("--classes", help="numbers of classes; without it those that are enough for every kernel")
    parser.add_argument("--groups", default="|".join(GROUPS))
    parser.add_argument("--largest", type=int, default=LARGEST, help="elements of the largest array")
    parser.add_argument("--every", action="store_true", help="all numbers of classes, calm rows as many: takes hours")
    given = parser.parse_args()
    groups, small, jobs = tuple(given.groups.split("|")), min(given.largest, SMALL), []
    for name in given.libraries.split(","):
        some = CLASSES if given.every else SOME if name == "numpy" else FEW
        some = tuple(map(int, given.classes.split(","))) if given.classes else some
        dtypes = [dtype for dtype in given.dtypes.split(",") if arrays.LOADERS[name]().has_dtype(dtype)]
        for dtype, k in itertools.product(dtypes, some):
            large = (given.largest, given.largest if given.every else small)
            sizes = large if given.every or (name in THREADED and k in FEW) else (small,)
            jobs.append((name, dtype, k, groups, sizes))
    all_found: dict[tuple[str, str], Found] = {}
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for (name, dtype, *_), found in zip(jobs, pool.map(run, *zip(*jobs, strict=True)), strict=True):
            all_found.setdefault((name, dtype), Found()).add(found)
    for (name, dtype), found in all_found.items():
        for what, count in sorted(found.differ.items()):
            print(f"  {dtype} | {' | '.join(what)}: {count} comparisons differ, as of {found.examples[what]} rows")
        total = found.differ.total()
        print(f"{name}, {dtype}: {found.seen} comparisons of rows' bits, {total} differ; CPU {found.seconds:.0f} s")
    return int(any(found.differ for found in all_found.values()))


if __name__ == "__main__":
    sys.exit(main())
