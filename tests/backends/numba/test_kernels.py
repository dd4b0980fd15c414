"""The compiled loops against the generic kernels in extended precision, and where they give way to others."""

import itertools

import numpy as np
import pytest
from array_api_compat import numpy as xp

import softgrad as sg
from extended import OPTIONS, WIDE, args_of, assert_near, exactly, widened
from softgrad._kernels import dense as dense_kernels
from softgrad._kernels import loss as loss_kernels
from softgrad._options import LossArgs
from softgrad.backends import _threads, numba

pytestmark = pytest.mark.usefixtures("usual_kernels")

#: Every number that is turned into columns; around one vector, two, four, and the parts of a long sum.
CLASSES = (*range(2, 19), 23, 31, 32, 33, 48, 63, 64, 65, 100, 1000, 4096, 8191, 8192, 9001)
DTYPES = ("float32", "float64")
ROWS = [(dtype, k) for dtype in DTYPES for k in CLASSES]
REDUCTIONS = ("none", "sum", "mean")
LOSS_OPTIONS = ("plain", "sample weights", "ignored", "ignored, no class", "out of range", "nothing counts")
FAMILIES = {
    "usual": lambda r, shape: 4 * r.normal(size=shape),
    "equal": lambda r, shape: np.full(shape, 0.25),
    "far": lambda r, shape: 500 + r.normal(size=shape),
    "down to nothing": lambda r, shape: r.uniform(-800, 0, shape),
    "dominated": lambda r, shape: np.where(np.arange(shape[1]) == shape[1] - 1, 25.0, 0.1 * r.normal(size=shape)),
    "two at the top": lambda r, shape: np.where(np.arange(shape[1]) % 15 == 1, 3.0, -20.0 - r.random(shape)),
    "with -inf": lambda r, shape: np.where(r.random(shape) < 0.3, -np.inf, 3 * r.normal(size=shape)),
}


@pytest.fixture
def rows(monkeypatch):
    """The kernels, for arrays of any size; cut for three threads."""
    from softgrad.backends.numba import rows as numba_rows

    monkeypatch.setattr(numba_rows, "AWAKE_ELEMENTS", 1)
    with _threads.workers(3):
        yield numba_rows


def check_loss(rows, x, args, what):
    """Value and gradient, together and alone, against the generic kernels."""
    value, grad = exactly(loss_kernels.cross_entropy_value_and_grad, x.astype(WIDE), widened(args))
    got = rows.cross_entropy_value_and_grad(xp, x, args)
    # a sum of losses is as exact as the largest of them
    assert_near(got[0], value, str(x.dtype), of_all=4.0, what=what)
    assert_near(got[1], grad, str(x.dtype), what=what)
    np.testing.assert_array_equal(rows.cross_entropy(xp, x, args), got[0])
    np.testing.assert_array_equal(rows.cross_entropy_grad(xp, x, args), got[1])


