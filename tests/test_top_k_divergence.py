"""Divergences from a target of which some classes are known, against rows of a few probabilities in high precision."""

import numpy as np
import pytest

import divergence_reference as reference
import softgrad as sg
from marks import some
from torch_second_order import second_order_holds

RNG = np.random.default_rng(7)
N, K, M = 5, 9, 3
X = 2 * RNG.normal(size=(N, K))
TEACHER = X + RNG.normal(size=X.shape)
LABELS = np.argsort(-TEACHER, axis=1)[:, :M]
TOLD = np.take_along_axis(sg.log_softmax(TEACHER), LABELS, 1)
WEIGHT = np.array([1.0, 0.0, 0.5, 2.0, 1.5])
FEATURES, W, BIAS = RNG.normal(size=(N, 4)), RNG.normal(size=(K, 4)), RNG.normal(size=K)
KINDS = [{"rest": rest, "direction": way} for rest in ("lump", "renormalize") for way in ("forward", "reverse")]


@pytest.fixture(params=KINDS, ids=lambda kind: " ".join(kind.values()))
def kind(request):
    return request.param


def expected(x, told, labels, rest="lump", direction="forward", temperature=1.0):
    """(divergences, gradients by the logits) of all samples."""
    mp, values, slopes = reference.mp, [], np.zeros(x.shape)
    for i, row in enumerate(x):
        p = reference.softmax(row, temperature)
        own, others = [p[j] for j in labels[i]], [j for j in range(len(row)) if j not in labels[i]]
        q = [mp.exp(mp.mpf(float(a))) for a in told[i]]
        if rest == "lump":
            own.append(sum(p[j] for j in others))
            q.append(1 - sum(q))
        both = [[mp.log(a) for a in each] for each in (own, q)]
        value, by_few, _ = reference.row(*both, beta=float(direction == "reverse"))
        values.append(float(value))
        slopes[i, labels[i]] = [float(g) for g in by_few[:M]]
        if rest == "lump":
            slopes[i, others] = [float(by_few[M] * p[j] / own[M]) for j in others]
    return np.asarray(values), slopes / temperature


@pytest.mark.parametrize(("reduction", "temperature"), [("none", 1.0), ("sum", 2.5), ("mean", 1.0)])
def test_values_and_gradients(reduction, temperature, kind, asarray, to_numpy):
    values, slopes = expected(X, TOLD, LABELS, temperature=temperature, **kind)
    weights = WEIGHT / (WEIGHT.sum() if reduction == "mean" else 1)
    # of a sample of weight 0 anything may be left
    x, told, labels = X.copy(), TOLD.copy(), LABELS.copy()
    x[1], told[1], labels[1] = np.nan, np.nan, K
    arrays = asarray(x.T.copy()), asarray(told.T.copy()), asarray(labels.T.copy(), "int64")
    options = {"axis": 0, "temperature": temperature, "reduction": reduction, "sample_weight": asarray(WEIGHT), **kind}
    value, grad = sg.top_k_kl_divergence_value_and_grad(*arrays, **options)
    want = values * WEIGHT if reduction == "none" else values @ weights
    np.testing.assert_allclose(to_numpy(value), want, rtol=1e-12)
    np.testing.assert_allclose(to_numpy(grad).T, slopes * weights[:, None], rtol=1e-11, atol=1e-15)
    np.testing.assert_array_equal(to_numpy(sg.top_k_kl_divergence(*arrays, **options)), to_numpy(value))
    np.testing.assert_array_equal(to_numpy(sg.top_k_kl_divergence_grad(*arrays, **options)), to_numpy(grad))


