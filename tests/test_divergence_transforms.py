"""The divergences under the transforms of the libraries: derivatives, compiling, batches, late results."""

import numpy as np
import pytest

import divergence_reference as reference
import softgrad as sg
from marks import some
from torch_second_order import second_order_holds

KINDS = {
    "forward": (sg.kl_divergence, sg.kl_divergence_grad, {}, 0.0),
    "reverse": (sg.kl_divergence, sg.kl_divergence_grad, {"direction": "reverse"}, 1.0),
    "js": (sg.js_divergence, sg.js_divergence_grad, {"beta": 0.375}, 0.375),
}
RNG = np.random.default_rng(5)
X = 2 * RNG.normal(size=(3, 5))
Y = X + 0.5 * RNG.normal(size=X.shape)
Y[1] = X[1]
WEIGHT = np.array([0.5, 1.5, 2.0])
WHERE = np.array([[True, True, True, False, True], [True] * 5, [False, True, True, True, True]])


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def curvature(beta, x):
    """Second derivative by the logits where the two are equal, for one row."""
    p = sg.softmax(x)
    factor = 1.0 if beta in (0.0, 1.0) else beta * (1 - beta)
    return factor * (np.diag(p) - np.outer(p, p))


# --- PyTorch


def test_torch_differentiates_to_second_order(kind, torch):
    function, _, options, _ = kind
    where = torch.asarray(WHERE)

    def f(x, y, weight):
        return function(x, y, sample_weight=weight, where=where, temperature=2.0, **options)

    args = [torch.asarray(a).requires_grad_() for a in (X, Y, WEIGHT)]
    assert torch.autograd.gradcheck(f, args, check_forward_ad=True, check_batched_grad=True)
    assert second_order_holds(f, args)


def test_torch_records_the_digits_of_the_gradient(kind, torch):
    function, grad, options, beta = kind
    y = (X + 1e-5 * RNG.normal(size=X.shape)).astype("float32")
    x = X.astype("float32")
    leaf = torch.asarray(x).requires_grad_()
    function(leaf, torch.asarray(y), reduction="sum", **options).backward()
    exact = reference.rows(x, y, beta=beta)[1]
    assert (np.abs(leaf.grad.numpy() - exact).max(-1) < 1e-5 * np.abs(exact).max(-1)).all()
    explicit = grad(leaf.detach(), torch.asarray(y), reduction="sum", **options)
    torch.testing.assert_close(leaf.grad, explicit, rtol=1e-6, atol=0)


def test_torch_hessian_where_the_two_are_equal(kind, torch):
    function, _, options, beta = kind
    x = torch.asarray(X[0])
    hessian = torch.func.hessian(lambda a: function(a, x, **options))(x)
    np.testing.assert_allclose(hessian.numpy(), curvature(beta, X[0]), rtol=1e-12, atol=1e-15)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(leaf, x, **options), leaf, create_graph=True)
    np.testing.assert_array_equal(slope.detach().numpy(), 0)
    rows = [torch.autograd.grad(each, leaf, retain_graph=True)[0].numpy() for each in slope]
    np.testing.assert_allclose(rows, curvature(beta, X[0]), rtol=1e-12, atol=1e-15)