@pytest.mark.parametrize(("dtype", "k"), ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_dense_kernels(family, k, dtype, rows):
    x = FAMILIES[family](np.random.default_rng(k), (7 if k > 100 else 70, k)).astype(dtype)
    x.flags.writeable = False
    for name in ("softmax", "log_softmax", "logsumexp"):
        exact = exactly(getattr(dense_kernels, name), x.astype(WIDE), 1)
        # a log-sum-exp near 0 is the difference of its maximum and a logarithm
        near_0 = name == "logsumexp" and k < 16
        assert_near(getattr(rows, name)(xp, x, 1, None, None), exact, dtype, of_all=near_0, what=name)


def turned(values, start):
    """The values, from a place in their round on."""
    values = list(values)
    return values[start % len(values) :] + values[: start % len(values)]


@pytest.mark.parametrize(("dtype", "k"), ROWS)
@pytest.mark.parametrize("option", LOSS_OPTIONS)
def test_loss_kernels(option, k, dtype, rows):
    rng = np.random.default_rng(k)
    # every second option leads by three families on, so that each size has all seven
    start = 5 * LOSS_OPTIONS.index(option)
    for family, reduction in zip(turned(FAMILIES, start), turned(REDUCTIONS, start + k), strict=False):
        x = FAMILIES[family](rng, (7 if k > 100 else 70, k)).astype(dtype)
        args = args_of(option, x, 1, reduction, rng)
        if family == "dominated":
            args.labels[::2] = np.where(args.labels[::2] < 0, args.labels[::2], k - 1)
        check_loss(rows, x, args, what=family)


#: (outer indices, classes, columns): around one vector, two and four, and the parts of a sum.
COLUMNS = (
    (1, 2, 16), (3, 3, 17), (1, 10, 31), (2, 5, 32), (5, 16, 33), (2, 7, 63), (1, 100, 65), (2, 255, 16), (1, 256, 70),
    (1, 257, 20), (1, 4097, 19), (2, 3, 400),
)  # fmt: skip


def columns_of(family, shape, dtype):
    """Logits with the classes in the middle."""
    outer, k, inner = shape
    x = FAMILIES[family](np.random.default_rng(k), (outer * inner, k)).astype(dtype)
    x = np.ascontiguousarray(x.reshape(outer, inner, k).swapaxes(1, 2))
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", COLUMNS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_dense_kernels_of_columns(family, shape, dtype, rows):
    x = columns_of(family, shape, dtype)
    for name in ("softmax", "log_softmax", "logsumexp"):
        exact = exactly(getattr(dense_kernels, name), x.astype(WIDE), 1)
        assert_near(getattr(rows, name)(xp, x, 1, None, None), exact, dtype, of_all=name == "logsumexp", what=name)
        first = np.ascontiguousarray(x[0])
        np.testing.assert_array_equal(
            getattr(rows, name)(xp, first, 0, None, None), getattr(rows, name)(xp, x, 1, None, None)[0]
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", COLUMNS, ids=str)
@pytest.mark.parametrize("option", LOSS_OPTIONS)
def test_loss_kernels_of_columns(option, shape, dtype, rows):
    rng = np.random.default_rng(shape[1])
    reductions = itertools.cycle(turned(REDUCTIONS, shape[1] + LOSS_OPTIONS.index(option)))
    for family, reduction in zip(FAMILIES, reductions, strict=False):
        x = columns_of(family, shape, dtype)
        args = args_of(option, x, 1, reduction, rng)
        if family == "dominated":
            args.labels[:, ::2] = np.where(args.labels[:, ::2] < 0, args.labels[:, ::2], shape[1] - 1)
        check_loss(rows, x, args, what=family)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf, (np.inf, np.nan), (np.inf, -np.inf)])
def test_what_is_not_finite_stays_in_its_column(bad, dtype, rows):
    x = np.random.default_rng(0).normal(size=(5, 37)).astype(dtype)
    values = bad if isinstance(bad, tuple) else (bad,)
    for place in (0, 16, 36):
        x[: len(values), place] = values
    x[:, 20] = values[0]
    x[0, 33] = -np.inf
    wide = x.astype(WIDE)
    for name in ("softmax", "log_softmax", "logsumexp"):
        assert_near(getattr(rows, name)(xp, x, 0, None, None), exactly(getattr(dense_kernels, name), wide, 0), dtype)
    for label in (0, 1, 4):
        args = args_of("plain", x, 0, "none", np.random.default_rng(1))._replace(labels=np.full(37, label))
        exact = exactly(loss_kernels.cross_entropy_value_and_grad, wide, args)
        for got, wanted in zip(rows.cross_entropy_value_and_grad(xp, x, args), exact, strict=True):
            assert_near(got, wanted, dtype)


@pytest.mark.parametrize("shape", [(30_011, 2), (30_011, 3), (30_011, 5), (30_011, 10), (30_011, 16), (3000, 4, 33)])
def test_no_thread_writes_what_is_anothers(shape, rows):
    # of three classes four numbers are written, and the last vector of a thread's rows is not whole; of 33 columns a
    # vector holds 16, and the last one begins before those of the one before it end
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    args = args_of("plain", x, 1, "mean", np.random.default_rng(0))

    def results():
        p = rows.softmax(xp, x, 1, None, None)
        return p, rows.cross_entropy_grad(xp, x, args), rows.softmax_vjp(xp, p, x, 1)

    with _threads.workers(1):
        alone = results()
    for n in (2, 7, 16):
        with _threads.workers(n):
            some = results()
        for a, b in zip(alone, some, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "at"), [(2, 1), (3, 0), (7, 5), (10, 9), (33, 0), (33, 15), (33, 16), (33, 32)])