@pytest.mark.parametrize(("sample_axis", "block_size"), [(0, 2), (1, None)])
def test_linear_values_and_gradients(sample_axis, block_size, kind, asarray, to_numpy):
    values, slopes = expected(FEATURES @ W.T + BIAS, TOLD, LABELS, temperature=2.0, **kind)
    weights = WEIGHT / WEIGHT.sum()
    x = FEATURES.copy()
    x[1] = np.nan
    arrays = [a.T.copy() if sample_axis else a for a in (x, W, TOLD, LABELS)]
    arrays = [*(asarray(a) for a in arrays[:3]), asarray(arrays[3], "int64"), asarray(BIAS)]
    options = {"sample_axis": sample_axis, "block_size": block_size, "temperature": 2.0, **kind}
    options["sample_weight"] = asarray(WEIGHT)
    value, grads = sg.linear_top_k_kl_divergence_value_and_grad(*arrays, wrt=("W", "X", "bias"), **options)
    np.testing.assert_allclose(to_numpy(value), values @ weights, rtol=1e-11)
    g = slopes * weights[:, None]
    for got, want in zip(grads, (g.T @ FEATURES, g @ W, g.sum(0)), strict=True):
        got = to_numpy(got)
        np.testing.assert_allclose(got.T if sample_axis and got.ndim == 2 else got, want, rtol=1e-10, atol=1e-15)
    each = sg.linear_top_k_kl_divergence(*arrays, reduction="none", **options)
    np.testing.assert_allclose(to_numpy(each), values * WEIGHT, rtol=1e-11)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rest_that_is_nearly_nothing_keeps_its_digits(dtype, asarray, to_numpy):
    """1 - sum(p) of the student would be rounding alone, and its logarithm infinite."""
    x = np.array([[0.0, -1.0, -40.0, -41.0], [0.0, 0.5, -70.0, -60.0]], dtype)
    labels = np.array([[0, 1], [1, 0]])
    told = np.log(np.array([[0.5, 0.25], [0.125, 0.5]], dtype))
    for direction in ("forward", "reverse"):
        values, slopes = [], np.zeros(x.shape)
        p = [reference.softmax(row, 1.0) for row in x]
        for i in range(2):
            own = [p[i][labels[i, 0]], p[i][labels[i, 1]], p[i][2] + p[i][3]]
            q = [reference.mp.exp(reference.mp.mpf(float(a))) for a in told[i]]
            logs = [[reference.mp.log(a) for a in each] for each in (own, [*q, 1 - sum(q)])]
            value, by_few, _ = reference.row(*logs, beta=float(direction == "reverse"))
            values.append(float(value))
            slopes[i, labels[i]] = [float(g) for g in by_few[:2]]
            slopes[i, 2:] = [float(by_few[2] * p[i][j] / own[2]) for j in (2, 3)]
        options = {"direction": direction, "reduction": "none"}
        arrays = asarray(x, dtype), asarray(told, dtype), asarray(labels, "int64")
        value, grad = sg.top_k_kl_divergence_value_and_grad(*arrays, **options)
        eps = np.finfo(dtype).eps
        np.testing.assert_allclose(to_numpy(value), values, rtol=8 * eps)
        np.testing.assert_allclose(to_numpy(grad), slopes, rtol=32 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_digits_where_the_two_nearly_agree(dtype, asarray, to_numpy):
    """The promise: a relative error of the rounding of log-probabilities over the root of the divergence."""
    rng = np.random.default_rng(8)
    x = (3 * rng.normal(size=(4, 40))).astype(dtype)
    y = x + np.array([[1.0], [1e-1], [1e-2], [1e-3]]) * rng.normal(size=x.shape)
    labels = np.argsort(-y, axis=1)[:, :M]
    told = np.take_along_axis(sg.log_softmax(y), labels, 1).astype(dtype)
    values, slopes = expected(x, told, labels)
    arrays = asarray(x, dtype), asarray(told, dtype), asarray(labels, "int64")
    value, grad = sg.top_k_kl_divergence_value_and_grad(*arrays, reduction="none")
    off = 8 * np.finfo(dtype).eps / np.sqrt(values)
    assert (np.abs(to_numpy(value) / values - 1) < off).all()
    assert (np.abs(to_numpy(grad) - slopes).max(-1) < off * np.abs(slopes).max(-1)).all()


def test_all_classes_are_the_dense_divergence(kind, asarray, to_numpy):
    order = np.argsort(-TEACHER, axis=1)
    told = np.take_along_axis(sg.log_softmax(TEACHER), order, 1)
    arrays = asarray(X), asarray(told), asarray(order, "int64")
    value, grad = sg.top_k_kl_divergence_value_and_grad(*arrays, **kind)
    dense = sg.kl_divergence_value_and_grad(X, TEACHER, direction=kind["direction"])
    np.testing.assert_allclose(to_numpy(value), dense[0], rtol=1e-12)
    np.testing.assert_allclose(to_numpy(grad), dense[1], rtol=1e-10, atol=1e-15)


def test_lumping_never_makes_it_larger_and_is_exact_for_a_shared_rest(asarray, to_numpy):
    y = X.copy()
    np.put_along_axis(y, LABELS, np.take_along_axis(TEACHER, LABELS, 1), 1)
    for teacher, same in ((TEACHER, False), (y, True)):
        told = np.take_along_axis(sg.log_softmax(teacher), LABELS, 1)
        few = to_numpy(sg.top_k_kl_divergence(asarray(X), asarray(told), asarray(LABELS, "int64"), reduction="none"))
        whole = sg.kl_divergence(X, teacher, reduction="none")
        assert (few <= whole * (1 + 1e-12)).all()
        assert np.allclose(few, whole, rtol=1e-12) == same


def test_classes_without_mass_and_labels_that_are_none(asarray, to_numpy):
    inf = np.inf
    x = asarray([[0.0, 0.0, 0.0], [0.0, 0.0, -inf], [0.0, 0.0, 0.0]])
    told = asarray([[np.log(0.5), -inf], [np.log(0.5), np.log(0.25)], [np.log(0.5), np.log(0.25)]])
    value, grad = sg.top_k_kl_divergence_value_and_grad(
        x, told, asarray([[0, 1], [0, 1], [0, 3]], "int64"), reduction="none"
    )
    np.testing.assert_allclose(to_numpy(value), [np.log(1.5), inf, np.nan], rtol=1e-12)
    np.testing.assert_allclose(to_numpy(grad)[0], [1 / 3 - 1 / 2, 1 / 3, 1 / 3 - 1 / 2], rtol=1e-12)


def test_dtypes(asarray, to_numpy, has_dtype):
    want, slopes = expected(X, TOLD, LABELS)
    for dtype, rtol in (("float16", 2e-2), ("bfloat16", 1e-1), ("float32", 1e-5)):
        if not has_dtype(dtype):
            continue
        arrays = asarray(X, dtype), asarray(TOLD, "float32"), asarray(LABELS, "int32")
        value, grad = sg.top_k_kl_divergence_value_and_grad(*arrays)
        assert [str(a.dtype).split(".")[-1] for a in (value, grad)] == [dtype, dtype]
        np.testing.assert_allclose(to_numpy(value).astype("float64"), want.mean(), rtol=rtol)
        np.testing.assert_allclose(to_numpy(grad).astype("float64"), slopes / N, atol=rtol / 10)


# --- the libraries' transforms


@pytest.mark.parametrize("kind", some(KINDS, KINDS[0]), indirect=True)
def test_torch_differentiates_to_second_order(kind, torch):
    # in blocks of two samples, of which the last is not whole
    labels, told = torch.asarray(LABELS[:3]), torch.asarray(TOLD[:3])
    options = {"temperature": 2.0, **kind}

    def f(x, told, weight):
        return sg.top_k_kl_divergence(x, told, labels, sample_weight=weight, **options)

    args = [torch.asarray(a[:3]).requires_grad_() for a in (X, TOLD, WEIGHT + 0.5)]
    assert torch.autograd.gradcheck(f, args, check_batched_grad=True)
    assert second_order_holds(f, args[:1] + [a.detach() for a in args[1:]])
    student = [torch.asarray(a).requires_grad_() for a in (FEATURES[:3], W, BIAS)]

    def linear(x, w, b):
        return sg.linear_top_k_kl_divergence(x, w, told, labels, b, block_size=2, **options)

    assert torch.autograd.gradcheck(linear, student)
    assert second_order_holds(linear, student)


def test_torch_leaves_out_what_does_not_count(kind, torch):
    x, labels = torch.asarray(X).requires_grad_(), LABELS.copy()
    labels[1] = -100
    weight = torch.asarray(WEIGHT)
    sg.top_k_kl_divergence(x, torch.asarray(TOLD), torch.asarray(labels), sample_weight=weight, **kind).backward()
    slopes = expected(X, TOLD, LABELS, **kind)[1] * (WEIGHT / WEIGHT.sum())[:, None]
    np.testing.assert_allclose(x.grad.numpy(), slopes, rtol=1e-10, atol=1e-15)


def test_torch_keeps_no_logits(torch):
    kept = []
    arrays = [torch.asarray(a) for a in (FEATURES, W, TOLD, LABELS, BIAS)]
    arrays[1].requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda a: kept.append(a.shape) or a, lambda a: a):
        sg.linear_top_k_kl_divergence(*arrays, block_size=2).backward()
    assert not any(shape[-1:] == (K,) and len(shape) == 2 for shape in kept), kept


