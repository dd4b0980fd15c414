"""Who is measured: softgrad on the arrays of each library, and what else computes the same."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from softgrad import backends, cross_entropy, cross_entropy_grad, log_softmax, logsumexp, softmax

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
    compile: Callable[[Call], Call] = lambda call: call
    compiles: bool = False
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
def _compiled(compile_: Callable[[Call], Call], make: Callable[[int], Call], axis: int, name: str) -> Call:
    return compile_(make(axis))


# --------------------------------------------------------------------------- array libraries


def _numpy() -> Arrays:
    return Arrays(
        lambda host, dtype: np.asarray(host, dtype=dtype),
        lambda a: np.asarray(a, dtype=np.float64),
        ("float16", "float32", "float64"),
    )


def _torch() -> Arrays:
    import torch

    def put(host: Any, dtype: str | None) -> Any:
        tensor = torch.from_numpy(np.array(host))
        return tensor if dtype is None else tensor.to(getattr(torch, dtype))

    return Arrays(
        put,
        lambda a: np.asarray(a.detach().double().numpy()),
        ("float16", "bfloat16", "float32", "float64"),
    )


def _jax(wide: bool = True) -> Arrays:
    jax: Any = importlib.import_module("jax")
    jnp: Any = importlib.import_module("jax.numpy")
    # older ones have it among the experiments alone
    home = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")

    def put(host: Any, dtype: str | None) -> Any:
        if dtype == "bfloat16":
            host = np.asarray(host, dtype=np.float32)
        return jnp.asarray(host, dtype=dtype)

    halves = ("float16", "bfloat16", "float32")
    return Arrays(
        put,
        lambda a: np.asarray(a.astype("float32") if a.dtype == jnp.bfloat16 else a).astype(np.float64),
        (*halves, "float64") if wide else halves,
        lambda: home.enable_x64(wide),
        jax.jit,
        True,
        flushes=jax.default_backend() == "cpu",
    )


def _strict(wide: bool = True) -> Arrays:
    strict: Any = importlib.import_module("array_api_strict")
    home, away = strict.Device("CPU_DEVICE"), strict.Device("device1" if wide else "no_float64")

    def put(host: Any, dtype: str | None) -> Any:
        # what the device has no room for is made narrow on the host
        host = np.asarray(host, dtype=dtype)
        return strict.asarray(host, device=away)

    return Arrays(
        put,
        lambda a: np.asarray(a.to_device(home)).astype(np.float64),
        ("float32", "float64") if wide else ("float32",),
    )


#: Asked in a process of its own: the emulation has to come before anything imports CuPy.
_PROBE = "import cupy; assert cupy.cuda.runtime.getDeviceCount()"


def _cupy() -> Arrays:
    note = ""
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    if probe.returncode and importlib.util.find_spec("cupy_on_cpu") is not None:
        cupy: Any = importlib.import_module("cupy_on_cpu").install()
        note = "CuPy on the CPU, where no GPU was found"
    else:
        cupy = importlib.import_module("cupy")
    return Arrays(
        lambda host, dtype: cupy.asarray(np.asarray(host, dtype=dtype)),
        lambda a: np.asarray(cupy.asnumpy(a)).astype(np.float64),
        ("float16", "float32", "float64"),
        note=note,
    )


def _dask() -> Arrays:
    dask: Any = importlib.import_module("dask")
    da: Any = importlib.import_module("dask.array")

    def put(host: Any, dtype: str | None) -> Any:
        host = np.asarray(host, dtype=dtype)
        # more chunks than one along every axis
        return da.from_array(host, chunks=tuple(-(-n // 2) for n in host.shape))

    @contextlib.contextmanager
    def context() -> Iterator[None]:
        # the generic kernels leave each step to Dask: of a result beyond float16 NumPy warns where it is computed
        with dask.config.set(scheduler="synchronous"), np.errstate(over="ignore"):
            yield

    return Arrays(
        put,
        lambda a: np.asarray(a.compute(), dtype=np.float64),
        ("float16", "float32", "float64"),
        context,
    )


LIBRARIES: dict[str, Callable[[], Arrays]] = {
    "numpy": _numpy,
    "torch": _torch,
    "jax": _jax,
    "array_api_strict": _strict,
    "cupy": _cupy,
    "dask": _dask,
}


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
        choosy = replaced and not arrays.compiles
        yield Subject(f"softgrad {library}{high}", arrays, _ours(precision), precision, choosy=choosy)
        if replaced:
            yield Subject(f"softgrad {library} generic{high}", arrays, _ours(precision), precision, generic=True)
    narrow: dict[str, Callable[[bool], Arrays]] = {"jax": _jax, "array_api_strict": _strict}
    if library in narrow:
        yield Subject(
            f"softgrad {library} without float64, high", narrow[library](False), _ours("high"), "high", wide=False
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
        arrays = LIBRARIES[library]()
        yield from ours(library, arrays)
        for package, make in PEERS.get(library, ()) if peers else ():
            if importlib.util.find_spec(package) is not None:
                yield from make(library, arrays)