def test_torch_batches(kind, torch):
    function, _, options, _ = kind
    x, y = torch.asarray(X), torch.asarray(Y)
    for dims in ((0, 0), (0, None), (None, 0)):
        got = torch.func.vmap(lambda a, b: function(a, b, **options), in_dims=dims)(
            *(a if dim == 0 else a[0] for a, dim in zip((x, y), dims, strict=True))
        )
        pair = [a if dim == 0 else a[:1].expand(a.shape) for a, dim in zip((x, y), dims, strict=True)]
        torch.testing.assert_close(got, function(*pair, reduction="none", **options), rtol=1e-12, atol=1e-15)
    each = torch.func.vmap(torch.func.grad(lambda a, b: function(a, b, **options)))(x, y)
    torch.testing.assert_close(each, kind[1](x, y, reduction="none", **options), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", some(KINDS, next(iter(KINDS))), indirect=True)
def test_torch_compiles_what_scales_the_logits(kind, torch):
    function, grad, options, _ = kind
    where = torch.asarray(WHERE)
    compiled = torch.compile(lambda a, b: function(1.7 * a, 1.7 * b, where=where, **options), fullgraph=True)
    x, y = (torch.asarray(a, dtype=torch.float32).requires_grad_() for a in (X, Y))
    # another array of the same numbers, or another program would be compiled for it
    assert compiled(x, x.detach().clone().requires_grad_()).item() == 0.0
    slopes = torch.autograd.grad(compiled(x, y), (x, y))
    given = 1.7 * x.detach(), 1.7 * y.detach()
    expected = grad(*given, where=where, wrt=("logits", "target_logits"), **options)
    for slope, by_scaled in zip(slopes, expected, strict=True):
        torch.testing.assert_close(slope, 1.7 * by_scaled, rtol=1e-5, atol=1e-7)


# --- JAX


# of the three kinds the one with both directions in it
@pytest.mark.parametrize("kind", some(KINDS, "js"), indirect=True)
def test_jax_differentiates_to_second_order(kind, jax):
    from jax.test_util import check_grads

    function, _, options, _ = kind
    where = jax.numpy.asarray(WHERE)

    def f(*arrays):
        x, y, weight = map(jax.numpy.asarray, arrays)
        return function(x, y, sample_weight=weight, where=where, temperature=2.0, **options)

    check_grads(f, [jax.numpy.asarray(a) for a in (X, Y, WEIGHT)], order=2, rtol=1e-5, atol=1e-6)


def test_jax_keeps_the_digits_of_the_gradient(kind, jax):
    function, _, options, beta = kind
    x = X.astype("float32")
    y = (X + 1e-5 * RNG.normal(size=X.shape)).astype("float32")
    exact = reference.rows(x, y, beta=beta)[1]
    grads = jax.grad(lambda a, b: function(a, b, reduction="sum", **options))
    for call in (grads, jax.jit(grads), jax.vmap(lambda a, b: grads(a[None], b[None])[0])):
        got = np.asarray(call(jax.numpy.asarray(x), jax.numpy.asarray(y)))
        assert (np.abs(got - exact).max(-1) < 1e-5 * np.abs(exact).max(-1)).all()


def test_jax_hessian_where_the_two_are_equal(kind, jax):
    function, _, options, beta = kind
    x = jax.numpy.asarray(X[0])
    for transform in (jax.hessian, lambda f: jax.jacrev(jax.grad(f))):
        hessian = transform(lambda a: function(a, x, **options))(x)
        np.testing.assert_allclose(np.asarray(hessian), curvature(beta, X[0]), rtol=1e-12, atol=1e-15)


def test_jax_compiles_what_scales_the_logits(kind, jax):
    function, grad, options, _ = kind
    x, y = (jax.numpy.asarray(a, "float32") for a in (X, Y))
    assert jax.jit(lambda a, s: function(s * a, s * a, **options))(x, 1.7).item() == 0.0
    value, slope = jax.jit(jax.value_and_grad(lambda a, b, s: function(s * a, s * b, **options)))(x, y, 1.7)
    np.testing.assert_allclose(value, function(1.7 * x, 1.7 * y, **options), rtol=1e-5)
    np.testing.assert_allclose(slope, 1.7 * grad(1.7 * x, 1.7 * y, **options), rtol=1e-4, atol=1e-7)


# --- Dask


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_dask_computes_late_and_the_same(reduction, kind, dask):
    import dask.array as da

    function, grad, options, _ = kind
    calls = []
    host = {"where": WHERE, "sample_weight": WEIGHT}
    lazy = {name: da.from_array(a, chunks=2) for name, a in host.items()}
    with dask.config.set(scheduler=lambda graph, keys, **_: calls.append(keys) or dask.get(graph, keys)):
        x, y = da.from_array(X, chunks=(2, 3)), da.from_array(Y, chunks=(1, 5))
        value = function(x, y, reduction=reduction, **lazy, **options)
        grads = grad(x, y, wrt=("logits", "target_logits"), reduction=reduction, **lazy, **options)
        assert not calls
        np.testing.assert_allclose(value.compute(), function(X, Y, reduction=reduction, **host, **options), rtol=1e-13)
        expected = grad(X, Y, wrt=("logits", "target_logits"), reduction=reduction, **host, **options)
        for got, each in zip(grads, expected, strict=True):
            np.testing.assert_allclose(got.compute(), each, rtol=1e-12, atol=1e-16)
