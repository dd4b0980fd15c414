"""Who runs: softgrad on the arrays of each library, the peers that are installed, and the floors."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np

from ... import (
    backends,
    cross_entropy,
    cross_entropy_value_and_grad,
    linear_cross_entropy_value_and_grad,
    log_softmax,
    logsumexp,
    precision,
    softmax,
)
from ..._array.libraries import known
from ..._array.namespace import named
from ._cases import Case, Data

Call: TypeAlias = Callable[[], Any]
Contender: TypeAlias = tuple[str, Call]


def installed(name: str) -> bool:
    """Whether a package can be imported here."""
    return importlib.util.find_spec(name) is not None


def hold_threads(count: int) -> None:
    """Hold PyTorch, where it is installed, to ``count`` threads; the others follow the environment."""
    if installed("torch"):
        import torch

        torch.set_num_threads(count)


def _arrays(library: str, data: Data, device: Any = None) -> list[Any]:
    """The arrays of a case in a library, on its default device."""
    make, xp = known(library).make, named(library).xp
    return [make(xp, host, host.dtype.name, device) for host in (data.x, data.labels, data.W)]


def _waited(library: str, call: Call) -> Call:
    """The call, and the wait until its device is done."""
    synchronize = known(library).synchronize

    def run() -> Any:
        result = call()
        if synchronize is not None:
            synchronize(result)
        return result

    return run


def _softgrad(case: Case, x: Any, labels: Any, W: Any) -> Call:
    axis = case.axis
    return {
        "softmax": lambda: softmax(x, axis=axis),
        "log_softmax": lambda: log_softmax(x, axis=axis),
        "logsumexp": lambda: logsumexp(x, axis=axis),
        "loss": lambda: cross_entropy(x, labels, axis=axis),
        "loss+gradient": lambda: cross_entropy_value_and_grad(x, labels, axis=axis),
        "linear": lambda: linear_cross_entropy_value_and_grad(x, labels, W),
    }[case.operation]


def _with(context: Callable[[], AbstractContextManager[None]], call: Call) -> Call:
    def run() -> Any:
        with context():
            return call()

    return run


def _numpy(case: Case, data: Data) -> Iterator[Contender]:
    x, labels, W = data.x, data.labels, data.W
    yield "softgrad", _softgrad(case, x, labels, W)
    yield "softgrad generic", _with(lambda: backends.use("generic"), _softgrad(case, x, labels, W))
    if case.group == "dense":
        if installed("numba"):
            yield "softgrad without numba", _with(lambda: backends.use("numpy"), _softgrad(case, x, labels, W))
        yield "softgrad high", _with(lambda: precision("high"), _softgrad(case, x, labels, W))


def _scipy(case: Case, data: Data) -> Iterator[Contender]:
    from scipy import special

    x, axis = data.x, case.axis
    calls: dict[str, Call] = {
        "softmax": lambda: special.softmax(x, axis=axis),
        "log_softmax": lambda: special.log_softmax(x, axis=axis),
        "logsumexp": lambda: special.logsumexp(x, axis=axis),
    }
    if case.operation in calls:
        yield "scipy", calls[case.operation]
    elif case.operation in ("loss", "loss+gradient") and axis != 0:
        rows, labels = np.arange(len(data.labels)), data.labels

        def loss() -> Any:
            return np.mean(special.logsumexp(x, axis=1) - x[rows, labels])

        def both() -> Any:
            log_p = special.log_softmax(x, axis=1)
            gradient = np.exp(log_p)
            gradient[rows, labels] -= 1
            gradient /= len(rows)
            return -np.mean(log_p[rows, labels]), gradient

        yield "scipy", loss if case.operation == "loss" else both


def _torch_calls(case: Case, x: Any, labels: Any, W: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    import torch
    import torch.nn.functional as F  # noqa: N812 - its name everywhere

    axis = case.axis

    def loss(z: Any) -> Any:
        if case.axis == 0:
            return F.cross_entropy(z.T, labels)
        return F.cross_entropy(z, labels)

    def with_gradient(z: Any) -> Any:
        z = z.detach().requires_grad_(True)
        value = loss(z)
        (gradient,) = torch.autograd.grad(value, z)
        return value.detach(), gradient

    def linear(z: Any) -> Any:
        w = W.detach().requires_grad_(True)
        value = F.cross_entropy(z @ w.T, labels)
        (gradient,) = torch.autograd.grad(value, w)
        return value.detach(), gradient

    calls: dict[str, Callable[..., Any]] = {
        "softmax": lambda z: torch.softmax(z, axis),
        "log_softmax": lambda z: torch.log_softmax(z, axis),
        "logsumexp": lambda z: torch.logsumexp(z, axis),
        "loss": loss,
        "loss+gradient": with_gradient,
        "linear": linear,
    }
    return calls[case.operation], (x,)


def _torch(case: Case, data: Data, *, compiled: bool) -> Iterator[Contender]:
    import torch

    x, labels, W = _arrays("torch", data, "cuda" if torch.cuda.is_available() else None)
    function, args = _torch_calls(case, x, labels, W)
    yield "torch", _waited("torch", lambda: function(*args))
    if compiled and case.operation in ("softmax", "log_softmax", "logsumexp", "loss"):
        fast = torch.compile(function)
        yield "torch.compile", _waited("torch", lambda: fast(*args))
    yield "softgrad on torch", _waited("torch", _softgrad(case, x, labels, W))


def _jax(case: Case, data: Data) -> Iterator[Contender]:
    import jax
    import jax.numpy as jnp

    if data.x.dtype == np.float64:
        jax.config.update("jax_enable_x64", True)
    x, labels, W = _arrays("jax", data)
    axis = case.axis

    def loss(z: Any) -> Any:
        log_p = jax.nn.log_softmax(z, axis=axis)
        return -jnp.mean(jnp.take_along_axis(log_p, jnp.expand_dims(labels, axis), axis=axis))

    calls: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "softmax": (lambda z: jax.nn.softmax(z, axis=axis), (x,)),
        "log_softmax": (lambda z: jax.nn.log_softmax(z, axis=axis), (x,)),
        "logsumexp": (lambda z: jax.nn.logsumexp(z, axis=axis), (x,)),
        "loss": (loss, (x,)),
        "loss+gradient": (jax.value_and_grad(loss), (x,)),
        "linear": (jax.value_and_grad(lambda w: loss(x @ w.T)), (W,)),
    }
    function, args = calls[case.operation]
    fast = jax.jit(function)
    yield "jax.jit", _waited("jax", lambda: fast(*args))
    # ours compiled in the same way, on the peer's arrays
    ours = jax.jit(lambda *arrays: _softgrad(case, *arrays)())
    yield "softgrad on jax", _waited("jax", lambda: ours(x, labels, W))


def _sklearn(case: Case, data: Data) -> Iterator[Contender]:
    if case.operation != "linear":
        return
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    X, y = data.x, data.labels.astype(data.x.dtype)
    loss = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=len(data.W)), fit_intercept=False)
    coef = np.asfortranarray(data.W)
    yield "scikit-learn", lambda: loss.loss_gradient(coef, X, y)


def _optax(case: Case, data: Data) -> Iterator[Contender]:
    if case.operation not in ("loss", "loss+gradient") or case.axis == 0:
        return
    import jax
    import jax.numpy as jnp
    import optax

    x, labels, _ = _arrays("jax", data)

    def loss(z: Any) -> Any:
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(z, labels))

    fast = jax.jit(loss if case.operation == "loss" else jax.value_and_grad(loss))
    yield "optax", _waited("jax", lambda: fast(x))


def _cupy(case: Case, data: Data) -> Iterator[Contender]:
    from cupyx.scipy import special

    x, labels, W = _arrays("cupy", data)
    yield "softgrad on cupy", _waited("cupy", _softgrad(case, x, labels, W))
    calls: dict[str, Call] = {
        "softmax": lambda: special.softmax(x, axis=case.axis),
        "log_softmax": lambda: special.log_softmax(x, axis=case.axis),
        "logsumexp": lambda: special.logsumexp(x, axis=case.axis),
    }
    if case.operation in calls:
        yield "cupyx", _waited("cupy", calls[case.operation])


def _floors(case: Case, data: Data) -> Iterator[Contender]:
    """What no program that reads the input and writes the result can beat by much."""
    x, W = data.x, data.W
    if case.operation == "linear":
        logits = np.empty((len(x), len(W)), x.dtype)

        def products() -> None:
            np.matmul(x, W.T, out=logits)
            np.matmul(logits.T, x)

        yield "floor: two products", products
        return
    out = np.empty_like(x)
    yield "floor: copy", lambda: np.copyto(out, x)
    yield "floor: exp", lambda: np.exp(x, out=out)


def has_gpu() -> bool:
    """Whether CuPy is installed and finds a device."""
    if not installed("cupy"):
        return False
    import cupy

    try:
        return bool(cupy.cuda.runtime.getDeviceCount())
    except cupy.cuda.runtime.CUDARuntimeError:
        return False


def contenders(case: Case, data: Data, *, compiled: bool) -> dict[str, Call]:
    """Everyone who can run the case here; softgrad on NumPy arrays first."""
    out = dict(_numpy(case, data))
    if installed("scipy"):
        out |= _scipy(case, data)
    if installed("torch"):
        out |= _torch(case, data, compiled=compiled)
    if installed("jax"):
        out |= _jax(case, data)
        if installed("optax"):
            out |= _optax(case, data)
    if installed("sklearn"):
        out |= _sklearn(case, data)
    if has_gpu():
        out |= _cupy(case, data)
    out |= _floors(case, data)
    return out
