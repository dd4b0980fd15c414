"""Partial results: what shares of the samples, or of the classes, add up to."""

import itertools
import pickle

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
import softgrad as sg
from marks import late_on_jax
from softgrad import partial

N, M, K = 11, 3, 5
RNG = np.random.default_rng(23)
X = RNG.normal(size=(N, M))
W = RNG.normal(size=(K, M))
BIAS = RNG.normal(size=K)
LABELS = RNG.integers(0, K, size=N)
SAMPLE_WEIGHT = RNG.random(N)
SOFT = RNG.dirichlet(np.ones(K), size=N)
LOGITS = RNG.normal(size=(N, K)) * 4
OPTIONS = {
    "plain": {},
    "all": {"class_weight": (0.5, 2.0, 1.0, 3.0, 0.0), "label_smoothing": 0.2, "z_loss": 0.1, "ignore_index": 1},
}
SHARES = [(0, 11), (0, 4, 11), (0, 1, 2, 11), (0, 0, 6, 6, 11)]

every_sharing = pytest.mark.parametrize("cuts", SHARES, ids=str)


def slices(cuts):
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


def close(result, expected, **keywords):
    assert np.shape(result) == np.shape(expected)
    np.testing.assert_allclose(result, expected, **{"rtol": 1e-13, "atol": 1e-15, **keywords})


# --- shares of the samples


def parts_of(asarray, cuts, *, options="plain", labels=LABELS, weight=None, bias=True, sample_axis=0, dtype="float64"):
    labels = np.asarray(labels)
    turn = np.transpose if sample_axis else np.asarray
    out = []
    for rows in slices(cuts):
        share = labels[rows]
        out.append(
            partial.linear_partial(
                asarray(turn(X[rows]), dtype),
                asarray(share, "int64") if share.ndim == 1 else asarray(turn(share), dtype),
                asarray(turn(W), dtype),
                asarray(BIAS, dtype) if bias else None,
                sample_weight=None if weight is None else asarray(weight[rows], dtype),
                sample_axis=sample_axis,
                **OPTIONS[options],
            )
        )
    return out


@late_on_jax
@every_sharing
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("sample_axis", [0, 1])
def test_shares_of_samples_make_the_whole(cuts, options, sample_axis, asarray, to_numpy):
    merged = partial.merge(*parts_of(asarray, cuts, options=options, weight=SAMPLE_WEIGHT, sample_axis=sample_axis))
    turn = np.transpose if sample_axis else np.asarray
    whole = sg.LinearCrossEntropy(
        turn(X), LABELS, sample_axis=sample_axis, sample_weight=SAMPLE_WEIGHT, l2=0.7, **OPTIONS[options]
    )
    value, grads = whole.value_and_grad(turn(W), BIAS)
    found, slopes = partial.finish(merged, W=asarray(turn(W)), l2=0.7)
    close(to_numpy(found), value)
    for slope, grad in zip(slopes, grads, strict=True):
        close(to_numpy(slope), grad)


@every_sharing
@late_on_jax
def test_shares_with_soft_targets_and_no_bias(cuts, asarray, to_numpy):
    merged = partial.merge(*parts_of(asarray, cuts, labels=SOFT, bias=False))
    value, grad = sg.linear_cross_entropy_value_and_grad(X, SOFT, W)
    found, slope = partial.finish(merged)
    close(to_numpy(found), value)
    close(to_numpy(slope), grad)
    close(to_numpy(merged.weight), float(N))


@late_on_jax
def test_sums_and_weight_against_multiprecision(asarray, to_numpy):
    merged = partial.merge(*parts_of(asarray, (0, 4, 11), weight=SAMPLE_WEIGHT, bias=False))
    value = oracle.linear(X, LABELS, W, reduction="sum", sample_weight=SAMPLE_WEIGHT)
    close(to_numpy(merged.loss), float(np.asarray(value).item()))
    close(to_numpy(merged.weight), SAMPLE_WEIGHT.sum())


@late_on_jax
def test_shares_that_count_for_nothing(asarray, to_numpy):
    weight = np.where(np.arange(N) < 4, 0.0, 1.0)
    none, rest = parts_of(asarray, (0, 4, 11), weight=weight)
    assert float(to_numpy(none.weight)) == 0.0
    value, slopes = partial.finish(none)
    assert float(to_numpy(value)) == 0.0
    assert not any(np.any(to_numpy(slope)) for slope in slopes)
    close(to_numpy(partial.finish(partial.merge(none, rest))[0]), sg.linear_cross_entropy(X[4:], LABELS[4:], W, BIAS))


