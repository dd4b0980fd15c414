"""Weights and targets beside logits: held in float32 at least, masks, samples that count for nothing."""

import itertools

import numpy as np
import pytest

import softgrad as sg
from marks import full, late_on_jax
from softgrad import partial, statistics

rng = np.random.default_rng(0)
N = 3000
# quarters, which half precision holds
X = np.round(rng.normal(size=(N, 2)) * 4) / 4
W = np.array([[0.5, -1.0], [0.25, 0.75], [-1.5, 2.0]])
LOGITS = np.round(rng.normal(size=(N, 3)) * 4) / 4
LABELS = rng.integers(0, 3, N)
TARGETS = {"indices": LABELS, "soft": np.eye(3)[LABELS] * 0.875 + 0.125 / 3}
# neither is a number of float16, nor is their sum
SCALES = {"large": 1e5, "tiny": 1e-8}
#: Dtypes of weights by sample.
WEIGHTS_IN = ["float32", "float64", "int64"]


@pytest.fixture(params=["float16", "bfloat16"])
def narrow(request, has_dtype):
    if not has_dtype(request.param):
        pytest.skip(f"no {request.param} here")
    return request.param


@pytest.fixture
def close(narrow, to_numpy):
    """Within some roundings of half precision of the largest expected; ``times`` lifts what is small."""
    eps = {"float16": 2.0**-11, "bfloat16": 2.0**-8}[narrow]

    def close(got, expected, times=1.0):
        got = [to_numpy(a).astype(np.float64) * times for a in (got if isinstance(got, tuple) else (got,))]
        expected = [np.asarray(a) * times for a in (expected if isinstance(expected, tuple) else (expected,))]
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=4 * eps, atol=8 * eps * np.abs(other).max())

    return close


def every_loss(logits, labels, vector, options, sample_weight):
    loss = sg.CrossEntropy(**options)
    return (
        *loss.value_and_grad(logits, labels, sample_weight=sample_weight),
        loss(logits, labels, sample_weight=sample_weight),
        loss.hvp(logits, labels, vector, sample_weight=sample_weight),
        loss.hessian_diag(logits, labels, sample_weight=sample_weight),
    )


def every_linear(X, labels, W, options):
    value, grads = sg.linear_cross_entropy_value_and_grad(X, labels, W, wrt=("W", "X"), **options)
    first, step = partial.finish(partial.linear_partial(X, labels, W, **options))
    model = partial.BatchedLinearCrossEntropy(
        [(X, labels, options["sample_weight"])], **{k: v for k, v in options.items() if k != "sample_weight"}
    )
    return (
        value,
        grads[0],
        sg.linear_cross_entropy(X, labels, W, **options),
        sg.linear_cross_entropy_hvp(X, labels, W, W, **options),
        sg.linear_cross_entropy_hessian(X, labels, W, **options),
        statistics.linear_cross_entropy_hessian_diag(X, labels, W, **options),
        first,
        step,
        model.value(W),
    ), grads[1]


# --- half precision


@pytest.mark.parametrize("labels", list(TARGETS))
@pytest.mark.parametrize(
    ("scale", "dtype"), [pair for pair in itertools.product(SCALES, WEIGHTS_IN) if pair != ("tiny", "int64")]
)
def test_a_mean_takes_weights_that_half_precision_cannot_hold(scale, dtype, labels, narrow, asarray, close):
    weight = (1 + np.arange(N) % 3) * SCALES[scale]
    target, kind = TARGETS[labels], "int64" if labels == "indices" else "float32"
    class_weight = np.array([1.0, 2.0, 3.0]) * SCALES[scale]
    kinds = {}, {"class_weight": class_weight.tolist()}, {"label_smoothing": 0.125, "z_loss": 0.25}
    # each with each scale, and with each dtype and kind of labels
    options = kinds[(WEIGHTS_IN.index(dtype) + list(TARGETS).index(labels) + list(SCALES).index(scale)) % 3]
    given = every_loss(
        asarray(LOGITS, narrow), asarray(target, kind), asarray(LOGITS, narrow), options, asarray(weight, dtype)
    )
    expected = every_loss(LOGITS, target, LOGITS, options, weight)
    for one, other in zip(given, expected, strict=True):
        assert one.dtype == given[0].dtype
        # bits of the logits' format are lost from what is below its smallest normal number
        close(one, other, 1.0 if np.ndim(other) == 0 else N)


