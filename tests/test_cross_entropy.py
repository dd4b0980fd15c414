"""CrossEntropy with all its options, alone and combined, against the formula in multiprecision."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import softgrad as sg
from marks import late, late_on_jax

N, K = 4, 5
RNG = np.random.default_rng(20)
LOGITS = RNG.normal(scale=2.0, size=(N, K))
LABELS = np.array([3, 0, 4, 1])
SOFT = RNG.dirichlet(np.ones(K), size=N)
# rows that do not sum to one: counts, or a distribution with a part left out
COUNTS = np.array([[1.0, 0, 2, 0, 0.5], [0.25, 0.25, 0, 0, 0], [0, 0, 0, 3, 0], [0.5, 0.5, 1, 1, 1]])
VECTOR = RNG.normal(size=(N, K))
CLASS_WEIGHT = (0.5, 2.0, 1.0, 0.25, 3.0)
LOGIT_SHIFT = (0.5, -1.0, 0.25, 2.0, -0.125)
SAMPLE_WEIGHT = np.array([0.5, 2.0, 0.0, 1.25])
WHERE = np.array([[1, 0, 1, 1, 1], [1, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]], dtype=bool)
REDUCTIONS = ["none", "sum", "mean"]

OPTIONS = {
    "plain": {},
    "label_smoothing": {"label_smoothing": 0.2},
    "class_weight": {"class_weight": CLASS_WEIGHT},
    "z_loss": {"z_loss": 0.3},
    "ignore_index": {"ignore_index": 4},
    "smoothing and weights": {"label_smoothing": 0.2, "class_weight": CLASS_WEIGHT},
    "smoothing and z_loss": {"label_smoothing": 0.2, "z_loss": 0.3},
    "weights and z_loss": {"class_weight": CLASS_WEIGHT, "z_loss": 0.3},
    "softcap": {"softcap": 2.5},
    "temperature": {"temperature": 0.7},
    "logit_shift": {"logit_shift": LOGIT_SHIFT},
    "focal": {"focal": 2.0},
    "small focal": {"focal": 0.5},
    "scaled": {"softcap": 2.5, "temperature": 0.7, "logit_shift": LOGIT_SHIFT},
    "all": {"label_smoothing": 0.2, "class_weight": CLASS_WEIGHT, "z_loss": 0.3, "ignore_index": 0},
    "every one": {
        "softcap": 2.5,
        "temperature": 0.7,
        "logit_shift": LOGIT_SHIFT,
        "label_smoothing": 0.2,
        "class_weight": CLASS_WEIGHT,
        "focal": 1.5,
        "z_loss": 0.3,
        "ignore_index": 0,
    },
}
ARGUMENTS = {
    "bare": {},
    "sample_weight": {"sample_weight": SAMPLE_WEIGHT},
    "where": {"where": WHERE},
    "sample_weight and where": {"sample_weight": SAMPLE_WEIGHT, "where": WHERE},
}
TARGETS = {"indices": LABELS, "distribution": SOFT, "counts": COUNTS}


@pytest.fixture
def place(asarray):
    """Labels and keyword arguments on the library under test."""

    def place(labels, arguments=None, ndim=2):
        labels = np.asarray(labels)
        arguments = arguments or {}
        return asarray(labels, "float64" if labels.ndim == ndim else "int64"), {
            name: asarray(value, "bool" if name == "where" else "float64") for name, value in arguments.items()
        }

    return place


# --- the loss and its derivatives, for all options


# array-api-strict takes all combinations of what is left
LONE = [late(name, "array_api_strict") for name in ("sample_weight", "where")]


@pytest.mark.parametrize("arguments", ["bare", *LONE, "sample_weight and where"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_order_against_the_formula(options, target, arguments, asarray, to_numpy, place):
    # each option meets each reduction, of another target
    reduction = REDUCTIONS[(list(OPTIONS).index(options) + list(TARGETS).index(target)) % 3]
    options, arguments, labels = OPTIONS[options], ARGUMENTS[arguments], TARGETS[target]
    if "where" in arguments and target != "indices":
        # a hidden class with weight is an infinite loss, a case of its own
        labels = np.where(WHERE, labels, 0.0)
    if "ignore_index" in options and target != "indices":
        options = {**options, "ignore_index": None}
    reference = oracle.cross_entropy(LOGITS, labels, vector=VECTOR, **options, **arguments)
    device_labels, given = place(labels, arguments)
    loss = sg.CrossEntropy(reduction=reduction, **options)
    got = oracle.every_order(loss, asarray(LOGITS), device_labels, asarray(VECTOR), **given)
    for name, (array, kind) in got.items():
        expected = oracle.rounded(getattr(reference, kind)(reduction))
        result = to_numpy(array)
        assert result.shape == expected.shape, name
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-15, err_msg=f"{name}, reduction {reduction}")


@pytest.mark.parametrize("options", OPTIONS)
def test_total_weight(options, asarray, to_numpy, place):
    options = OPTIONS[options]
    loss = sg.CrossEntropy(**options)
    reference = oracle.cross_entropy(LOGITS, LABELS, sample_weight=SAMPLE_WEIGHT, orders=(), **options)
    labels, given = place(LABELS, {"sample_weight": SAMPLE_WEIGHT})
    np.testing.assert_allclose(
        to_numpy(loss.total_weight(asarray(LOGITS), labels, **given)),
        float(reference.total_weight()),
        rtol=1e-14,
    )
    reference = oracle.cross_entropy(LOGITS, LABELS, orders=(), **options)
    np.testing.assert_allclose(
        to_numpy(loss.total_weight(asarray(LOGITS), labels)), float(reference.total_weight()), rtol=1e-14
    )


def test_total_weight_of_soft_targets(asarray, to_numpy, place):
    labels, _ = place(COUNTS)
    total = sg.CrossEntropy(class_weight=CLASS_WEIGHT).total_weight(asarray(LOGITS), labels)
    np.testing.assert_allclose(to_numpy(total), np.sum(COUNTS @ np.array(CLASS_WEIGHT)), rtol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, -2, 2])
@pytest.mark.parametrize("dense", [False, True])
def test_axis(axis, dense, asarray, to_numpy, place):
    rng = np.random.default_rng(6)
    logits, vector = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2, 4))
    shape = np.delete(logits.shape, axis)
    labels = rng.integers(0, logits.shape[axis], size=shape)
    if dense:
        labels = np.moveaxis(np.eye(logits.shape[axis])[labels], -1, axis)
    weights = rng.random(shape)
    options = {
        "label_smoothing": 0.1,
        "z_loss": 0.2,
        "axis": axis,
        "class_weight": tuple(range(1, logits.shape[axis] + 1)),
    }
    reference = oracle.cross_entropy(logits, labels, sample_weight=weights, vector=vector, **options)
    device_labels, given = place(labels, {"sample_weight": weights}, ndim=3)
    for reduction in ("none", "mean"):
        loss = sg.CrossEntropy(reduction=reduction, **options)
        got = oracle.every_order(loss, asarray(logits), device_labels, asarray(vector), **given)
        for name, (array, kind) in got.items():
            expected = oracle.rounded(getattr(reference, kind)(reduction))
            np.testing.assert_allclose(to_numpy(array), expected, rtol=1e-12, atol=1e-15, err_msg=name)


@late_on_jax
@pytest.mark.parametrize("dense", [False, True])
def test_one_sample_without_a_sample_axis(dense, asarray, to_numpy, place):
    labels = SOFT[0] if dense else LABELS[0]
    reference = oracle.cross_entropy(LOGITS[0], labels, vector=VECTOR[0])
    device_labels, _ = place(labels, ndim=1)
    for reduction in REDUCTIONS:
        loss = sg.CrossEntropy(reduction=reduction)
        got = oracle.every_order(loss, asarray(LOGITS[0]), device_labels, asarray(VECTOR[0]))
        for name, (array, kind) in got.items():
            expected = oracle.rounded(getattr(reference, kind)(reduction))
            np.testing.assert_allclose(to_numpy(array), expected, rtol=1e-12, atol=1e-15, err_msg=name)


@late_on_jax
@pytest.mark.parametrize("mask", [WHERE[1], WHERE[:, :1], WHERE[3:]], ids=["(K,)", "(N, 1)", "(1, K)"])
def test_where_is_broadcast_to_the_logits(mask, asarray, to_numpy, place):
    labels = np.array([1, 1, 1, 1]) if mask.shape[-1] == K and mask[..., 1].all() else LABELS
    full = np.broadcast_to(mask, (N, K))
    loss = sg.CrossEntropy(reduction="none", label_smoothing=0.2)
    device_labels, given = place(labels, {"where": mask})
    _, spread = place(labels, {"where": full})
    expected = oracle.every_order(loss, asarray(LOGITS), device_labels, asarray(VECTOR), **spread)
    reference = oracle.cross_entropy(LOGITS, labels, label_smoothing=0.2, where=full, vector=VECTOR)
    for name, (array, kind) in oracle.every_order(
        loss, asarray(LOGITS), device_labels, asarray(VECTOR), **given
    ).items():
        np.testing.assert_allclose(to_numpy(array), to_numpy(expected[name][0]), rtol=1e-14, err_msg=name)
        np.testing.assert_allclose(
            to_numpy(array),
            oracle.rounded(getattr(reference, kind)("none")),
            rtol=1e-12,
            atol=1e-15,
            err_msg=name,
        )


@pytest.mark.parametrize("weight", [np.array(2.5), np.array([2.5]), SAMPLE_WEIGHT])
def test_sample_weight_is_broadcast_to_the_samples(weight, asarray, to_numpy, place):
    labels, given = place(LABELS, {"sample_weight": weight})
    reference = oracle.cross_entropy(LOGITS, LABELS, sample_weight=np.broadcast_to(weight, (N,)))
    for reduction in REDUCTIONS:
        value, gradient = sg.cross_entropy_value_and_grad(asarray(LOGITS), labels, reduction=reduction, **given)
        np.testing.assert_allclose(to_numpy(value), oracle.rounded(reference.value(reduction)), rtol=1e-12)
        np.testing.assert_allclose(
            to_numpy(gradient), oracle.rounded(reference.grad(reduction)), rtol=1e-12, atol=1e-15
        )


def test_sample_weight_may_be_a_number(asarray, to_numpy, place):
    labels, _ = place(LABELS)
    for reduction in REDUCTIONS:
        loss = sg.CrossEntropy(reduction=reduction)
        once = to_numpy(loss(asarray(LOGITS), labels))
        twice = to_numpy(loss(asarray(LOGITS), labels, sample_weight=2.0))
        np.testing.assert_allclose(twice, once * (1 if reduction == "mean" else 2), rtol=1e-14)


@pytest.mark.parametrize("k", [1, 2, 3, 10, 130])
def test_number_of_classes(k, asarray, to_numpy, place):
    rng = np.random.default_rng(k)
    logits, vector = rng.normal(size=(2, k)), rng.normal(size=(2, k))
    labels = np.array([0, k - 1])
    # second derivatives of 130 classes cost the reference seconds: small K tells as much
    orders = ("grad",) if k == 130 else ("grad", "hessian_diag", "hvp")
    reference = oracle.cross_entropy(logits, labels, label_smoothing=0.1, vector=vector, orders=orders)
    loss = sg.CrossEntropy(label_smoothing=0.1)
    device_labels, _ = place(labels)
    got = oracle.every_order(loss, asarray(logits), device_labels, asarray(vector))
    for name, (array, kind) in got.items():
        if kind not in ("value", *orders):
            continue
        expected = oracle.rounded(getattr(reference, kind)("mean"))
        np.testing.assert_allclose(to_numpy(array), expected, rtol=1e-12, atol=1e-15, err_msg=name)


def test_one_class_loses_nothing(asarray, to_numpy):
    got = oracle.every_order(
        sg.CrossEntropy(reduction="none"),
        asarray([[3.0], [-500.0]]),
        asarray([0, 0], "int64"),
        asarray([[1.0], [2.0]]),
    )
    for name, (array, _) in got.items():
        np.testing.assert_array_equal(to_numpy(array), np.zeros(to_numpy(array).shape), err_msg=name)


@late_on_jax
def test_one_hot_equals_indices(asarray, to_numpy, place):
    options = {"label_smoothing": 0.2, "class_weight": CLASS_WEIGHT, "z_loss": 0.3}
    loss = sg.CrossEntropy(**options)
    by_index = oracle.every_order(loss, asarray(LOGITS), place(LABELS)[0], asarray(VECTOR))
    for dtype in ("float64", "int64", "uint8"):
        one_hot = asarray(np.eye(K)[LABELS], dtype)
        for name, (array, _) in oracle.every_order(loss, asarray(LOGITS), one_hot, asarray(VECTOR)).items():
            np.testing.assert_allclose(
                to_numpy(array),
                to_numpy(by_index[name][0]),
                rtol=1e-13,
                atol=1e-16,
                err_msg=f"{name} {dtype}",
            )


# --- the numbers that cancellation would lose


@pytest.mark.parametrize("options", ["plain", "smoothing and weights"])
def test_gradient_row_sums_to_zero(options, asarray, to_numpy, place):
    labels, _ = place(LABELS)
    gradient = to_numpy(sg.cross_entropy_grad(asarray(LOGITS), labels, reduction="none", **OPTIONS[options]))
    np.testing.assert_allclose(np.sum(gradient, axis=-1), 0.0, atol=4e-16 * np.max(np.abs(gradient)) * K)


# --- derivatives against finite differences of the code itself


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("options", ["plain", "all", "every one"])
def test_gradient_against_finite_differences(options, target, asarray, to_numpy, place):
    options, labels, h = OPTIONS[options], TARGETS[target], 1e-5
    if target != "indices":
        options = {**options, "ignore_index": None}
    loss = sg.CrossEntropy(reduction="none", **options)
    steps = h * np.eye(K)[:, None, :]
    # one call for all steps: the steps are samples too
    spread = np.broadcast_to(labels, (K, *labels.shape))
    device_labels, _ = place(spread, ndim=3)
    ahead, behind = (to_numpy(loss(asarray(LOGITS + sign * steps), device_labels)) for sign in (1, -1))
    differences = ((ahead - behind) / (2 * h)).T
    gradient = to_numpy(loss.grad(asarray(LOGITS), place(labels)[0]))
    np.testing.assert_allclose(gradient, differences, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("options", ["plain", "all", "every one"])
@pytest.mark.parametrize("reduction", ["none", late("sum", "jax"), "mean"])
def test_hvp_against_finite_differences_of_the_gradient(reduction, options, target, asarray, to_numpy, place):
    options, labels, h = OPTIONS[options], TARGETS[target], 1e-5
    if target != "indices":
        options = {**options, "ignore_index": None}
    loss = sg.CrossEntropy(reduction=reduction, **options)
    device_labels, given = place(labels, {"sample_weight": SAMPLE_WEIGHT})
    ahead, behind = (
        to_numpy(loss.grad(asarray(LOGITS + sign * h * VECTOR), device_labels, **given)) for sign in (1, -1)
    )
    product = to_numpy(loss.hvp(asarray(LOGITS), device_labels, asarray(VECTOR), **given))
    np.testing.assert_allclose(product, (ahead - behind) / (2 * h), rtol=1e-7, atol=1e-9)


def test_hessian_diag_is_the_diagonal_of_the_hvps(asarray, to_numpy, place):
    loss = sg.CrossEntropy(**OPTIONS["every one"])
    labels, given = place(LABELS, ARGUMENTS["sample_weight and where"])
    diagonal = to_numpy(loss.hessian_diag(asarray(LOGITS), labels, **given))
    for c in range(K):
        unit = np.zeros((N, K))
        unit[:, c] = 1.0
        column = to_numpy(loss.hvp(asarray(LOGITS), labels, asarray(unit), **given))[:, c]
        np.testing.assert_allclose(diagonal[:, c], column, rtol=1e-12, atol=1e-16)


@late_on_jax
def test_hvp_is_linear_and_symmetric(asarray, to_numpy, place):
    loss = sg.CrossEntropy(**OPTIONS["every one"])
    labels, _ = place(LABELS)
    u, v = VECTOR, np.roll(VECTOR, 1, axis=0)
    hu, hv, huv = (to_numpy(loss.hvp(asarray(LOGITS), labels, asarray(d))) for d in (u, v, 2 * u - v))
    np.testing.assert_allclose(huv, 2 * hu - hv, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(np.sum(u * hv), np.sum(v * hu), rtol=1e-12)


# --- derivatives against the library's own autodiff


def _autodiff_grad(backend, f, x):
    if backend == "torch":
        x = x.clone().requires_grad_(True)
        f(x).backward()
        return x.grad
    if backend == "jax":
        import jax

        return jax.grad(f)(x)
    return pytest.skip(f"{backend} has no autodiff")


@pytest.mark.parametrize("arguments", ["bare", "sample_weight and where"])
@pytest.mark.parametrize("options", OPTIONS)
def test_gradient_equals_autodiff(options, arguments, backend, asarray, to_numpy, place):
    loss = sg.CrossEntropy(**OPTIONS[options])
    labels, given = place(LABELS, ARGUMENTS[arguments])
    expected = _autodiff_grad(backend, lambda x: loss(x, labels, **given), asarray(LOGITS))
    gradient = loss.grad(asarray(LOGITS), labels, **given)
    np.testing.assert_allclose(to_numpy(gradient), to_numpy(expected), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("arguments", ["bare", "sample_weight and where"])
@pytest.mark.parametrize("options", ["all", "every one"])
def test_hvp_equals_autodiff_of_the_gradient(options, arguments, backend, xp, asarray, to_numpy, place):
    loss = sg.CrossEntropy(**OPTIONS[options])
    labels, given = place(LABELS, ARGUMENTS[arguments])
    expected = _autodiff_grad(
        backend, lambda x: xp.sum(loss.grad(x, labels, **given) * asarray(VECTOR)), asarray(LOGITS)
    )
    product = loss.hvp(asarray(LOGITS), labels, asarray(VECTOR), **given)
    np.testing.assert_allclose(to_numpy(product), to_numpy(expected), rtol=1e-12, atol=1e-15)


@pytest.mark.libraries("torch")
def test_torch_agrees_on_every_option(backend, asarray, to_numpy):
    import torch

    weight = torch.tensor(CLASS_WEIGHT, dtype=torch.float64)
    for labels, ignored in (
        (asarray(LABELS, "int64"), 0),
        (asarray(LABELS, "int64"), -100),
        (asarray(SOFT), -100),
    ):
        for smoothing in (0.0, 0.3):
            for reduction in REDUCTIONS:
                x = asarray(LOGITS).requires_grad_(True)
                expected = torch.nn.functional.cross_entropy(
                    x, labels, weight, ignore_index=ignored, label_smoothing=smoothing, reduction=reduction
                )
                if labels.ndim == 2 and reduction == "mean":
                    # torch divides soft targets by N, not by their weight
                    expected = expected * N / sg.CrossEntropy(class_weight=weight).total_weight(x.detach(), labels)
                expected.sum().backward()
                value, gradient = sg.cross_entropy_value_and_grad(
                    x.detach(),
                    labels,
                    class_weight=weight,
                    ignore_index=ignored,
                    label_smoothing=smoothing,
                    reduction=reduction,
                )
                np.testing.assert_allclose(to_numpy(value), to_numpy(expected), rtol=1e-13)
                np.testing.assert_allclose(to_numpy(gradient), to_numpy(x.grad), rtol=1e-12, atol=1e-15)


# --- the object and its shorthands


def test_loss_object_holds_no_labels(asarray, to_numpy, place):
    loss = sg.CrossEntropy(**OPTIONS["all"])
    first, second = place(LABELS)[0], place(LABELS[::-1])[0]
    oracle.every_order(loss, asarray(LOGITS), first, asarray(VECTOR))
    fresh = oracle.every_order(sg.CrossEntropy(**OPTIONS["all"]), asarray(LOGITS), second, asarray(VECTOR))
    for name, (array, kind) in oracle.every_order(loss, asarray(LOGITS), second, asarray(VECTOR)).items():
        np.testing.assert_array_equal(to_numpy(array), to_numpy(fresh[name][0]), err_msg=name)
        reference = oracle.cross_entropy(LOGITS, LABELS[::-1], vector=VECTOR, **OPTIONS["all"])
        np.testing.assert_allclose(
            to_numpy(array), oracle.rounded(getattr(reference, kind)()), rtol=1e-12, atol=1e-15, err_msg=name
        )


@pytest.mark.libraries("numpy")
def test_labels_changed_in_place_are_read_again(backend):
    loss, labels = sg.CrossEntropy(), LABELS.copy()
    before = loss(LOGITS, labels)
    labels[0] = 0
    after = loss(LOGITS, labels)
    assert after != before
    assert after == sg.CrossEntropy()(LOGITS, labels.copy())


def test_loss_object_serves_other_shapes_and_widths(asarray, to_numpy):
    loss = sg.CrossEntropy(class_weight=(1.0, 2.0, 3.0), label_smoothing=0.1)
    for shape, dtype in (((2, 3), "float64"), ((5, 3), "float32"), ((3,), "float64"), ((2, 3), "float64")):
        logits = np.linspace(-1, 1, int(np.prod(shape))).reshape(shape)
        labels = np.ones(shape[:-1], dtype=np.int64)
        x = asarray(logits, dtype)
        value = loss(x, asarray(labels, "int64"))
        assert value.dtype == x.dtype
        reference = oracle.cross_entropy(logits, labels, class_weight=(1.0, 2.0, 3.0), label_smoothing=0.1, orders=())
        np.testing.assert_allclose(to_numpy(value), oracle.rounded(reference.value()), rtol=1e-6)


@late_on_jax
def test_shorthands_are_the_methods(asarray, to_numpy, place):
    options = {**OPTIONS["all"], "reduction": "sum", "axis": -1, "precision": None}
    labels, given = place(LABELS, ARGUMENTS["sample_weight and where"])
    logits, vector = asarray(LOGITS), asarray(VECTOR)
    loss = sg.CrossEntropy(**options)
    pairs = [
        (sg.cross_entropy(logits, labels, **options, **given), loss(logits, labels, **given)),
        (sg.cross_entropy_grad(logits, labels, **options, **given), loss.grad(logits, labels, **given)),
        (
            sg.cross_entropy_hvp(logits, labels, vector, **options, **given),
            loss.hvp(logits, labels, vector, **given),
        ),
        *zip(
            sg.cross_entropy_value_and_grad(logits, labels, **options, **given),
            loss.value_and_grad(logits, labels, **given),
            strict=True,
        ),
    ]
    for shorthand, method in pairs:
        np.testing.assert_array_equal(to_numpy(shorthand), to_numpy(method))


def test_default_options():
    """Nothing is done to a loss that was not asked for: the mean of -log p, the classes last."""
    told = {"axis": -1, "temperature": 1.0, "label_smoothing": 0.0, "reduction": "mean"}
    loss = sg.CrossEntropy()
    for field in dataclasses.fields(loss):
        assert getattr(loss, field.name) == told.get(field.name, 0.0 if field.type == "float" else None)


def test_loss_object_is_frozen():
    loss = sg.CrossEntropy()
    with pytest.raises(dataclasses.FrozenInstanceError):
        loss.reduction = "sum"
    assert dataclasses.replace(loss, reduction="sum").reduction == "sum"


# --- any options


# on JAX each example is compiled anew
@pytest.mark.full("jax")
@given(
    st.lists(st.lists(st.floats(-40, 40), min_size=3, max_size=3), min_size=2, max_size=2),
    st.lists(st.integers(0, 2), min_size=2, max_size=2),
    st.floats(0, 1),
    st.sampled_from([0.0, 0.3]),
    st.lists(st.floats(0, 4), min_size=3, max_size=3),
    st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=2, max_size=2),
)
def test_any_options_against_the_formula(
    asarray, to_numpy, logits, labels, smoothing, z_loss, class_weight, sample_weight
):
    logits = np.array(logits)
    options = {"label_smoothing": smoothing, "z_loss": z_loss, "class_weight": tuple(class_weight)}
    reference = oracle.cross_entropy(logits, labels, sample_weight=sample_weight, vector=VECTOR[:2, :3], **options)
    loss = sg.CrossEntropy(reduction="sum", **options)
    got = oracle.every_order(
        loss,
        asarray(logits),
        asarray(labels, "int64"),
        asarray(VECTOR[:2, :3]),
        sample_weight=asarray(sample_weight),
    )
    scale = 1e-15 * (1 + z_loss * 1600) * max(1.0, max(class_weight)) * (1 + smoothing * 400)
    for name, (array, kind) in got.items():
        expected = oracle.rounded(getattr(reference, kind)("sum"))
        np.testing.assert_allclose(to_numpy(array), expected, rtol=1e-11, atol=scale, err_msg=name)


def test_ignored_samples_count_for_nothing_beside_labels_that_are_no_class(asarray, to_numpy):
    x, y = asarray(np.arange(12.0).reshape(4, 3) % 5), asarray(np.asarray([-100, 7, 1, -100]), "int64")
    for options in ({}, {"label_smoothing": 0.1}):
        value, grad = sg.cross_entropy_value_and_grad(x, y, ignore_index=-100, reduction="none", **options)
        wrong = np.asarray([False, True, False, False])
        np.testing.assert_array_equal(np.isnan(to_numpy(value)), wrong)
        np.testing.assert_array_equal(np.isnan(to_numpy(grad)).all(1), wrong)
        assert not to_numpy(value)[[0, 3]].any()
        assert not to_numpy(grad)[[0, 3]].any()


@pytest.mark.libraries("numpy", "torch")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_weight_of_the_only_sample_of_strided_logits(dtype, asarray, to_numpy):
    x = asarray(np.arange(6.0), dtype)[::2]
    value, grad = sg.cross_entropy_value_and_grad(
        x, asarray(1, "int64"), sample_weight=asarray(0.5, dtype), reduction="sum"
    )
    whole, slope = sg.cross_entropy_value_and_grad(np.asarray([0.0, 2.0, 4.0]), 1, reduction="sum")
    np.testing.assert_allclose(to_numpy(value), whole / 2, rtol=1e-6)
    np.testing.assert_allclose(to_numpy(grad), slope / 2, rtol=1e-6)
