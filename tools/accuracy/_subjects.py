"""Who is measured: softgrad on the arrays of each library, and what else computes the same."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

import arrays as suite
from softgrad import backends, cross_entropy, cross_entropy_grad, entropy, log_probs, log_softmax, logsumexp, softmax

from ._families import Case
from ._formats import Doubles

#: A function of (x, labels, where, b) on a library's arrays.
Call: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Arrays:
    """How a library is fed and read. ``put(host, dtype)``; dtype None keeps integers and masks."""

    put: Callable[[Any, str | None], Any]
    get: Callable[[Any], Doubles]
    dtypes: tuple[str, ...]
    context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    compile: Callable[[Call], Call] | None = None
    flushes: bool = False
    note: str = ""


@dataclass(frozen=True)
class Subject:
    """Functions by name, over one library's arrays."""

    name: str
    arrays: Arrays
    functions: dict[str, Callable[[int], Call]]
    #: None or "high" for softgrad; a peer is held to no bound.
    precision: str | None = None
    peer: bool = False
    wide: bool = True
    generic: bool = False
    #: Whether its kernels choose by shape and layout, which are then all measured.
    choosy: bool = False

    def run(self, function: str, case: Case) -> Doubles | None:
        """The function's result as float64 on the host; None where there is no such thing to ask."""
        make = self.functions.get(function)
        if make is None or case.form.name not in self.arrays.dtypes:
            return None
        put, name = self.arrays.put, case.form.name
        x = case.x
        where = case.where
        if self.peer and where is not None:
            x, where = np.where(where, x, -np.inf), None
        with self.arrays.context(), self._choice():
            arguments = [
                put(x, name),
                put(case.labels, None),
                None if where is None else put(where, None),
                None if case.b is None else put(case.b, name),
            ]
            out = self._compiled(function, case.axis % case.x.ndim)(*arguments)
            return None if out is None else self.arrays.get(out)

    def _choice(self) -> AbstractContextManager[Any]:
        return backends.use("generic") if self.generic else contextlib.nullcontext()

    def _compiled(self, function: str, axis: int) -> Call:
        return _compiled(self.arrays.compile, self.functions[function], axis, self.name)


@functools.cache
def _compiled(compile_: Callable[[Call], Call] | None, make: Callable[[int], Call], axis: int, name: str) -> Call:
    return compile_(make(axis)) if compile_ else make(axis)


# --------------------------------------------------------------------------- array libraries


def x64(wide: bool) -> AbstractContextManager[Any]:
    """JAX with float64, or without."""
    jax: Any = importlib.import_module("jax")
    # older ones have it among the experiments alone
    home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    context: AbstractContextManager[Any] = home.enable_x64(wide)
    return context