@pytest.mark.parametrize("kind", some(KINDS, KINDS[0]), indirect=True)
def test_torch_compiles_and_batches(kind, torch):
    x, told, labels = torch.asarray(X), torch.asarray(TOLD), torch.asarray(LABELS)
    slopes = expected(1.7 * X, TOLD, LABELS, **kind)[1] * 1.7
    leaf = x.clone().requires_grad_()
    traced = torch.compile(lambda a: sg.top_k_kl_divergence(1.7 * a, told, labels, **kind), backend="aot_eager")
    traced(leaf).backward()
    np.testing.assert_allclose(leaf.grad.numpy(), slopes / N, rtol=1e-9, atol=1e-15)
    each = torch.func.vmap(torch.func.grad(lambda a, t, i: sg.top_k_kl_divergence(1.7 * a, t, i, **kind)))
    np.testing.assert_allclose(each(x, told, labels).numpy(), slopes, rtol=1e-9, atol=1e-15)


# each rest and each direction once
@pytest.mark.parametrize("kind", some(KINDS, KINDS[0], KINDS[3]), indirect=True)
def test_jax_differentiates(kind, jax):
    jnp = jax.numpy
    told, labels = jnp.asarray(TOLD), jnp.asarray(LABELS)
    values, slopes = expected(X, TOLD, LABELS, **kind)

    def f(x):
        return sg.top_k_kl_divergence(x, told, labels, **kind)

    value, grad = jax.jit(jax.value_and_grad(f))(jnp.asarray(X))
    np.testing.assert_allclose(value, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(grad, slopes / N, rtol=1e-10, atol=1e-15)
    student = tuple(jnp.asarray(a) for a in (FEATURES, W, BIAS))

    def linear(x, w, b):
        return sg.linear_top_k_kl_divergence(x, w, told, labels, b, block_size=2, **kind)

    g = expected(FEATURES @ W.T + BIAS, TOLD, LABELS, **kind)[1] / N
    grads = jax.jit(jax.grad(linear, (0, 1, 2)))(*student)
    for got, want in zip(grads, (g @ W, g.T @ FEATURES, g.sum(0)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-15)
    twice = jax.grad(lambda x: (jax.grad(f)(x) * X).sum())(jnp.asarray(X))
    step = 1e-5
    ends = [np.asarray(jax.grad(f)(jnp.asarray(X * (1 + s)))) for s in (step, -step)]
    np.testing.assert_allclose(twice, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_dask_computes_late(kind, dask):
    import dask.array as da

    calls = []
    with dask.config.set(scheduler=lambda graph, keys, **_: calls.append(keys) or dask.get(graph, keys)):
        x, told, labels = (da.from_array(a, chunks=(2, size)) for a, size in ((X, 4), (TOLD, 1), (LABELS, 2)))
        value, grad = sg.top_k_kl_divergence_value_and_grad(x, told, labels, **kind)
        features, weights = da.from_array(FEATURES, chunks=(3, 2)), da.from_array(W)
        linear = sg.linear_top_k_kl_divergence_value_and_grad(features, weights, told, labels, wrt="X", **kind)
        assert not calls
        values, slopes = expected(X, TOLD, LABELS, **kind)
        np.testing.assert_allclose(value.compute(), values.mean(), rtol=1e-12)
        np.testing.assert_allclose(grad.compute(), slopes / N, rtol=1e-10, atol=1e-15)
        values, slopes = expected(FEATURES @ W.T, TOLD, LABELS, **kind)
        np.testing.assert_allclose(linear[0].compute(), values.mean(), rtol=1e-11)
        np.testing.assert_allclose(linear[1].compute(), slopes @ W / N, rtol=1e-9, atol=1e-15)
