"""Log-probabilities of labels and the entropy: values, digits, derivatives to second order, edge cases, transforms."""

import math

import mpmath
import numpy as np
import pytest

import softgrad as sg
from marks import full, late, some
from softgrad.testing import check_gradient
from torch_second_order import second_order_holds

rng = np.random.default_rng(18)
#: One class sure, ties, an impossible class, large logits, a spread.
LOGITS = np.array(
    [
        [40.0, 0.0, 1.0, -3.0, 2.0],
        [0.5, 0.5, 0.5, 0.5, 0.5],
        [1.0, -np.inf, 2.0, 2.0, -1.0],
        [700.0, 703.0, 699.0, -700.0, 690.0],
        [3.0, -1.0, 0.25, -2.0, 2.5],
    ]
)
LABELS = np.array([[0, 4, 0], [1, 1, 2], [1, 2, 0], [1, 0, 3], [3, 4, 0]])
COTANGENT = np.array([[1.0, -0.5, 2.0], [0.25, 3.0, -1.0], [1.5, 0.5, -2.0], [1.0, 1.0, 1.0], [-1.0, 2.0, 0.5]])
WHERE = np.array(
    [
        [True, True, True, False, True],
        [False, True, True, False, True],
        [True, True, True, True, False],
        [True, False, True, True, True],
        [False, False, False, False, False],
    ]
)


def rows(x, where=None):
    """(probabilities, their logarithms) of each row in eighty digits, None where hidden."""
    with mpmath.workdps(80):
        for i, row in enumerate(np.asarray(x)):
            row = [a if isinstance(a, mpmath.mpf) else mpmath.mpf(float(a)) for a in row]
            shown = [True] * len(row) if where is None else where[i]
            e = [
                mpmath.exp(mpmath.mpf(a)) if s and a > -np.inf else mpmath.mpf(0)
                for a, s in zip(row, shown, strict=True)
            ]
            total = mpmath.fsum(e)
            p = [a / total if total else mpmath.mpf(0) for a in e]
            yield p, [mpmath.log(a) if a else -mpmath.inf for a in p], shown


def exact_log_probs(x, labels, where=None):
    return np.array([[float(log[y]) for y in ys] for (_, log, _), ys in zip(rows(x, where), labels, strict=True)])


def exact_log_probs_vjp(x, labels, c, where=None):
    out = np.zeros(np.shape(x))
    with mpmath.workdps(80):
        for i, (p, _, shown) in enumerate(rows(x, where)):
            pairs = [(y, mpmath.mpf(float(a))) for y, a in zip(labels[i], c[i], strict=True) if shown[y]]
            for j in range(len(p)):
                out[i, j] = float(mpmath.fsum(a * ((y == j) - p[j]) for y, a in pairs)) if shown[j] else 0.0
    return out


def _entropy(p, log):
    return -mpmath.fsum(a * b for a, b in zip(p, log, strict=True) if a)


def exact_entropy(x, where=None):
    with mpmath.workdps(80):
        return np.array([float(_entropy(p, log)) for p, log, _ in rows(x, where)])


def exact_entropy_vjp(x, c, where=None):
    out = np.zeros(np.shape(x))
    with mpmath.workdps(80):
        for i, (p, log, _) in enumerate(rows(x, where)):
            h = _entropy(p, log)
            out[i] = [float(-mpmath.mpf(float(c[i])) * a * (b + h)) if a else 0.0 for a, b in zip(p, log, strict=True)]
    return out


def close(got, expected, rtol, atol=1e-80):
    np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)


@pytest.fixture
def x(asarray):
    return asarray(LOGITS)


@pytest.fixture
def labels(asarray):
    return asarray(LABELS, "int64")