@pytest.mark.parametrize(
    "bad", [np.nan, -np.nan, np.inf, -np.inf, (np.inf, np.nan), (np.inf, -np.nan), (np.inf, -np.inf)]
)
def test_what_is_not_finite_stays_in_its_row(bad, k, at, dtype, rows):
    x = np.random.default_rng(0).normal(size=(5, k)).astype(dtype)
    values = bad if isinstance(bad, tuple) else (bad,)
    for step, value in enumerate(values):
        x[2, at - step] = value
    x[3] = values[0]
    wide = x.astype(WIDE)
    for name in ("softmax", "log_softmax", "logsumexp"):
        assert_near(getattr(rows, name)(xp, x, 1, None, None), exactly(getattr(dense_kernels, name), wide, 1), dtype)
    for label in (at, (at + 1) % k):
        args = args_of("plain", x, 1, "none", np.random.default_rng(1))._replace(labels=np.full(5, label))
        exact = exactly(loss_kernels.cross_entropy_value_and_grad, wide, args)
        for got, wanted in zip(rows.cross_entropy_value_and_grad(xp, x, args), exact, strict=True):
            assert_near(got, wanted, dtype)


def check_pulls(rows, x, axis, rng):
    """Derivatives at values of ``x`` in extended precision, against the formulas there."""
    dtype = x.dtype
    c = rng.normal(size=x.shape).astype(dtype)
    for name, function in (("softmax", "softmax_vjp"), ("softmax", "softmax_jvp"), ("log_softmax", "log_softmax_vjp")):
        a = exactly(getattr(dense_kernels, name), x.astype(WIDE), axis).astype(dtype)
        got = getattr(rows, function)(xp, a, c, axis)
        if name == "softmax":
            # of the rounded probabilities; a small one times a difference that cancels is off by its size
            top = np.take_along_axis(c, np.expand_dims(a.argmax(axis), axis), axis).astype(WIDE)
            apart = c - top
            exact = a * (apart - np.sum(a * apart, axis, keepdims=True))
            scale = a * (np.abs(c) + np.sum(a * np.abs(c), axis, keepdims=True))
        else:
            p = np.exp(a.astype(WIDE))
            others = np.where(a == a.max(axis, keepdims=True), 0, c.astype(WIDE)).sum(axis, keepdims=True)
            own = -c * np.expm1(a.astype(WIDE)) - p * others
            exact = np.where(a > -0.01, own, c - p * np.sum(c.astype(WIDE), axis, keepdims=True))
            scale = np.where(
                a > -0.01,
                np.abs(c * np.expm1(a)) + p * np.abs(c).sum(axis, keepdims=True),
                np.abs(c) + p * np.abs(c).sum(axis, keepdims=True),
            )
        near = np.abs(got - exact) <= 40 * np.finfo(dtype).eps * scale + np.finfo(dtype).tiny
        # of a row of -inf alone
        assert np.all(near | (np.isnan(a) & np.isnan(got))), function


