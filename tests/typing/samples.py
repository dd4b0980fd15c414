"""The array type that goes in comes out: read by mypy and pyright, and run on nothing."""

from __future__ import annotations

from typing import Any, assert_type

import jax
import numpy as np
import numpy.typing as npt
import torch

import softgrad as sg
from softgrad.testing import BackendReport, DerivativeCheck, check_backend, check_gradient, ulp_distance

Host = npt.NDArray[np.float64]


def numpy_arrays(x: Host, y: npt.NDArray[np.int64], W: Host, bias: Host) -> None:
    assert_type(sg.softmax(x), Host)
    assert_type(sg.softmax(x, axis=(0, 1), precision="high"), Host)
    assert_type(sg.log_softmax(x, where=x > 0), Host)
    assert_type(sg.softmax_vjp(x, x), Host)
    assert_type(sg.softmax_jvp(x, x, axis=0), Host)
    assert_type(sg.log_softmax_vjp(x, x), Host)
    assert_type(sg.log_softmax_jvp(x, x), Host)
    assert_type(sg.cross_entropy(x, y, label_smoothing=0.1, reduction="sum"), Host)
    assert_type(sg.cross_entropy_grad(x, y, class_weight=[1.0, 2.0]), Host)
    assert_type(sg.cross_entropy_value_and_grad(x, y), tuple[Host, Host])
    assert_type(sg.cross_entropy_hvp(x, y, x), Host)
    assert_type(sg.linear_cross_entropy(x, y, W, bias, l2=0.1), Host)
    loss = sg.CrossEntropy(ignore_index=-100)
    assert_type(loss(x, y), Host)
    assert_type(loss.grad(x, y, sample_weight=x[:, 0]), Host)
    assert_type(loss.value_and_grad(x, y), tuple[Host, Host])
    assert_type(loss.hvp(x, y, x), Host)
    assert_type(loss.hessian_diag(x, y), Host)
    assert_type(loss.total_weight(x, y), Host)
    bound = sg.LinearCrossEntropy(x, y, l2=1e-3)
    assert_type(bound.value(W, bias), Host)
    # one array or a tuple, as wrt asks
    assert_type(bound.grad(W, wrt="W"), Any)


def torch_tensors(x: torch.Tensor, y: torch.Tensor) -> None:
    assert_type(sg.softmax(x, dtype=torch.float64), torch.Tensor)
    assert_type(sg.cross_entropy(x, y), torch.Tensor)
    assert_type(sg.CrossEntropy().value_and_grad(x, y), tuple[torch.Tensor, torch.Tensor])
    assert_type(sg.linear_cross_entropy(x, y, x), torch.Tensor)


def jax_arrays(x: jax.Array, y: jax.Array) -> None:
    assert_type(sg.log_softmax(x), jax.Array)
    assert_type(sg.cross_entropy(x, y), jax.Array)
    assert_type(sg.CrossEntropy().grad(x, y), jax.Array)


def back_ends(x: Host) -> None:
    assert_type(sg.backends.explain("softmax", x), sg.backends.Explanation)
    assert_type(sg.backends.available(), dict[str, sg.backends.Backend])
    with sg.backends.use("generic"), sg.precision("high"):
        sg.softmax(x)


def testing_kit(x: Host) -> None:
    assert_type(check_backend("numpy", on_failure="return"), BackendReport)
    assert_type(check_gradient(np.sum, np.ones_like, x), DerivativeCheck)
    assert_type(ulp_distance(x, x), npt.NDArray[Any])