@pytest.mark.parametrize("axis", [1, 0])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_derivatives_are_the_formulas(masked, axis, asarray, to_numpy):
    where = WHERE if masked else None
    turned = (lambda a: a) if axis else np.transpose
    options = {"axis": axis, **({"where": asarray(turned(WHERE), "bool")} if masked else {})}
    x, labels, c = asarray(turned(LOGITS)), asarray(turned(LABELS), "int64"), asarray(turned(COTANGENT))
    close(turned(to_numpy(sg.log_probs(x, labels, **options))), exact_log_probs(LOGITS, LABELS, where), 2e-14)
    close(to_numpy(sg.entropy(x, **options)), exact_entropy(LOGITS, where), 2e-14)
    got = turned(to_numpy(sg.log_probs_vjp(x, labels, c, **options)))
    close(got, exact_log_probs_vjp(LOGITS, LABELS, COTANGENT, where), 2e-14)
    got = turned(to_numpy(sg.entropy_vjp(x, asarray(COTANGENT[:, 0]), **options)))
    close(got, exact_entropy_vjp(LOGITS, COTANGENT[:, 0], where), 2e-14, 1e-16)


@pytest.mark.parametrize("axis", [1, 0])
def test_one_label_a_sample_goes_without_the_class_axis(axis, asarray, to_numpy):
    turned = (lambda a: a) if axis else np.transpose
    x, c = asarray(turned(LOGITS)), asarray(COTANGENT[:, 0])
    one = asarray(LABELS[:, 0], "int64")
    expected = exact_log_probs(LOGITS, LABELS[:, :1])
    got = sg.log_probs(x, one, axis=axis)
    assert tuple(got.shape) == (5,)
    close(to_numpy(got), expected[:, 0], 2e-14)
    kept = sg.log_probs(x, asarray(turned(LABELS[:, :1]), "int64"), axis=axis)
    close(turned(to_numpy(kept)), expected, 2e-14)
    pulled = exact_log_probs_vjp(LOGITS, LABELS[:, :1], COTANGENT[:, :1])
    close(turned(to_numpy(sg.log_probs_vjp(x, one, c, axis=axis))), pulled, 2e-14)


def test_more_dimensions_and_one_sample(asarray, to_numpy):
    cube = asarray(np.stack([LOGITS.T[:, :3], LOGITS.T[:, 2:]]))
    labels = np.stack([LABELS[:3].T, LABELS[2:].T])
    got = to_numpy(sg.log_probs(cube, asarray(labels, "int64"), axis=1))
    assert got.shape == (2, 3, 3)
    close(got[0].T, exact_log_probs(LOGITS[:3], LABELS[:3]), 2e-14)
    close(to_numpy(sg.entropy(cube, axis=1))[1], exact_entropy(LOGITS[2:]), 2e-14)
    row = asarray(LOGITS[4])
    close(to_numpy(sg.log_probs(row, 2)), exact_log_probs(LOGITS[4:], [[2]])[0, 0], 2e-14)
    close(to_numpy(sg.log_probs(row, asarray(LABELS[4], "int64"))), exact_log_probs(LOGITS[4:], LABELS[4:])[0], 2e-14)
    close(to_numpy(sg.entropy(row)), exact_entropy(LOGITS[4:])[0], 2e-14)
    close(to_numpy(sg.entropy_vjp(row, asarray(2.0))), exact_entropy_vjp(LOGITS[4:], [2.0])[0], 2e-14)


@pytest.mark.parametrize("ahead", [8.0, 20.0, 80.0])
@pytest.mark.parametrize("shape", [(3, 4), (300, 40), (5000, 7)])
def test_what_is_nearly_0_keeps_its_digits_in_single_precision(shape, ahead, asarray, to_numpy):
    data = np.round(np.random.default_rng(1).normal(size=shape), 2).astype(np.float32)
    data[:, 1] += np.float32(ahead)
    looked_at = np.array([0, 1, shape[0] - 1])
    few, x = data[looked_at], asarray(data, "float32")
    labels = np.tile([1, 0], (shape[0], 1))
    c = np.tile([1.0, 0.25], (shape[0], 1))
    # a gap to the maximum is rounded, which its exponential stretches
    rtol = 1e-6 + ahead * 2.0**-23
    got = to_numpy(sg.log_probs(x, asarray(labels, "int64")))[looked_at]
    close(got, exact_log_probs(few, labels[looked_at]), rtol)
    close(to_numpy(sg.entropy(x))[looked_at], exact_entropy(few), rtol)
    got = to_numpy(sg.log_probs_vjp(x, asarray(labels, "int64"), asarray(c, "float32")))[looked_at]
    close(got, exact_log_probs_vjp(few, labels[looked_at], c[looked_at]), 2 * rtol)
    one = to_numpy(sg.log_probs_vjp(x, asarray(labels[:, 0], "int64"), asarray(c[:, 0], "float32")))[looked_at]
    close(one, exact_log_probs_vjp(few, labels[looked_at][:, :1], c[looked_at][:, :1]), 2 * rtol)
    got = to_numpy(sg.entropy_vjp(x, asarray(np.ones(shape[0]), "float32")))[looked_at]
    close(got, exact_entropy_vjp(few, np.ones(3)), 2 * rtol, 1e-9 * math.exp(-ahead))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("function", ["log_probs", "entropy", "log_probs of one"])