@late_on_jax
def test_half_precision_is_summed_in_float32(asarray, to_numpy, has_dtype):
    if not has_dtype("float16"):
        pytest.skip("no float16")
    (part,) = parts_of(asarray, (0, 11), dtype="float16")
    assert {str(a.dtype).split(".")[-1] for a in (part.loss, *part.grad, part.weight)} == {"float32"}
    big = partial.linear_partial(
        asarray(np.full((4, 1), 250.0), "float16"), asarray([0] * 4, "int64"), asarray([[-250.0], [0.0]], "float16")
    )
    assert float(to_numpy(big.loss)) == 4 * 62500.0


@given(st.permutations(range(6)), st.integers(0, 4))
def test_grouping_and_order_change_rounding_alone(order, cut):
    shares = np.array_split(np.arange(N), 6)
    parts = [partial.linear_partial(X[shares[i]], LABELS[shares[i]], W) for i in order]
    merged = partial.merge(partial.merge(*parts[: cut + 1]), partial.merge(*parts[cut + 1 :]))
    value, grad = sg.linear_cross_entropy_value_and_grad(X, LABELS, W)
    close(partial.finish(merged)[0], value)
    close(partial.finish(merged)[1], grad)


# --- shares of the classes: log-sum-exp

ROWS = {
    "plain": [1.0, -2.0, 0.5, 3.0, 3.0],
    "far apart": [-1000.0, 800.0, 799.0, -5.0, 0.0],
    "dominant": [0.0, 40.0, -3.0, 1.0, 2.0],
    "ties": [2.0] * 5,
    "some -inf": [-np.inf, 0.0, -np.inf, -np.inf, 1.0],
    "all -inf": [-np.inf] * 5,
    "+inf": [0.0, np.inf, 1.0, -np.inf, 2.0],
    "two +inf": [np.inf, 0.0, 0.0, 0.0, np.inf],
    "nan": [0.0, np.nan, 1.0, np.inf, 2.0],
}
# of Dask's arrays every share is a graph
every_class_cut = pytest.mark.parametrize(
    "cuts",
    [(0, 5), (0, 2, 5), pytest.param((0, 1, 2, 3, 4, 5), marks=pytest.mark.full("dask")), (0, 0, 3, 3, 5, 5)],
    ids=str,
)


@every_class_cut
@pytest.mark.parametrize("row", ROWS)
def test_shares_of_classes_make_the_logsumexp(row, cuts, asarray, to_numpy):
    x = np.array([ROWS[row], ROWS["plain"]])
    parts = [partial.logsumexp_partial(asarray(x[:, piece])) for piece in slices(cuts)]
    found = to_numpy(partial.finish(partial.merge(*parts)))
    with mpmath.workdps(50):
        finite = np.isfinite(x[0]) | (x[0] == -np.inf)
        expected = [
            float(oracle.logsumexp(x[0], axis=0)) if finite.all() else np.nan if np.isnan(x[0]).any() else np.inf,
            float(oracle.logsumexp(x[1], axis=0)),
        ]
    close(found, expected, rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("axis", [0, 1, -1])
@late_on_jax
def test_any_axis_and_mask(axis, asarray, to_numpy):
    shown = RNG.random((6, 8)) < 0.5
    shown[:, 2], shown[3, :] = False, False
    x = RNG.normal(size=(6, 8))
    cut = (slice(None), slice(0, 3)) if axis else slice(0, 3)
    rest = (slice(None), slice(3, None)) if axis else slice(3, None)
    parts = [
        partial.logsumexp_partial(asarray(x[piece]), axis=axis, where=asarray(shown[piece], "bool"))
        for piece in (cut, rest)
    ]
    close(to_numpy(partial.finish(partial.merge(*parts))), oracle.rounded(oracle.logsumexp(x, axis=axis, where=shown)))


@late_on_jax
def test_the_pair_of_maximum_and_sum(asarray, to_numpy):
    part = partial.logsumexp_partial(asarray([[1.0, 1.0, 0.0]]))
    close(to_numpy(part.max), [1.0])
    close(to_numpy(part.sum), [2 + np.exp(-1)])


@late_on_jax
def test_what_is_small_beside_the_maximum_keeps_its_digits(asarray, to_numpy):
    x = np.array([[0.0, -40.0, -41.0, -50.0]])
    parts = [partial.logsumexp_partial(asarray(x[:, piece])) for piece in slices((0, 1, 3, 4))]
    with mpmath.workdps(50):
        expected = float(mpmath.log1p(mpmath.exp(-40) + mpmath.exp(-41) + mpmath.exp(-50)))
    close(to_numpy(partial.finish(partial.merge(*parts))), [expected], rtol=1e-15, atol=0.0)


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=12), st.data())
def test_any_numbers_in_any_shares(values, data):
    x = np.array(values)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=4))), len(x)]
    parts = data.draw(st.permutations([partial.logsumexp_partial(x[piece]) for piece in slices(cuts)]))
    expected = float(oracle.logsumexp(x, axis=0))
    assert partial.finish(partial.merge(*parts)) == pytest.approx(expected, rel=1e-14, abs=1e-14)