@pytest.mark.parametrize(("dtype", "k"), ROWS)
@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_of_the_softmax(family, k, dtype, rows):
    rng = np.random.default_rng(k)
    check_pulls(rows, FAMILIES[family](rng, (7 if k > 100 else 70, k)).astype(dtype), 1, rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", COLUMNS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_of_the_softmax_of_columns(family, shape, dtype, rows):
    check_pulls(rows, columns_of(family, shape, dtype), 1, np.random.default_rng(1))


@pytest.mark.parametrize(("k", "columns"), [(2, 1), (10, 1), (16, 1), (40, 1), (16, 20)])
def test_the_cotangent_of_a_sure_class_keeps_its_digits(k, columns, rows):
    shape = (1, k, columns)
    p = np.full(shape, 1e-9, np.float32)
    p[0, 0] = 1.0
    c = np.full(shape, 3.0, np.float32)
    c[0, 1] = 4.0
    got = rows.softmax_vjp(xp, p, c, 1)
    np.testing.assert_allclose(got[0, 0], -1e-9, rtol=1e-6)
    np.testing.assert_allclose(got[0, 1], 1e-9, rtol=1e-6)
    log_p = np.full(shape, -20.0, np.float32)
    log_p[0, 0] = -(k - 1) * np.exp(-20.0)
    c = np.zeros(shape, np.float32)
    c[0, 0] = 1.0
    got = rows.log_softmax_vjp(xp, log_p, c, 1)
    np.testing.assert_allclose(got[0, 0], (k - 1) * np.exp(-20.0), rtol=1e-6)


def test_a_million_classes(rows):
    x = np.full((1, 1_000_003), 0.1, np.float32)
    np.testing.assert_allclose(rows.softmax(xp, x, 1, None, None), 1 / 1_000_003, rtol=6 * 6e-8)
    np.testing.assert_allclose(rows.logsumexp(xp, x, 1, None, None), np.float32(0.1) + np.log(1_000_003), rtol=1.2e-7)


def large(dtype="float32", k=1000):
    return np.random.default_rng(0).normal(size=(-(-numba.LEAST // k), k)).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*numba.FUNCTIONS, *numba.DERIVATIVES])
def test_large_arrays_come_here(name, dtype):
    x = large(dtype)
    arguments = (x,)
    if name.startswith("cross_entropy"):
        arguments = (x, np.zeros(len(x), np.int64))
    elif name.endswith(("vjp", "jvp")):
        arguments = (sg.log_softmax(x) if name.startswith("log") else sg.softmax(x), x)
    options = {"axis": -1}
    explained = sg.backends.explain(name, *arguments, **options)
    assert explained.backend == "numba"
    ours = getattr(sg, name)(*arguments, **options)
    other = "generic" if name.endswith(("vjp", "jvp")) else "numpy"
    with sg.backends.use(other):
        assert sg.backends.explain(name, *arguments, **options).backend == other
        others = getattr(sg, name)(*arguments, **options)
    assert type(ours) is type(others)
    for got, wanted in zip(*((r if isinstance(r, tuple) else (r,)) for r in (ours, others)), strict=True):
        assert got.dtype == wanted.dtype == dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: (x.reshape(-1, 1).copy(), {}), "classes"),
        (lambda x: (x[:1], {"axis": 0}), "classes"),
        (lambda x: (x.astype(np.float16), {}), "dtype"),
        (lambda x: (x, {"precision": "high"}), "precision"),
        (lambda x: (x, {"where": x < 2}), "where"),
    ],
)
def test_what_has_no_loop_goes_on(change, reason):
    x, options = change(large())
    explained = sg.backends.explain("softmax", x, **options)
    assert explained.backend != "numba"
    assert reason in dict(explained.declined)["numba"]
    assert np.isfinite(sg.softmax(x, **options)).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x[:1], {}),
        lambda x: (x[0], {}),
        lambda x: (x[:, ::2], {}),
        lambda x: (x[::-1], {}),
        lambda x: (np.asfortranarray(x), {}),
        lambda x: (x.reshape(-1, 1000, 1).repeat(3, 2), {"axis": 1}),
    ],
)
def test_no_size_and_no_layout_keeps_an_array_from_the_loops(change):
    x, options = change(large())
    assert sg.backends.explain("softmax", x, **options).backend == "numba"
    with sg.backends.use("generic"):
        wanted = sg.softmax(x, **options)
    np.testing.assert_allclose(sg.softmax(x, **options), wanted, rtol=1e-5)


@pytest.mark.parametrize("option", sorted(set(OPTIONS) - {"nothing counts"}))
def test_every_option_of_the_loss_gives_what_it_gives_elsewhere(option):
    x = large("float64", 40)
    args = args_of(option, x, 1, "mean", np.random.default_rng(3))
    options = args._asdict()
    labels = options.pop("labels")
    del options["dense"], options["precision"]
    value, grad = sg.cross_entropy_value_and_grad(x, labels, **options)
    with sg.backends.use("generic"):
        wanted, wanted_grad = sg.cross_entropy_value_and_grad(x, labels, **options)
    np.testing.assert_allclose(value, wanted, rtol=1e-12)
    np.testing.assert_allclose(grad, wanted_grad, rtol=1e-11, atol=1e-18)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int32", "uint64"])