def test_vjp_are_the_derivatives(function, masked, asarray):
    data = asarray(LOGITS[[1, 4]])
    labels, c = asarray(LABELS[[1, 4]], "int64"), asarray(COTANGENT[[1, 4]])
    given = {"where": asarray(WHERE[[1, 0]], "bool")} if masked else {}
    if function == "entropy":
        check_gradient(lambda x: _sum(sg.entropy(x, **given) * c[:, 0]),
                       lambda x: sg.entropy_vjp(x, c[:, 0], **given), data)  # fmt: skip
        return
    # the label that is hidden in the second row is the first
    labels, c = (labels[:, 1:], c[:, 1:]) if function == "log_probs" else (labels[:, 1], c[:, 1])
    check_gradient(lambda x: _sum(sg.log_probs(x, labels, **given) * c),
                   lambda x: sg.log_probs_vjp(x, labels, c, **given), data)  # fmt: skip


def _sum(a):
    return a.__array_namespace__().sum(a) if hasattr(a, "__array_namespace__") else a.sum()


# --- scaled logits

SCALINGS = [{"temperature": 0.25}, {"softcap": 5.0}, {"temperature": 2.0, "softcap": 30.0}]


def exact_scaled(x, temperature=1.0, softcap=None):
    """(the scaled logits, their derivatives by the logits) in the digits of mpmath, as arrays of mpf."""
    with mpmath.workdps(80):
        z, slope = np.empty(x.shape, object), np.empty(x.shape, object)
        for at in np.ndindex(x.shape):
            a = mpmath.mpf(float(x[at]))
            z[at] = (a if softcap is None else softcap * mpmath.tanh(a / softcap)) / mpmath.mpf(temperature)
            slope[at] = (1 if softcap is None else mpmath.sech(a / softcap) ** 2) / mpmath.mpf(temperature)
        return z, slope


@pytest.mark.parametrize("axis", [1, 0])
@pytest.mark.parametrize("options", SCALINGS, ids=str)
def test_scaled_logits_and_derivatives_through_them(options, axis, asarray, to_numpy):
    data, where = LOGITS[[0, 1, 4]], WHERE[[0, 1, 2]]
    labels, c = LABELS[[0, 1, 4]], COTANGENT[[0, 1, 4]]
    z, slope = exact_scaled(data, **options)
    turned = (lambda a: a) if axis else np.transpose
    x, y, ct = asarray(turned(data)), asarray(turned(labels), "int64"), asarray(turned(c))
    for shown in (None, where):
        given = {"axis": axis, **options, **({} if shown is None else {"where": asarray(turned(shown), "bool")})}
        close(turned(to_numpy(sg.log_probs(x, y, **given))), exact_log_probs(z, labels, shown), 1e-13)
        close(to_numpy(sg.entropy(x, **given)), exact_entropy(z, shown), 1e-13)
        got = turned(to_numpy(sg.log_probs_vjp(x, y, ct, **given)))
        close(got, exact_log_probs_vjp(z, labels, c, shown) * slope.astype(float), 1e-13)
        got = turned(to_numpy(sg.entropy_vjp(x, asarray(c[:, 0]), **given)))
        close(got, exact_entropy_vjp(z, c[:, 0], shown) * slope.astype(float), 1e-13, 1e-16)
        one = {"axis": axis, **options}
        got = to_numpy(sg.log_probs(x, asarray(labels[:, 0], "int64"), **one))
        close(got, exact_log_probs(z, labels)[:, 0], 1e-13)
        got = turned(to_numpy(sg.log_probs_vjp(x, asarray(labels[:, 0], "int64"), asarray(c[:, 0]), **one)))
        close(got, exact_log_probs_vjp(z, labels[:, :1], c[:, :1]) * slope.astype(float), 1e-13)


