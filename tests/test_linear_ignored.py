"""Samples that do not count in the linear model: their rows are exactly 0, whatever the parameters hold."""

import contextlib

import numpy as np
import pytest

import softgrad as sg

N, M = 40, 3
RNG = np.random.default_rng(8)
X = RNG.normal(size=(N, M))
DEAD = np.arange(N) % 3 == 1


def problem(asarray, classes, how, sample_axis=0):
    labels = RNG.integers(0, classes, N)
    options = {"sample_axis": sample_axis}
    if how != "sample_weight":
        labels = np.where(DEAD, -7, labels)
        options["ignore_index"] = -7
    if how != "ignore_index":
        options["sample_weight"] = asarray(np.where(DEAD, 0.0, 0.5))
    W, V = RNG.normal(size=(2, classes, M))
    W[1, 2] = np.nan
    turned = [a.T if sample_axis else a for a in (X, W, V, np.ones((N, M)))]
    held = [asarray(a) for a in turned]
    return held[0], asarray(labels, "int64"), held[1], (held[2], held[3]), options


def dead_rows(a, to_numpy, sample_axis):
    a = to_numpy(a)
    return (a.T if sample_axis else a)[DEAD]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # Dask computes where NumPy is not told to be quiet
@pytest.mark.parametrize("generic", [False, True])
@pytest.mark.parametrize("how", ["ignore_index", "sample_weight", "both"])
@pytest.mark.parametrize(
    ("classes", "block_size", "sample_axis", "reduction"),
    [(4, None, 0, "sum"), (4, 16, 1, "mean"), (40, None, 1, "sum"), (40, 7, 0, "mean")],
)
def test_gradients_by_ignored_samples_are_zero(
    classes, block_size, sample_axis, reduction, how, generic, asarray, to_numpy
):
    x, labels, W, (V, U), options = problem(asarray, classes, how, sample_axis)
    options |= {"block_size": block_size, "reduction": reduction}
    with sg.backends.use("generic") if generic else contextlib.nullcontext():
        grad = sg.linear_cross_entropy_grad(x, labels, W, wrt="X", **options)
        both = sg.linear_cross_entropy_hvp(x, labels, W, (V, U), wrt=("W", "X"), **options)[1]
        own = sg.linear_cross_entropy_hvp(x, labels, W, U, wrt="X", **options)
        for found in (grad, both, own):
            assert (dead_rows(found, to_numpy, sample_axis) == 0).all()
            assert np.isnan(to_numpy(found)).any(), "the samples that count have no gradient"


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("how", ["ignore_index", "sample_weight"])
@pytest.mark.parametrize("classes", [4, 40])
def test_automatic_differentiation_leaves_ignored_samples_alone(classes, how, reduction, backend, asarray, to_numpy):
    x, labels, W, _, options = problem(asarray, classes, how)

    def loss(x):
        each = sg.linear_cross_entropy(x, labels, W, reduction=reduction, **options)
        return each.sum() if reduction == "none" else each

    if backend == "torch":
        import torch

        x.requires_grad_()
        found = [torch.autograd.grad(loss(x), x)[0], torch.func.grad(loss)(x.detach())]
    elif backend == "jax":
        import jax

        found = [jax.grad(loss)(x)]
    else:
        pytest.skip(f"{backend} has no automatic differentiation")
    for grad in found:
        assert (dead_rows(grad, to_numpy, 0) == 0).all()
        assert np.isnan(to_numpy(grad)).any()