@pytest.mark.parametrize("labels", list(TARGETS))
@pytest.mark.parametrize("scale", list(SCALES))
@late_on_jax
def test_a_linear_mean_takes_weights_that_half_precision_cannot_hold(scale, labels, narrow, asarray, close):
    weight = (1 + np.arange(N) % 3) * SCALES[scale]
    target, kind = TARGETS[labels], "int64" if labels == "indices" else "float32"
    options = {"class_weight": [1e-8, 2e-8, 3e-8], "block_size": 700} if scale == "large" else {}
    arrays = asarray(X, narrow), asarray(target, kind), asarray(W, narrow)
    given, rows = every_linear(*arrays, {**options, "sample_weight": asarray(weight, "float32")})
    expected, by_X = every_linear(X, target, W, {**options, "sample_weight": weight})
    close(given, expected)
    close(rows, by_X, N)


@pytest.mark.parametrize("weight", [1e5, np.float64(1e-8)])
def test_a_number_as_weight_is_no_number_of_half_precision(weight, narrow, asarray, close):
    logits, labels = asarray(LOGITS, narrow), asarray(LABELS, "int64")
    close(sg.cross_entropy(logits, labels, sample_weight=weight), sg.cross_entropy(LOGITS, LABELS))


def test_a_mean_over_more_samples_than_half_precision_counts(narrow, asarray, to_numpy, close):
    n = 200_000
    logits, labels = np.tile([[1.0, 0.5, 0.25]], (n, 1)), np.ones(n, int)
    x, y = asarray(logits, narrow), asarray(labels, "int64")
    value, grad = sg.cross_entropy_value_and_grad(x, y)
    expected, slope = sg.cross_entropy_value_and_grad(logits, labels)
    close(value, expected)
    # of float16 a part in 16 is left of numbers this small
    np.testing.assert_allclose(to_numpy(grad).astype(np.float64), slope, rtol=1 / 16)
    value, grad = sg.linear_cross_entropy_value_and_grad(x, y, asarray(np.eye(3), narrow))
    close((value, grad), sg.linear_cross_entropy_value_and_grad(logits, labels, np.eye(3)))
    assert float(to_numpy(sg.CrossEntropy().total_weight(x, y))) == n


@pytest.mark.parametrize("precision", [None, "high"])
def test_total_weight_beside_half_precision_is_float32(precision, narrow, asarray, to_numpy):
    labels = np.arange(2400) >= 14
    loss = sg.CrossEntropy(ignore_index=0, precision=precision)
    got = loss.total_weight(asarray(np.zeros((2400, 2)), narrow), asarray(labels, "int64"))
    assert float(to_numpy(got)) == 2386
    assert got.dtype == asarray([0.0], "float32").dtype


def test_soft_targets_keep_their_tail(narrow, asarray, close):
    # the tail's class costs 3e4 each: a part in 3,000 of the loss comes from it
    tail = np.float32(1e-8).astype(np.float64)
    logits, targets = np.tile([[0.0, -3e4]], (4, 1)), np.tile([[0.5, tail]], (4, 1))
    given = sg.cross_entropy(asarray(logits, narrow), asarray(targets, "float32"), reduction="sum")
    close(given, 4 * tail * float(np.asarray(-logits[0, 1])))


@pytest.mark.parametrize("labels", list(TARGETS))
@pytest.mark.parametrize("scale", list(SCALES))
def test_recorded_means_take_weights_that_half_precision_cannot_hold(scale, labels, backend, narrow, asarray, close):
    weight = (1 + np.arange(N) % 3) * SCALES[scale]
    target, kind = TARGETS[labels], "int64" if labels == "indices" else "float32"
    x, y, s = asarray(LOGITS, narrow), asarray(target, kind), asarray(weight, "float32")
    features, matrix = asarray(X, narrow), asarray(W, narrow)
    loss, linear = sg.CrossEntropy(class_weight=[1.0, 2.0, 3.0]), sg.linear_cross_entropy
    expected = loss.grad(LOGITS, target, sample_weight=weight)
    by_W = sg.linear_cross_entropy_grad(X, target, W, sample_weight=weight)
    if backend == "torch":
        x.requires_grad_()
        loss(x, y, sample_weight=s).backward()
        matrix.requires_grad_()
        linear(features, y, matrix, sample_weight=s).backward()
        got = x.grad, matrix.grad
    elif backend == "jax":
        import jax

        got = (
            jax.grad(lambda x: loss(x, y, sample_weight=s))(x),
            jax.grad(lambda matrix: linear(features, y, matrix, sample_weight=s))(matrix),
        )
    else:
        pytest.skip("nothing here records")
    close(got[0], expected, N)
    close(got[1], by_W)