@pytest.mark.parametrize("shape", [(10, 8, 1000), (80_000,)])
def test_labels_and_shapes_of_every_kind(shape, dtype):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 100, shape[:-1]).astype(dtype)
    for reduction in ("none", "mean"):
        value, grad = sg.cross_entropy_value_and_grad(x, labels, reduction=reduction)
        with sg.backends.use("generic"):
            wanted, wanted_grad = sg.cross_entropy_value_and_grad(x, labels, reduction=reduction)
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
        np.testing.assert_allclose(grad, wanted_grad, rtol=1e-5, atol=1e-12)


def test_the_number_of_threads_changes_no_element(rows):
    x = large()
    labels = np.zeros(len(x), np.int64)
    results = []
    for n in (1, 4):
        with sg.backends.workers(n):
            results.append([sg.softmax(x), sg.log_softmax(x), sg.cross_entropy_grad(x, labels)])
    for one, four in zip(*results, strict=True):
        np.testing.assert_array_equal(one, four)


def test_a_numba_that_does_not_work_is_named_and_left_out(monkeypatch):
    monkeypatch.setattr(numba, "_verdict", None)

    def refuse(name, package=None):
        raise ImportError("Numba needs NumPy 2.3 or less")

    monkeypatch.setattr(numba.importlib, "import_module", refuse)
    verdict = numba.should_run("softmax", xp, large(), 1, None, None)
    assert verdict == "numba: Numba needs NumPy 2.3 or less"


def test_a_variable_turns_numba_off(monkeypatch):
    for value, verdict in (("0", "SOFTGRAD_NUMBA=0 turns numba off"), ("1", True)):
        monkeypatch.setattr(numba, "_verdict", None)
        monkeypatch.setenv("SOFTGRAD_NUMBA", value)
        assert numba.should_run("softmax", xp, large(), 1, None, None) == verdict


def test_long_compiling_is_told_once_and_how_to_do_without(monkeypatch, caplog):
    import numba as compiler

    from softgrad.backends.numba import compile as numba_compile

    clock = numba_compile._clock
    monkeypatch.setattr(numba_compile, "TELL_AFTER_S", 0.0)
    monkeypatch.setattr(numba_compile.logging.getLogger("softgrad"), "level", 0)
    for name, value in (("seconds", 0.0), ("told", False)):
        monkeypatch.setattr(clock, name, value)

    def addition():
        def add(x):
            return x + 1

        return add

    compiler.njit(addition())(1)  # not ours
    assert (clock.seconds, caplog.text) == (0.0, "")
    for kept in (1, 1.0):
        ours = addition()
        ours.__module__ = numba_compile.__name__
        compiler.njit(ours)(kept)
    assert clock.depth == 0
    assert clock.seconds > 0
    assert [record.name for record in caplog.records] == ["softgrad"]
    assert "numba compiled for" in caplog.text
    assert "SOFTGRAD_NUMBA=0" in caplog.text


def test_what_is_kept_on_disk_is_out_of_date_with_any_module(monkeypatch):
    from softgrad.backends.numba import compile as numba_compile

    def misses():
        function = numba_compile.compiled(lambda x: x + 1)
        assert function(1) == 2
        return sum(function.stats.cache_misses.values())

    misses()
    assert misses() == 0
    monkeypatch.setattr(numba_compile, "_digest", lambda: "of sources that were changed")
    assert misses() == 1
    monkeypatch.undo()
    assert misses() == 1


def test_a_label_that_is_a_scalar_is_read_as_an_array(rows):
    # as a chunk of Dask's may be; the loops are given addresses
    x, label = np.asarray([0.5, -1.0, 2.0]), np.int64(2)
    args = LossArgs(0, label, False)
    assert isinstance(rows.samples_of(args, (), 3, "d").labels, np.ndarray)
    assert rows.cross_entropy(xp, x, args) == sg.cross_entropy(x, np.asarray(2))
