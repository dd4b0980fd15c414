"""The divergences of two linear models: what the logits give, in blocks, under every library's transforms."""

import tracemalloc

import numpy as np
import pytest

import softgrad as sg
from torch_second_order import second_order_holds

RNG = np.random.default_rng(6)
X, X_TARGET = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 4))
W, W_TARGET = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 4))
BIAS, BIAS_TARGET = RNG.normal(size=5), RNG.normal(size=5)
WEIGHT = np.array([1.0, 0.0, 0.5, 2.0, 1.0, 1.5, 0.25])
WHERE = RNG.random((7, 5)) > 0.2
WHERE[2] = False
KINDS = {
    "forward": (sg.linear_kl_divergence, sg.linear_kl_divergence_value_and_grad, sg.kl_divergence_value_and_grad, {}),
    "reverse": (
        sg.linear_kl_divergence,
        sg.linear_kl_divergence_value_and_grad,
        sg.kl_divergence_value_and_grad,
        {"direction": "reverse"},
    ),
    "js": (
        sg.linear_js_divergence,
        sg.linear_js_divergence_value_and_grad,
        sg.js_divergence_value_and_grad,
        {"beta": 0.25},
    ),
}
MODELS = (X, W, X_TARGET, W_TARGET, BIAS, BIAS_TARGET)


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def expected(kind, **options):
    """(value, gradients by W, bias and X) from the logits."""
    value, slope = kind[2](X @ W.T + BIAS, X_TARGET @ W_TARGET.T + BIAS_TARGET, **options, **kind[3])
    return value, slope.T @ X, slope.sum(0), slope @ W


@pytest.mark.parametrize("block_size", [None, 2])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_it_is_the_divergence_of_the_logits(reduction, block_size, kind, asarray, to_numpy):
    options = {"temperature": 2.0, "reduction": reduction}
    want = expected(kind, where=WHERE, sample_weight=WEIGHT, **options)
    options |= {"where": asarray(WHERE, "bool"), "sample_weight": asarray(WEIGHT), "block_size": block_size, **kind[3]}
    models = [asarray(a) for a in MODELS]
    np.testing.assert_allclose(to_numpy(kind[0](*models, **options)), want[0], rtol=1e-12, atol=1e-15)
    if reduction != "none":
        value, grads = kind[1](*models, wrt=("X", "W", "bias"), **options)
        for got, exact in zip((value, *grads), (want[0], want[3], *want[1:3]), strict=True):
            np.testing.assert_allclose(to_numpy(got), exact, rtol=1e-11, atol=1e-15)


def test_samples_last_no_bias_and_what_does_not_count(kind, asarray, to_numpy):
    bad = X.copy()
    bad[1] = np.nan
    options = {"sample_axis": 1, "sample_weight": asarray(WEIGHT), **kind[3]}
    models = [asarray(a.T.copy()) for a in (bad, W, X_TARGET, W_TARGET)]
    value, grad = kind[1](*models, **options)
    exact, slope = kind[2](X @ W.T, X_TARGET @ W_TARGET.T, sample_weight=WEIGHT, **kind[3])
    np.testing.assert_allclose(to_numpy(value), exact, rtol=1e-12)
    np.testing.assert_allclose(to_numpy(grad), X.T @ slope, rtol=1e-11, atol=1e-15)


def test_no_logits_are_stored_whole():
    k = 20_000
    arrays = [RNG.normal(size=shape).astype("float32") for shape in ((512, 8), (k, 8), (512, 4), (k, 4))]
    sg.linear_kl_divergence_value_and_grad(*(a[:64] for a in arrays))
    tracemalloc.start()
    sg.linear_kl_divergence_value_and_grad(*arrays, block_size=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 512 * k * 4 / 2


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_torch_differentiates(reduction, kind, torch):
    target = [torch.asarray(a) for a in (X_TARGET, W_TARGET)]
    # two blocks, the second not whole, and a sample without classes
    target[0] = target[0][:5]
    options = {"where": torch.asarray(WHERE[:5]), "reduction": reduction, "block_size": 4, **kind[3]}

    def f(x, w, b):
        return kind[0](x, w, *target, b, torch.asarray(BIAS_TARGET), **options)

    student = [torch.asarray(a).requires_grad_() for a in (X[:5].copy(), W, BIAS)]
    assert torch.autograd.gradcheck(f, student)
    assert second_order_holds(f, student)


def test_torch_keeps_no_logits(kind, torch):
    kept = []
    models = [torch.asarray(a) for a in MODELS]
    models[1].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda a: kept.append(a.shape) or a, lambda a: a):
        kind[0](*models, block_size=3, **kind[3]).backward()
    assert not any(shape[-1:] == (5,) and len(shape) == 2 for shape in kept), kept