def test_a_loss_scaled_after_its_sum_keeps_its_gradient(backend, narrow, asarray, close):
    """The gradient of the sum is no number of float16, that of its thousandth is."""
    matrix, features, labels = asarray(W, narrow), asarray(X * 128, narrow), asarray(LABELS, "int64")
    if backend == "torch":
        matrix.requires_grad_()
        (sg.linear_cross_entropy(features, labels, matrix, reduction="sum") / 1024).backward()
        got = matrix.grad
    elif backend == "jax":
        import jax

        got = jax.grad(lambda a: sg.linear_cross_entropy(features, labels, a, reduction="sum") / 1024)(matrix)
    else:
        pytest.skip("nothing here records")
    expected = sg.linear_cross_entropy_grad(X * 128, LABELS, W, reduction="sum")
    assert np.abs(expected).max() > 65504
    close(got, expected / 1024)


@pytest.mark.parametrize("width", ["float16", "bfloat16"])
def test_autocast_takes_weights_that_half_precision_cannot_hold(width, torch, usual_kernels, asarray):
    for scale in SCALES.values():
        weight = (1 + np.arange(N) % 3) * scale
        for labels in TARGETS.values():
            x = asarray(LOGITS, width).requires_grad_()
            y = asarray(labels, "float32" if labels.ndim == 2 else "int64")
            with torch.autocast("cpu", dtype=getattr(torch, width)):
                value = sg.cross_entropy(x, y, sample_weight=asarray(weight, "float32"))
            value.backward()
            expected, slope = sg.cross_entropy_value_and_grad(LOGITS, labels, sample_weight=weight)
            np.testing.assert_allclose(value.item(), expected, rtol=1e-5)
            np.testing.assert_allclose(x.grad.double() * N, slope * N, rtol=0.01, atol=1e-2)


# --- samples of which `where` hides every class

SHOWN = np.arange(40) % 5 > 0
FEW = slice(0, 40)
LAYOUTS = ["by row", "whole", "class first"]


def without_hidden(value):
    """Arguments by sample without the hidden samples."""
    return value[SHOWN]