# --- shares of the classes: cross-entropy


def class_parts(asarray, logits, labels, cuts, dtype="float64", **keywords):
    return [
        partial.cross_entropy_partial(
            asarray(logits[:, piece], dtype), asarray(labels, "int64"), offset=piece.start, **keywords
        )
        for piece in slices(cuts)
    ]


@every_class_cut
def test_shares_of_classes_make_the_loss_and_its_gradient(cuts, asarray, to_numpy):
    merged = partial.merge(*class_parts(asarray, LOGITS, LABELS, cuts))
    reference = oracle.cross_entropy(LOGITS, LABELS)
    close(to_numpy(partial.finish(merged)), oracle.rounded(reference.value("none")))
    grads = [
        to_numpy(
            partial.cross_entropy_shard_grad(
                asarray(LOGITS[:, piece]), asarray(LABELS, "int64"), merged, offset=piece.start
            )
        )
        for piece in slices(cuts)
    ]
    close(np.concatenate(grads, axis=1), oracle.rounded(reference.grad("none")))


@late_on_jax
def test_a_sure_sample_keeps_its_digits_in_float32(asarray, to_numpy):
    logits, labels = np.array([[20.0, 0.0, -1.0, 1.0]]), np.array([0])
    parts = class_parts(asarray, logits, labels, (0, 2, 4), dtype="float32")
    merged = partial.merge(*parts)
    with mpmath.workdps(40):
        others = mpmath.exp(-20) + mpmath.exp(-21) + mpmath.exp(-19)
        loss, slope = float(mpmath.log1p(others)), float(-others / (1 + others))
    close(to_numpy(partial.finish(merged)), [loss], rtol=1e-6, atol=0.0)
    grad = partial.cross_entropy_shard_grad(asarray(logits[:, :2], "float32"), asarray(labels, "int64"), merged)
    close(to_numpy(grad)[0, 0], slope, rtol=1e-6, atol=0.0)


@late_on_jax
def test_huge_logits_do_not_overflow(asarray, to_numpy):
    logits, labels = np.array([[1e4, -1e4, 9999.0], [-1e4, 1e4, 0.0]]), np.array([1, 1])
    merged = partial.merge(*class_parts(asarray, logits, labels, (0, 1, 3)))
    close(to_numpy(partial.finish(merged)), oracle.rounded(oracle.cross_entropy(logits, labels).value("none")))


@late_on_jax
def test_a_label_in_no_share_is_nan(asarray, to_numpy):
    labels = np.array([2, 5, -1])
    merged = partial.merge(*class_parts(asarray, LOGITS[:3], labels, (0, 2, 5)))
    np.testing.assert_array_equal(np.isnan(to_numpy(partial.finish(merged))), [False, True, True])
    grad = partial.cross_entropy_shard_grad(asarray(LOGITS[:3, :2]), asarray(labels, "int64"), merged)
    np.testing.assert_array_equal(np.isnan(to_numpy(grad)), [[False] * 2, [True] * 2, [True] * 2])


@late_on_jax
def test_masked_classes(asarray, to_numpy):
    shown = RNG.random((N, K)) < 0.7
    shown[np.arange(N), LABELS] = True
    shown[0, LABELS[0]] = False
    parts, cuts = [], (0, 2, 5)
    for piece in slices(cuts):
        where = asarray(shown[:, piece], "bool")
        arguments = asarray(LOGITS[:, piece]), asarray(LABELS, "int64")
        parts.append((arguments, where, partial.cross_entropy_partial(*arguments, offset=piece.start, where=where)))
    merged = partial.merge(*(part for _, _, part in parts))
    expected = sg.cross_entropy(LOGITS, LABELS, where=shown, reduction="none")
    found = to_numpy(partial.finish(merged))
    assert found[0] == np.inf
    close(found, expected)
    grad = np.concatenate(
        [
            to_numpy(partial.cross_entropy_shard_grad(*a, merged, offset=piece.start, where=w))
            for (a, w, _), piece in zip(parts, slices(cuts), strict=True)
        ],
        axis=1,
    )
    close(grad[1:], sg.cross_entropy_grad(LOGITS[1:], LABELS[1:], where=shown[1:], reduction="none"))