def test_softcapped_infinities_are_numbers(asarray, to_numpy):
    x = asarray([[np.inf, 0.0, -np.inf]])
    got = to_numpy(sg.log_probs(x, asarray([[0, 1, 2]], "int64"), softcap=2.0))
    close(got, exact_log_probs([[2.0, 0.0, -2.0]], [[0, 1, 2]]), 1e-14)
    np.testing.assert_array_equal(to_numpy(sg.entropy_vjp(x, asarray([1.0]), softcap=2.0))[0, [0, 2]], [0.0, 0.0])


# --- edge cases


def test_a_row_without_a_sum_is_nan_and_spoils_no_other(asarray, to_numpy):
    data = np.array([[-np.inf] * 3, [np.inf, 0.0, 1.0], [np.nan, 0.0, 1.0], [0.0, 0.0, -np.inf]])
    x, labels = asarray(data), asarray([[0, 1]] * 4, "int64")
    c, nan = asarray(np.ones((4, 2))), [np.nan] * 3
    half = math.log(0.5)
    np.testing.assert_allclose(to_numpy(sg.log_probs(x, labels)), [*[[np.nan] * 2] * 3, [half, half]])
    np.testing.assert_allclose(to_numpy(sg.log_probs(x, labels[:, 1])), [*nan, half])
    np.testing.assert_allclose(to_numpy(sg.entropy(x)), [*nan, -half])
    np.testing.assert_allclose(to_numpy(sg.log_probs_vjp(x, labels, c)), [nan, nan, nan, [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(to_numpy(sg.log_probs_vjp(x, labels[:, 1], c[:, 1])), [nan, nan, nan, [-0.5, 0.5, 0.0]])
    np.testing.assert_allclose(to_numpy(sg.entropy_vjp(x, c[:, 0])), [nan, nan, nan, [0.0, 0.0, 0.0]])


def test_a_label_that_is_no_class_is_nan(asarray, to_numpy):
    x, c = asarray(LOGITS[:2]), asarray(np.ones((2, 2)))
    for dtype, bad in (("int64", -1), ("int32", 5), ("uint8", 255)):
        labels = asarray([[1, bad], [1, 0]], dtype)
        got = to_numpy(sg.log_probs(x, labels))
        np.testing.assert_array_equal(np.isnan(got), [[False, True], [False, False]])
        got = to_numpy(sg.log_probs_vjp(x, labels, c))
        np.testing.assert_array_equal(np.isnan(got), [[True] * 5, [False] * 5])
        one = asarray([bad, 0], dtype)
        np.testing.assert_array_equal(np.isnan(to_numpy(sg.log_probs(x, one))), [True, False])
        got = to_numpy(sg.log_probs_vjp(x, one, c[:, 0]))
        np.testing.assert_array_equal(np.isnan(got), [[True] * 5, [False] * 5])
        with pytest.raises(sg.LabelError, match=str(bad)):
            sg.log_probs(x, labels, validate=True)


def test_hidden_classes_may_hold_anything(asarray, to_numpy):
    x = asarray([[np.nan, 1.0, 1.0], [3.0, 4.0, np.inf], [0.0, np.nan, 2.0]])
    shown = [[False, True, True], [False] * 3, [True, True, True]]
    where, labels, c = asarray(shown, "bool"), asarray([[0, 1]] * 3, "int64"), asarray(np.ones((3, 2)))
    half = math.log(0.5)
    got = to_numpy(sg.log_probs(x, labels, where=where))
    np.testing.assert_allclose(got, [[-np.inf, half], [-np.inf, -np.inf], [np.nan, np.nan]])
    got = to_numpy(sg.log_probs(x, labels[:, 0], where=where))
    np.testing.assert_allclose(got, [-np.inf, -np.inf, np.nan])
    np.testing.assert_allclose(to_numpy(sg.entropy(x, where=where)), [-half, 0.0, np.nan])
    got = to_numpy(sg.log_probs_vjp(x, labels, c, where=where))
    np.testing.assert_allclose(got, [[0.0, 0.5, -0.5], [0.0] * 3, [np.nan] * 3])
    got = to_numpy(sg.entropy_vjp(x, c[:, 0], where=where))
    np.testing.assert_allclose(got, [[0.0] * 3, [0.0] * 3, [np.nan] * 3])


def test_a_single_class_is_sure_and_no_samples_have_no_results(asarray, to_numpy):
    x = asarray([[3.0], [-7.0]])
    labels = asarray([[0], [0]], "int64")
    np.testing.assert_array_equal(to_numpy(sg.log_probs(x, labels)), [[0.0], [0.0]])
    np.testing.assert_array_equal(to_numpy(sg.entropy(x)), [0.0, 0.0])
    np.testing.assert_array_equal(to_numpy(sg.entropy_vjp(x, asarray([1.0, 1.0]))), [[0.0], [0.0]])
    none = asarray(np.zeros((0, 3)))
    assert to_numpy(sg.entropy(none)).shape == (0,)
    assert to_numpy(sg.log_probs(none, asarray(np.zeros((0, 2)), "int64"))).shape == (0, 2)
    pulled = sg.log_probs_vjp(none, asarray(np.zeros((0, 2)), "int64"), asarray(np.zeros((0, 2))))
    assert to_numpy(pulled).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_half_precision_is_computed_in_single_and_rounded_once(dtype, asarray, to_numpy, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype}")
    x = asarray(LOGITS[[0, 1, 4]] / 8, dtype)
    known = to_numpy(x).astype(np.float64)
    labels, c = LABELS[[0, 1, 4]], COTANGENT[[0, 1, 4]]
    rtol = {"float16": 2**-10.9, "bfloat16": 2**-7.9, "float32": 1e-6}[dtype]
    for precision in (None, "high"):
        close(to_numpy(sg.log_probs(x, asarray(labels, "int64"), precision=precision)),
              exact_log_probs(known, labels), rtol)  # fmt: skip
        close(to_numpy(sg.entropy(x, precision=precision)), exact_entropy(known), rtol)
        got = sg.log_probs_vjp(x, asarray(labels, "int64"), asarray(c, dtype), precision=precision)
        assert got.dtype == x.dtype
        close(to_numpy(got), exact_log_probs_vjp(known, labels, c), rtol, 1e-7)
        got = sg.entropy_vjp(x, asarray(c[:, 0], dtype), precision=precision)
        close(to_numpy(got), exact_entropy_vjp(known, c[:, 0]), rtol, 1e-7)


def test_integers_become_the_default_float(asarray, to_numpy):
    x = asarray([[0, 0], [0, 0]], "int32")
    assert to_numpy(sg.entropy(x)) == pytest.approx(math.log(2))
    assert to_numpy(sg.log_probs(x, asarray([0, 1], "uint8"))) == pytest.approx(-math.log(2))


LAYOUTS = ["rows", "columns", "middle", "strided", "few"]


@pytest.mark.libraries("numpy", "torch", "dask")
# Dask's kernels are these of each chunk
@pytest.mark.parametrize("layout", ["rows", "columns", *(late(name, "dask") for name in LAYOUTS[2:])])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_arrays_give_what_the_generic_kernels_give(dtype, layout, asarray, to_numpy):
    shape, axis = {
        "rows": ((300, 1100), 1),
        "columns": ((70, 5000), 0),
        "middle": ((4, 33, 900), 1),
        "strided": ((40, 2000), 1),
        "few": ((20_000, 3), 1),
    }[layout]
    random = np.random.default_rng(2)
    data = (random.normal(size=shape) * 4).astype(dtype)
    if layout == "strided":
        data = data.T.copy().T
    samples = shape[:axis] + shape[axis + 1 :]
    several = (*shape[:axis], 3, *shape[axis + 1 :])
    x, c = asarray(data, dtype), asarray(random.normal(size=samples), dtype)
    labels = asarray(random.integers(0, shape[axis], several), "int64")
    many, shown = asarray(random.normal(size=several), dtype), asarray(random.random(shape) < 0.9, "bool")
    rtol, atol = (2e-5, 2e-6) if dtype == "float32" else (1e-12, 1e-14)
    for where in (None, shown):
        calls = [
            lambda w=where: sg.entropy(x, axis=axis, where=w),
            lambda w=where: sg.entropy_vjp(x, c, axis=axis, where=w),
            lambda w=where: sg.log_probs(x, labels, axis=axis, where=w),
            lambda w=where: sg.log_probs_vjp(x, labels, many, axis=axis, where=w),
        ]
        for call in calls:
            got = to_numpy(call())
            with sg.backends.use("generic"):
                close(got, to_numpy(call()), rtol, atol)


# --- transforms


def calls_of(labels, c, where):
    one = labels[:, 0]
    return {
        "log_probs": lambda x: sg.log_probs(x, labels) * c,
        "log_probs, one": lambda x: sg.log_probs(x, one) * c[:, 0],
        "log_probs, where": lambda x: sg.log_probs(x, labels[:, 2:], where=where) * c[:, 2:],
        "log_probs_vjp": lambda x: sg.log_probs_vjp(x, labels, c),
        "log_probs_vjp, one": lambda x: sg.log_probs_vjp(x, one, c[:, 0]),
        "entropy": lambda x: sg.entropy(x) * c[:, 0],
        "entropy, where": lambda x: sg.entropy(x, where=where),
        "entropy_vjp": lambda x: sg.entropy_vjp(x, c[:, 0]),
        "log_probs, scaled": lambda x: (
            sg.log_probs(x, labels[:, 2:], where=where, temperature=0.5, softcap=4.0) * c[:, 2:]
        ),
        "entropy, scaled": lambda x: sg.entropy(x, temperature=0.5, softcap=4.0),
    }


NAMES = list(calls_of(LABELS, COTANGENT, None))


@pytest.fixture
def calls(asarray):
    shown = asarray(WHERE[[1, 0]], "bool")
    return calls_of(asarray(LABELS[[1, 4]], "int64"), asarray(COTANGENT[[1, 4]]), shown)


@pytest.mark.parametrize("name", NAMES)
def test_torch_differentiates_twice(name, torch, calls, asarray):
    x = asarray(LOGITS[[1, 4]]).requires_grad_(True)
    assert torch.autograd.gradcheck(calls[name], (x,), check_forward_ad=True)
    assert second_order_holds(calls[name], (x,))


def test_torch_differentiates_by_the_cotangent_where_it_is_0(torch, asarray):
    x, labels = asarray(LOGITS[[1, 4]]), asarray(LABELS[[1, 4]], "int64")
    c = asarray(np.zeros(2)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda c: sg.log_probs_vjp(x, labels[:, 0], c), (c,))
    assert torch.autograd.gradcheck(lambda c: sg.entropy_vjp(x, c), (c,))


@pytest.mark.parametrize("name", some(NAMES, "log_probs, where", "entropy_vjp", "entropy, scaled"))
def test_torch_compiles_and_maps(name, torch, asarray, to_numpy):
    labels, c = asarray(LABELS[[1, 4]], "int64"), asarray(COTANGENT[[1, 4]])
    call = calls_of(labels, c, asarray(WHERE[[1, 0]], "bool"))[name]
    x = asarray(LOGITS[[1, 4]])
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="eager")
    close(to_numpy(compiled(x)), to_numpy(call(x)), 1e-13, 1e-15)
    stacked = torch.stack([x, 2 * x])
    mapped = torch.func.vmap(call)(stacked)
    close(to_numpy(mapped[1]), to_numpy(call(2 * x)), 1e-13, 1e-15)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # raised inside torch
@pytest.mark.parametrize("name", ["log_probs, scaled", *full("log_probs", "log_probs, one", "entropy")])
def test_torch_differentiates_what_is_compiled(name, torch, calls, asarray, to_numpy):
    torch._dynamo.reset()
    grads = []
    for function in (calls[name], torch.compile(calls[name], fullgraph=True, backend="aot_eager")):
        x = asarray(LOGITS[[1, 4]]).requires_grad_(True)
        function(x).sum().backward()
        grads.append(to_numpy(x.grad))
    close(grads[1], grads[0], 1e-13, 1e-15)


@pytest.mark.parametrize(
    "name", some(NAMES, "log_probs, scaled", "log_probs_vjp, one", "entropy, where", "entropy_vjp")
)
def test_jax_differentiates_twice_compiles_and_maps(name, jax, calls, asarray, to_numpy):
    call, x = calls[name], asarray(LOGITS[[1, 4]])
    v, step = asarray(np.random.default_rng(4).normal(size=(2, 5))), 1e-5
    value = jax.jit(lambda x: jax.numpy.sum(call(x)))
    slope = jax.jit(jax.grad(value))
    bend = jax.jit(lambda x: jax.jvp(slope, (x,), (v,))[1])
    for function, got in ((value, jax.numpy.vdot(slope(x), v)), (slope, bend(x))):
        along = (function(x + step * v) - function(x - step * v)) / (2 * step)
        close(to_numpy(got), to_numpy(along), 1e-6, 1e-8)
    close(to_numpy(jax.jit(call)(x)), to_numpy(call(x)), 1e-13, 1e-15)
    mapped = jax.vmap(call)(jax.numpy.stack([x, 2 * x]))
    close(to_numpy(mapped[1]), to_numpy(call(2 * x)), 1e-13, 1e-15)


def test_gradients_keep_their_digits_through_autodiff(backend, asarray, to_numpy):
    if backend not in ("torch", "jax"):
        pytest.skip("the library has no automatic differentiation")
    from softgrad.testing._autodiff import derivative

    data = np.round(np.random.default_rng(3).normal(size=(4, 6)), 2).astype(np.float32)
    data[:, 0] += np.float32(25)
    x, labels = asarray(data, "float32"), asarray([[0, 1]] * 4, "int64")
    got = to_numpy(derivative(lambda x: _sum(sg.entropy(x)), x))
    close(got, exact_entropy_vjp(data, np.ones(4)), 5e-6, 1e-20)
    got = to_numpy(derivative(lambda x: _sum(sg.log_probs(x, labels[:, 0])), x))
    close(got, exact_log_probs_vjp(data, [[0]] * 4, np.ones((4, 1))), 5e-6, 1e-20)


def test_dask_computes_nothing_early_whatever_the_chunks(dask, to_numpy):
    import dask.array as da

    for chunks in ((2, 5), (5, 2), (3, 3)):
        x = da.from_array(LOGITS, chunks=chunks)
        labels, c = da.from_array(LABELS, chunks=(1, 2)), da.from_array(COTANGENT, chunks=(4, 1))

        def refuse(*args, **kwargs):
            raise AssertionError("computed early")

        with dask.config.set(scheduler=refuse):
            out = [
                sg.log_probs(x, labels),
                sg.log_probs(x, labels[:, 0]),
                sg.entropy(x),
                sg.log_probs_vjp(x, labels, c),
                sg.entropy_vjp(x, c[:, 0]),
            ]
        expected = [
            exact_log_probs(LOGITS, LABELS),
            exact_log_probs(LOGITS, LABELS)[:, 0],
            exact_entropy(LOGITS),
            exact_log_probs_vjp(LOGITS, LABELS, COTANGENT),
            exact_entropy_vjp(LOGITS, COTANGENT[:, 0]),
        ]
        for got, want in zip(out, expected, strict=True):
            assert got.shape == want.shape
            close(to_numpy(got), want, 2e-14, 1e-16)