@late_on_jax
@pytest.mark.parametrize("labels", list(TARGETS))
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "options",
    [{}, {"label_smoothing": 0.25, "z_loss": 0.5, "class_weight": [1.0, 2.0, 0.5]}, {"precision": "high"}],
    ids=["plain", "options", "high"],
)
def test_a_sample_hidden_whole_is_as_an_ignored_one(options, layout, labels, asarray, to_numpy):
    x, target = LOGITS[FEW], TARGETS[labels][FEW]
    x = np.where(SHOWN[:, None], x, np.nan)
    kind = "int64" if labels == "indices" else "float64"
    if labels == "indices":
        target = np.where(SHOWN, target, -100)
    shown = np.broadcast_to(SHOWN[:, None], x.shape) if layout == "whole" else SHOWN[:, None]
    weight = np.linspace(0.5, 2, 40)
    axis = 0 if layout == "class first" else -1
    turn = (lambda a: a.T) if layout == "class first" else lambda a: a
    target_ = turn(target) if labels == "soft" else target
    # a mask of fewer dimensions than the logits may stand for samples alone
    where = asarray(SHOWN if layout == "class first" else shown, "bool")
    # weights by sample with every second reduction, in turn
    first = LAYOUTS.index(layout) + list(TARGETS).index(labels)
    for i, reduction in enumerate(("none", "sum", "mean")):
        given = {"sample_weight": weight} if (first + i) % 2 else {}
        beside = {name: asarray(value) for name, value in given.items()}
        few = {name: without_hidden(value) for name, value in given.items()}
        loss = sg.CrossEntropy(axis=axis, reduction=reduction, **options)
        args = asarray(turn(x)), asarray(target_, kind)
        vector = asarray(turn(LOGITS[:40]))
        plain = sg.CrossEntropy(reduction=reduction, **options)
        only = without_hidden(x), without_hidden(target)
        value, slope = loss.value_and_grad(*args, where=where, **beside)
        results = {
            "value": (loss(*args, where=where, **beside), plain(*only, **few)),
            "value again": (value, plain(*only, **few)),
            "grad": (slope, plain.grad(*only, **few)),
            "grad again": (loss.grad(*args, where=where, **beside), plain.grad(*only, **few)),
            "hvp": (loss.hvp(*args, vector, where=where, **beside), plain.hvp(*only, LOGITS[:40][SHOWN], **few)),
            "diagonal": (loss.hessian_diag(*args, where=where, **beside), plain.hessian_diag(*only, **few)),
            "weight": (loss.total_weight(*args, where=where, **beside), plain.total_weight(*only, **few)),
        }
        for name, (got, expected) in results.items():
            got = to_numpy(got)
            if got.ndim:
                got = turn(got) if got.ndim == 2 else got
                assert not got[~SHOWN].any(), name
                got = got[SHOWN]
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("labels", list(TARGETS))
@pytest.mark.parametrize(("sample_axis", "block_size"), [(0, 7), (1, None), *full((0, None), (1, 7))])
@late_on_jax
def test_a_sample_hidden_whole_is_none_of_the_linear_model(block_size, sample_axis, labels, asarray, to_numpy):
    features, target = np.where(SHOWN[:, None], X[FEW], np.nan), TARGETS[labels][FEW]
    kind = "int64" if labels == "indices" else "float64"
    turn = (lambda a: a.T) if sample_axis else lambda a: a
    given = asarray(turn(features)), asarray(turn(target) if labels == "soft" else target, kind), asarray(turn(W))
    only = features[SHOWN], target[SHOWN], W
    options = {"class_weight": [1.0, 2.0, 0.5], "block_size": block_size}
    masked = {**options, "sample_axis": sample_axis, "where": asarray(turn(SHOWN[:, None]), "bool")}
    value, slopes = sg.linear_cross_entropy_value_and_grad(*given, wrt=("W", "X"), **masked)
    expected, wanted = sg.linear_cross_entropy_value_and_grad(*only, wrt=("W", "X"), **options)
    by_X = turn(to_numpy(slopes[1]))
    assert not by_X[~SHOWN].any()
    results = [
        (value, expected),
        (turn(to_numpy(slopes[0])), wanted[0]),
        (by_X[SHOWN], wanted[1]),
        (sg.linear_cross_entropy(*given, **masked), expected),
        (
            turn(to_numpy(sg.linear_cross_entropy_hvp(*given, given[2], **masked))),
            sg.linear_cross_entropy_hvp(*only, W, **options),
        ),
        (
            turn(to_numpy(statistics.linear_cross_entropy_hessian_diag(*given, **masked))),
            statistics.linear_cross_entropy_hessian_diag(*only, **options),
        ),
        (partial.linear_partial(*given, **masked).weight, partial.linear_partial(*only, **options).weight),
        (partial.finish(partial.linear_partial(*given, **masked))[0], expected),
    ]
    for got, one in results:
        np.testing.assert_allclose(to_numpy(got), one, rtol=1e-12, atol=1e-14)
    each = to_numpy(sg.linear_cross_entropy(*given, reduction="none", **masked))
    np.testing.assert_allclose(each[SHOWN], sg.linear_cross_entropy(*only, reduction="none", **options), rtol=1e-12)
    assert not each[~SHOWN].any()


def test_a_mask_that_hides_every_class_leaves_nothing_to_lose(asarray, to_numpy):
    for where in (False, asarray([False] * 3, "bool"), asarray([[False] * 3] * 40, "bool")):
        args = asarray(LOGITS[FEW]), asarray(LABELS[FEW], "int64")
        value, slope = sg.cross_entropy_value_and_grad(*args, where=where)
        assert to_numpy(value) == 0
        assert not to_numpy(slope).any()
        assert to_numpy(sg.CrossEntropy().total_weight(*args, where=where)) == 0


