"""What ``tools/gpu.py`` times softgrad against: each library's own functions, and others' kernels where installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import softgrad as sg

Calls = dict[str, Callable[[], Any]]


def _found(module: str, name: str) -> Any:
    """A function of a peer; None where it is not installed."""
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError:
        return None


def missing() -> list[str]:
    """The peers that are not installed."""
    peers = {
        "Liger": "liger_kernel",
        "quack": "quack",
        "cut-cross-entropy": "cut_cross_entropy",
        "cupyx": "cupyx",
        "optax": "optax",
    }
    return [name for name, module in peers.items() if importlib.util.find_spec(module) is None]


def _with_gradient(loss: Callable[..., Any], *leaves: Any) -> Callable[[], Any]:
    import torch

    def call() -> Any:
        # some peers write gradients over what they are given: into a copy that is theirs alone
        fresh = [leaf.detach().requires_grad_() for leaf in leaves]
        value = loss(*fresh)
        return value, torch.autograd.grad(value, fresh)

    return call


def _torch_dense(x: Any, y: Any) -> dict[str, Calls]:
    import torch

    functions = torch.nn.functional
    own = {
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
    }
    out: dict[str, Calls] = {
        name: {"torch": partial(function, x), "torch.compile": partial(torch.compile(function), x)}
        for name, function in own.items()
    }
    losses = {
        "torch": functions.cross_entropy,
        "torch.compile": torch.compile(functions.cross_entropy),
        "Liger": _found("liger_kernel.transformers.functional", "liger_cross_entropy"),
        "quack": _found("quack", "cross_entropy"),
    }
    recorded = {"softgrad": lambda x: sg.cross_entropy(x, y)}
    recorded |= {name: partial(lambda f, x: f(x, y).mean(), f) for name, f in losses.items() if f is not None}
    out["loss and gradient"] = {}
    out["loss under autograd"] = {name: _with_gradient(loss, x.clone()) for name, loss in recorded.items()}
    return out


def _jax_dense(x: Any, y: Any) -> dict[str, Calls]:
    import jax

    def mean(x: Any) -> Any:
        return -jax.numpy.mean(jax.numpy.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1))

    out: dict[str, Calls] = {
        name: {"jax.nn": partial(jax.jit(partial(getattr(jax.nn, name), axis=-1)), x)}
        for name in ("softmax", "log_softmax", "logsumexp")
    }
    out["loss and gradient"] = {"jax.nn": partial(jax.jit(jax.value_and_grad(mean)), x)}
    optax = _found("optax", "softmax_cross_entropy_with_integer_labels")
    if optax is not None:
        loss = jax.jit(jax.value_and_grad(lambda x: optax(x, y).mean()))
        out["loss and gradient"]["optax"] = partial(loss, x)
    return out


def _cupy_dense(x: Any, y: Any) -> dict[str, Calls]:
    special = importlib.import_module("cupyx.scipy.special")
    names = ("softmax", "log_softmax", "logsumexp")
    return {name: {"cupyx": partial(getattr(special, name), x, axis=-1)} for name in names} | {"loss and gradient": {}}


def dense(library: str, x: Any, y: Any) -> dict[str, Calls]:
    """By function: softgrad, and who else has it."""
    out: dict[str, Calls] = {
        "softmax": {"softgrad": lambda: sg.softmax(x)},
        "log_softmax": {"softgrad": lambda: sg.log_softmax(x)},
        "logsumexp": {"softgrad": lambda: sg.logsumexp(x, axis=-1)},
        "loss and gradient": {"softgrad": lambda: sg.cross_entropy_value_and_grad(x, y)},
    }
    peers = {"torch": _torch_dense, "jax": _jax_dense, "cupy": _cupy_dense}[library](x, y)
    return {name: out.get(name, {}) | peers.get(name, {}) for name in (*out, *(peers.keys() - out.keys()))}


def linear(library: str, X: Any, y: Any, W: Any) -> Calls:
    """The linear model with its loss and the gradients by X and W."""
    out: Calls = {"softgrad": lambda: sg.linear_cross_entropy_value_and_grad(X, y, W, wrt=("X", "W"))}
    if library != "torch":
        return out
    import torch

    functions = torch.nn.functional
    fused = _found("liger_kernel.transformers.functional", "liger_fused_linear_cross_entropy")
    cut = _found("cut_cross_entropy", "linear_cross_entropy")
    losses = {
        "torch": lambda X, W: functions.cross_entropy(X @ W.T, y),
        "Liger": None if fused is None else lambda X, W: fused(X, W, y),
        "cut-cross-entropy": None if cut is None else lambda X, W: cut(X, W, y),
    }
    return out | {name: _with_gradient(loss, X, W) for name, loss in losses.items() if loss is not None}