def open_arrays(name: str, wide: bool = True) -> Arrays:
    """The arrays of a library as the test suite makes them, all axes of Dask's in two chunks; or without float64."""
    library = suite.load(name)
    declared = library.declared
    context = library.context
    if name == "jax":
        context = functools.partial(x64, wide)
    elif not wide:
        device = library.xp.Device("no_float64")
        library = replace(library, device=device)

    def put(host: Any, dtype: str | None) -> Any:
        array = library.asarray(host, dtype)
        return array.rechunk(tuple(-(-n // 2) for n in array.shape)) if declared.chunked else array

    @contextlib.contextmanager
    def quiet() -> Iterator[None]:
        # the generic kernels leave each step to Dask: of a result beyond float16 NumPy warns where it is computed
        with context(), np.errstate(over="ignore") if declared.chunked else contextlib.nullcontext():
            yield

    return Arrays(
        put,
        lambda a: np.asarray(library.to_numpy(a), dtype=np.float64),
        (*declared.formats, "float32", *(("float64",) if wide else ())),
        quiet,
        declared.compile,
        declared.flushes(),
        library.description if name == "cupy" else "",
    )


def _ours(precision: str | None) -> dict[str, Callable[[int], Call]]:
    p: Any = precision
    return {
        "softmax": lambda axis: lambda x, y, where, b: softmax(x, axis=axis, where=where, precision=p),
        "log_softmax": lambda axis: lambda x, y, where, b: log_softmax(x, axis=axis, where=where, precision=p),
        "logsumexp": lambda axis: (
            lambda x, y, where, b: _first(
                logsumexp(x, axis=axis, b=b, where=where, return_sign=b is not None, precision=p)
            )
        ),
        "log_probs": lambda axis: lambda x, y, where, b: log_probs(x, y, axis=axis, where=where, precision=p),
        "entropy": lambda axis: lambda x, y, where, b: entropy(x, axis=axis, where=where, precision=p),
        "loss": lambda axis: (
            lambda x, y, where, b: cross_entropy(x, y, axis=axis, where=where, reduction="none", precision=p)
        ),
        "gradient": lambda axis: (
            lambda x, y, where, b: cross_entropy_grad(x, y, axis=axis, where=where, reduction="none", precision=p)
        ),
    }


def _first(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result


def ours(library: str, arrays: Arrays) -> Iterator[Subject]:
    """Softgrad on one library: its default and its high precision, and the generic kernels beside them."""
    for precision in (None, "high"):
        high = " high" if precision else ""
        replaced = library in backends.available()
        # what is compiled for each shape anew takes minutes, and knows no shape that is special
        choosy = replaced and not arrays.compile
        yield Subject(f"softgrad {library}{high}", arrays, _ours(precision), precision, choosy=choosy)
        if replaced:
            yield Subject(f"softgrad {library} generic{high}", arrays, _ours(precision), precision, generic=True)
    if library in ("jax", "array_api_strict"):
        yield Subject(
            f"softgrad {library} without float64, high", open_arrays(library, False), _ours("high"), "high", wide=False
        )


# --------------------------------------------------------------------------- peers


def _scipy(library: str, arrays: Arrays) -> Iterator[Subject]:
    special: Any = importlib.import_module("scipy.special")
    yield Subject(
        "scipy",
        arrays,
        {
            "softmax": lambda axis: lambda x, y, where, b: special.softmax(x, axis=axis),
            "log_softmax": lambda axis: lambda x, y, where, b: special.log_softmax(x, axis=axis),
            "logsumexp": lambda axis: (
                lambda x, y, where, b: _first(special.logsumexp(x, axis=axis, b=b, return_sign=b is not None))
            ),
        },
        peer=True,
    )


def _sklearn(library: str, arrays: Arrays) -> Iterator[Subject]:
    loss: Any = importlib.import_module("sklearn._loss.loss")

    def both(axis: int) -> Call:
        def run(x: Any, y: Any, where: Any, b: Any) -> Any:
            if x.ndim == 1:
                return loss.HalfMultinomialLoss(n_classes=len(x)).loss_gradient(y[None].astype(x.dtype), x[None])
            x = np.ascontiguousarray(x if axis == 1 else x.T)
            losses, gradient = loss.HalfMultinomialLoss(n_classes=x.shape[1]).loss_gradient(y.astype(x.dtype), x)
            return losses, gradient if axis == 1 else gradient.T

        return run

    def part(index: int) -> Callable[[int], Call]:
        def make(axis: int) -> Call:
            def run(x: Any, y: Any, where: Any, b: Any) -> Any:
                out = both(axis)(x, y, where, b)[index]
                return out[0] if x.ndim == 1 else out

            return run

        return make

    own = Arrays(arrays.put, arrays.get, ("float32", "float64"))
    yield Subject("scikit-learn", own, {"loss": part(0), "gradient": part(1)}, peer=True)


def _torch_peer(library: str, arrays: Arrays) -> Iterator[Subject]:
    import torch
    import torch.nn.functional as F  # noqa: N812

    def loss(axis: int) -> Call:
        def run(x: Any, y: Any, where: Any, b: Any) -> Any:
            classes_last = x if axis == x.ndim - 1 else x.movedim(axis, -1)
            return F.cross_entropy(classes_last, y, reduction="none")

        return run

    def gradient(axis: int) -> Call:
        def run(x: Any, y: Any, where: Any, b: Any) -> Any:
            x = x.detach().requires_grad_()
            return torch.autograd.grad(loss(axis)(x, y, where, b).sum(), x)[0]

        return run

    yield Subject(
        "torch",
        arrays,
        {
            "softmax": lambda axis: lambda x, y, where, b: torch.softmax(x, axis),
            "log_softmax": lambda axis: lambda x, y, where, b: torch.log_softmax(x, axis),
            "logsumexp": lambda axis: lambda x, y, where, b: None if b is not None else torch.logsumexp(x, axis),
            "loss": loss,
            "gradient": gradient,
        },
        peer=True,
    )


def _jax_peers(library: str, arrays: Arrays) -> Iterator[Subject]:
    jax: Any = importlib.import_module("jax")
    yield Subject(
        "jax",
        arrays,
        {
            "softmax": lambda axis: lambda x, y, where, b: jax.nn.softmax(x, axis=axis),
            "log_softmax": lambda axis: lambda x, y, where, b: jax.nn.log_softmax(x, axis=axis),
            "logsumexp": lambda axis: (
                lambda x, y, where, b: _first(jax.scipy.special.logsumexp(x, axis=axis, b=b, return_sign=b is not None))
            ),
        },
        peer=True,
    )
    if importlib.util.find_spec("optax") is None:
        return
    optax: Any = importlib.import_module("optax")

    def loss(axis: int) -> Call:
        return lambda x, y, where, b: optax.losses.softmax_cross_entropy_with_integer_labels(x, y, axis=axis)

    def gradient(axis: int) -> Call:
        return lambda x, y, where, b: jax.grad(lambda z: loss(axis)(z, y, where, b).sum())(x)

    yield Subject("optax", arrays, {"loss": loss, "gradient": gradient}, peer=True)


PEERS: dict[str, tuple[tuple[str, Callable[[str, Arrays], Iterator[Subject]]], ...]] = {
    "numpy": (("scipy", _scipy), ("sklearn", _sklearn)),
    "torch": (("torch", _torch_peer),),
    "jax": (("jax", _jax_peers),),
}


def subjects(libraries: list[str], peers: bool = True) -> Iterator[Subject]:
    """Everyone to be measured on these libraries; a peer that is not installed is left out.

    Raises
    ------
    ImportError
        A library that was asked for cannot be used.
    """
    for library in libraries:
        arrays = open_arrays(library)
        yield from ours(library, arrays)
        for package, make in PEERS.get(library, ()) if peers else ():
            if importlib.util.find_spec(package) is not None:
                yield from make(library, arrays)