@pytest.mark.parametrize("cuts", [(0, 5), (0, 2, 5)], ids=str)
@late_on_jax
def test_rows_without_a_finite_maximum_are_as_in_one_place(cuts, asarray, to_numpy):
    rows = np.array([ROWS[name] for name in ("all -inf", "+inf", "two +inf", "nan", "some -inf", "plain")])
    labels = np.array([1, 1, 2, 0, 0, 3])
    shown = np.ones((6, 5), dtype=bool)
    shown[5] = False
    pieces = slices(cuts)
    arguments = [
        (asarray(rows[:, piece]), asarray(labels, "int64"), asarray(shown[:, piece], "bool")) for piece in pieces
    ]
    merged = partial.merge(
        *(
            partial.cross_entropy_partial(x, y, offset=piece.start, where=w)
            for (x, y, w), piece in zip(arguments, pieces, strict=True)
        )
    )
    close(to_numpy(partial.finish(merged)), [np.nan, np.nan, np.nan, np.nan, np.inf, 0.0])
    close(sg.cross_entropy(rows, labels, where=shown, reduction="none"), [np.nan, np.nan, np.nan, np.nan, np.inf, 0.0])
    grads = [
        to_numpy(partial.cross_entropy_shard_grad(x, y, merged, offset=piece.start, where=w))
        for (x, y, w), piece in zip(arguments, pieces, strict=True)
    ]
    whole = sg.cross_entropy_grad(rows, labels, where=shown, reduction="none")
    close(np.concatenate(grads, axis=1)[[0, 1, 2, 3, 5]], whole[[0, 1, 2, 3, 5]])


# --- what travels, and what is refused


def test_results_stay_in_the_library(asarray):
    x = asarray(LOGITS)
    parts = [
        *parts_of(asarray, (0, 11)),
        partial.logsumexp_partial(x),
        partial.cross_entropy_partial(x, asarray(LABELS, "int64")),
    ]
    for part in parts:
        fields = [a for field in part for a in (field if isinstance(field, tuple) else (field,))]
        assert all(type(a) in (type(x), np.float64) for a in fields)
        assert len({str(getattr(a, "device", None)) for a in (*fields, x) if type(a) is type(x)}) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_partial_results_can_be_sent(dtype):
    x = LOGITS.astype(dtype)
    for part in (
        partial.linear_partial(X.astype(dtype), LABELS, W.astype(dtype)),
        partial.logsumexp_partial(x),
        partial.cross_entropy_partial(x, LABELS),
    ):
        again = pickle.loads(pickle.dumps(part))
        assert type(again) is type(part)
        for a, b in zip(again, part, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@late_on_jax
def test_what_is_refused(asarray):
    x, labels, w = asarray(X), asarray(LABELS, "int64"), asarray(W)
    logits = asarray(LOGITS)
    linear, lse = partial.linear_partial(x, labels, w), partial.logsumexp_partial(logits)
    loss = partial.cross_entropy_partial(logits, labels)
    for name in ("l2", "reduction"):
        with pytest.raises(TypeError, match=f"no option '{name}'"):
            partial.linear_partial(x, labels, w, **{name: 1.0})
    with pytest.raises(TypeError, match="at least one"):
        partial.merge()
    with pytest.raises(TypeError, match=r"one kind.*LinearPartial.*LogSumExpPartial"):
        partial.merge(linear, lse)
    with pytest.raises(TypeError, match="got int"):
        partial.merge(3)
    with pytest.raises(TypeError, match="got tuple"):
        partial.finish(tuple(lse))
    with pytest.raises(TypeError, match="bias"):
        partial.merge(linear, partial.linear_partial(x, labels, w, asarray(BIAS)))
    with pytest.raises(ValueError, match="l2"):
        partial.finish(linear, l2=1.0)
    with pytest.raises(ValueError, match="l2"):
        partial.finish(lse, l2=1.0, W=w)
    with pytest.raises(ValueError, match="l2"):
        partial.finish(linear, l2=-1.0, W=w)
    with pytest.raises(ValueError, match="class axis"):
        partial.logsumexp_partial(asarray(1.0))
    with pytest.raises(TypeError, match="integers"):
        partial.cross_entropy_partial(logits, asarray(LABELS))
    with pytest.raises(ValueError, match=r"labels must have shape \(11,\)"):
        partial.cross_entropy_partial(logits, labels[:3])
    with pytest.raises(TypeError, match="offset"):
        partial.cross_entropy_partial(logits, labels, offset=1.0)
    with pytest.raises(ValueError, match="offset"):
        partial.cross_entropy_partial(logits, labels, offset=-1)
    with pytest.raises(TypeError, match="CrossEntropyPartial"):
        partial.cross_entropy_shard_grad(logits, labels, lse)
    assert loss.found.shape == (N,)