def test_derivatives_of_recorded_losses_leave_hidden_samples_out(backend, asarray, to_numpy):
    where = asarray(SHOWN[:, None], "bool")
    x = asarray(np.where(SHOWN[:, None], LOGITS[FEW], np.nan))
    matrix, features, y = asarray(W), asarray(X[FEW]), asarray(LABELS[FEW], "int64")
    if backend == "torch":
        x.requires_grad_()
        matrix.requires_grad_()
        sg.cross_entropy(x, y, where=where).backward()
        sg.linear_cross_entropy(features, y, matrix, where=where).backward()
        got = x.grad, matrix.grad
    elif backend == "jax":
        import jax

        got = (
            jax.grad(lambda x: sg.cross_entropy(x, y, where=where))(x),
            jax.grad(lambda matrix: sg.linear_cross_entropy(features, y, matrix, where=where))(matrix),
        )
    else:
        pytest.skip("nothing here records")
    expected = np.zeros((40, 3))
    expected[SHOWN] = sg.cross_entropy_grad(LOGITS[FEW][SHOWN], LABELS[FEW][SHOWN])
    np.testing.assert_allclose(to_numpy(got[0]), expected, rtol=1e-12, atol=1e-15)
    by_W = sg.linear_cross_entropy_grad(X[FEW][SHOWN], LABELS[FEW][SHOWN], W)
    np.testing.assert_allclose(to_numpy(got[1]), by_W, rtol=1e-12)


# --- masks as weights


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_weight_of_booleans_is_a_mask(dtype, asarray, to_numpy):
    x, y, mask = asarray(LOGITS[FEW], dtype), asarray(LABELS[FEW], "int64"), asarray(SHOWN, "bool")
    ones = asarray(SHOWN, dtype)
    given = every_loss(x, y, x, {"class_weight": [1.0, 2.0, 0.5]}, mask)
    for one, other in zip(given, every_loss(x, y, x, {"class_weight": [1.0, 2.0, 0.5]}, ones), strict=True):
        assert one.dtype == x.dtype
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    assert float(to_numpy(sg.CrossEntropy().total_weight(x, y, sample_weight=mask))) == SHOWN.sum()
    features, matrix = asarray(X[FEW], dtype), asarray(W, dtype)
    given, by_X = every_linear(features, y, matrix, {"sample_weight": mask})
    expected, rows = every_linear(features, y, matrix, {"sample_weight": ones})
    for one, other in zip((*given, by_X), (*expected, rows), strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))
    found = statistics.coefficient_statistics(features, matrix, sample_weight=mask)
    for one, other in zip(found, statistics.coefficient_statistics(features, matrix, sample_weight=ones), strict=True):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other))


@pytest.mark.parametrize("weight", [True, np.True_])
def test_true_as_weight_is_one(weight, asarray, to_numpy):
    x, y = asarray(LOGITS[FEW]), asarray(LABELS[FEW], "int64")
    got = sg.cross_entropy(x, y, sample_weight=weight)
    np.testing.assert_array_equal(to_numpy(got), to_numpy(sg.cross_entropy(x, y, sample_weight=1.0)))


# of JAX a program for each of a dozen functions, and the mask is made weights as in the test above
@pytest.mark.full("jax")
def test_a_fit_takes_a_mask_as_weights(asarray, to_numpy):
    solving = {"solver": "newton-cg", "tol": 1e-6}
    masked = sg.SoftmaxRegression(**solving)
    masked.fit(asarray(X[FEW]), asarray(LABELS[FEW], "int64"), sample_weight=asarray(SHOWN, "bool"))
    only = sg.SoftmaxRegression(**solving).fit(X[FEW][SHOWN], LABELS[FEW][SHOWN])
    np.testing.assert_allclose(to_numpy(masked.coef_), only.coef_, rtol=1e-4, atol=1e-5)
    score = masked.score(asarray(X[FEW]), asarray(LABELS[FEW], "int64"), asarray(SHOWN, "bool"))
    np.testing.assert_allclose(score, only.score(X[FEW][SHOWN], LABELS[FEW][SHOWN]))