def test_jax_differentiates(kind, jax):
    models = [jax.numpy.asarray(a) for a in MODELS]

    def f(x, w, b):
        return kind[0](x, w, *models[2:4], b, models[5], block_size=3, **kind[3])

    student = models[0], models[1], models[4]
    want = expected(kind)
    slope = jax.jit(jax.grad(f, (1, 2, 0)))
    for got, exact in zip(slope(*student), want[1:], strict=True):
        np.testing.assert_allclose(np.asarray(got), exact, rtol=1e-11, atol=1e-15)
    one = jax.jit(jax.grad(lambda w: (jax.grad(f, 1)(student[0], w, student[2]) * W).sum()))(student[1])
    step = 1e-5
    ends = [np.asarray(slope(student[0], student[1] + s * W, student[2])[0]) for s in (step, -step)]
    np.testing.assert_allclose(np.asarray(one), (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-9)


def test_dask_computes_late(kind, dask):
    import dask.array as da

    calls = []
    with dask.config.set(scheduler=lambda graph, keys, **_: calls.append(keys) or dask.get(graph, keys)):
        models = [da.from_array(a, chunks=(3,) + (-1,) * (a.ndim - 1)) for a in MODELS]
        value, grads = kind[1](*models, wrt=("W", "bias", "X"), **kind[3])
        assert not calls
        for got, exact in zip((value, *grads), expected(kind), strict=True):
            np.testing.assert_allclose(got.compute(), exact, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (ValueError, "W needs 4 features, X has 3", {1: W_TARGET}),
        (ValueError, "W_target needs 3 features, X_target has 4", {3: W}),
        (ValueError, "X_target has 6 samples, X has 7", {2: X_TARGET[:6]}),
        (ValueError, "W_target has 4 classes, W has 5", {3: W_TARGET[:4], 5: None}),
        (ValueError, r"bias must have shape \(5,\), got \(4,\)", {4: BIAS[:4]}),
        (ValueError, r"bias_target must have one dimension, got \(5, 4\)", {5: W_TARGET}),
        (TypeError, "X_target must be an array", {2: X_TARGET.tolist()}),
        (ValueError, "temperature", {"temperature": 0}),
        (ValueError, "sample_axis must be 0 or 1, got 2", {"sample_axis": 2}),
        (ValueError, "block_size must be at least 1, got 0", {"block_size": 0}),
        (ValueError, "reduction='none'", {"reduction": "none"}),
        (ValueError, "wrt must name", {"wrt": "X_target"}),
        (ValueError, "direction must be one of", {"direction": "back"}),
        (TypeError, "has no option 'axis'", {"axis": 1}),
    ],
    ids=str,
)
def test_errors_name_what_is_wrong(error, words, change):
    models = [change.get(i, a) for i, a in enumerate(MODELS)]
    options = {name: value for name, value in change.items() if isinstance(name, str)}
    with pytest.raises(error, match=words):
        sg.linear_kl_divergence_value_and_grad(*models, **options)


def test_torch_maps_and_compiles(torch):
    generator = torch.Generator().manual_seed(0)
    shapes = (5, 3), (7, 3), (5, 2), (7, 2)
    X_, W_, *target = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)

    def f(W):
        return sg.linear_kl_divergence(X_, W, *target, temperature=2.0)

    stacked = torch.stack([W_, 2 * W_])
    torch.testing.assert_close(torch.func.vmap(f)(stacked), torch.stack([f(W) for W in stacked]))
    mapped = torch.func.vmap(torch.func.grad(f))(stacked)
    torch.testing.assert_close(mapped, torch.stack([torch.func.grad(f)(W) for W in stacked]))
    torch.testing.assert_close(torch.compile(f, backend="eager", fullgraph=True)(W_), f(W_))
