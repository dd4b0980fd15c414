"""Samples that do not count in the linear model: their rows are exactly 0, whatever the parameters hold."""

import contextlib

import numpy as np
import pytest

import softgrad as sg
from marks import late

N, M = 40, 3
RNG = np.random.default_rng(8)
X = RNG.normal(size=(N, M))
DEAD = np.arange(N) % 3 == 1
#: Of Dask's arrays the generic kernels make graphs that take long, and nobody uses them; JAX compiles either.
either_kernels = pytest.mark.parametrize("generic", [False, late(True, "dask", "jax")])


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
@either_kernels
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


# --- parameters of a class that `where` hides


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@either_kernels
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"z_loss": 0.25, "label_smoothing": 0.25, "block_size": 7}], ids=str)
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_hidden_class_may_have_any_parameters(everywhere, options, dtype, generic, asarray, to_numpy):
    """What hides it is as without the class; where it is hidden from some samples, theirs have finite gradients."""
    rng = np.random.default_rng(3)
    W, V = rng.normal(size=(2, 4, M))
    bias, along, U = rng.normal(size=4), rng.normal(size=4), rng.normal(size=(N, M))
    W[2], V[2], bias[2], along[2] = [np.inf, np.nan, -np.inf], [np.nan, np.inf, 1e30], -np.inf, np.nan
    hidden = np.ones(N, bool) if everywhere else np.arange(N) % 2 == 0
    labels, rest = rng.choice([0, 1, 3], N), [0, 1, 3]
    where = np.ones((N, 4), bool)
    where[hidden, 2] = False
    held = [asarray(a, dtype) for a in (X, W, bias, V, along, U)]
    masked = {"where": asarray(where, "bool"), "wrt": ("W", "bias", "X"), "reduction": "sum", **options}
    with sg.backends.use("generic") if generic else contextlib.nullcontext():
        y = asarray(labels, "int64")
        _, first = sg.linear_cross_entropy_value_and_grad(held[0], y, held[1], held[2], **masked)
        second = sg.linear_cross_entropy_hvp(held[0], y, held[1], tuple(held[3:]), held[2], **masked)
    plain = {"wrt": ("W", "bias", "X"), "reduction": "sum", **options}
    fewer, directions = (W[rest], bias[rest]), (V[rest], along[rest], U)
    labels = np.searchsorted(rest, labels)
    _, wanted = sg.linear_cross_entropy_value_and_grad(X, labels, *fewer, **plain)
    curved = sg.linear_cross_entropy_hvp(X, labels, fewer[0], directions, fewer[1], **plain)
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]
    for got, expected in ((first, wanted), (second, curved)):
        by_W, by_bias, by_X = map(to_numpy, got)
        np.testing.assert_allclose(by_X[hidden], expected[2][hidden], rtol=tolerance, atol=tolerance)
        if everywhere:
            np.testing.assert_allclose(by_W[rest], expected[0], rtol=tolerance, atol=10 * tolerance)
            np.testing.assert_allclose(by_bias[rest], expected[1], rtol=tolerance, atol=10 * tolerance)
            assert not by_W[2].any()
        else:
            assert np.isnan(by_X[~hidden]).all()
