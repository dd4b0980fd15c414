"""The testing kit finds what is wrong, and lets pass what is right, on every array library."""

import decimal
import os
import subprocess
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest

import softgrad as sg
from marks import late, late_where_slow
from softgrad import testing
from softgrad.backends import Backend
from softgrad.testing import _reference as reference

SRC = Path(__file__).resolve().parents[2] / "src"
LOGITS = np.array([[0.5, -1.0, 2.0], [1.5, 0.5, -0.75]])
LABELS = np.array([2, 0])
# the sections that take JAX minutes are run once, in the test of the whole contract
QUICK = ("edge cases", "dtypes", "layout", "devices")
WITHOUT_GRADIENTS = (*QUICK, "values", "transforms", "large")


# --- digits


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_one_unit_in_the_last_place_is_one(dtype, asarray, has_dtype):
    if not has_dtype(dtype):
        pytest.skip(f"no {dtype}")
    digits = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}[dtype]
    ulp = 2.0 ** (1 - digits)
    actual = asarray([1.0, 1.0 + ulp, -2.0, 0.0], dtype)
    np.testing.assert_array_equal(testing.ulp_distance(actual, [1.0, 1.0, -2.0, 0.0]), [0, 1, 0, 0])
    testing.assert_close(actual, [1.0, 1.0, -2.0, 0.0], ulp=1)
    with pytest.raises(AssertionError, match=r"\[1\].*1 ulp"):
        testing.assert_close(actual, [1.0, 1.0, -2.0, 0.0], ulp=0.5)


def test_subnormal_numbers_have_the_smallest_unit():
    assert testing.ulp_distance(np.asarray([5e-324]), [0.0])[0] == 1
    assert testing.ulp_distance(np.asarray([0.0]), [2.0**-1000])[0] == 2.0**52


def test_infinities_and_nan_agree_with_themselves_alone(asarray):
    testing.assert_close(asarray([np.inf, -np.inf, np.nan]), [np.inf, -np.inf, np.nan])
    for wrong in ([np.inf, np.inf, np.nan], [np.inf, -np.inf, 0.0], [1.0, -np.inf, np.nan]):
        with pytest.raises(AssertionError):
            testing.assert_close(asarray([np.inf, -np.inf, np.nan]), wrong, ulp=1e300)


@pytest.mark.parametrize("number", [mpmath.mpf, decimal.Decimal])
def test_references_may_have_more_digits_than_a_float(number):
    with mpmath.workdps(40):
        third = number(1) / number(3)
    assert 0 < testing.ulp_distance(np.asarray(1 / 3), np.asarray(third, dtype=object)) < 0.5


def test_shapes_have_to_agree(asarray):
    with pytest.raises(AssertionError, match=r"shape \(2,\), expected \(1,\)"):
        testing.assert_close(asarray([1.0, 1.0]), [1.0])
    with pytest.raises(TypeError, match="int64"):
        testing.assert_close(asarray([1], "int64"), [1])


def test_normwise_measures_by_the_largest_entry(asarray):
    actual, expected = asarray([1.0, 1e-10]), [1.0, 1.0001e-10]
    testing.assert_close(actual, expected, ulp=100, normwise=True)
    with pytest.raises(AssertionError):
        testing.assert_close(actual, expected, ulp=100)


# --- the reference of the contract has no closed form of a derivative, and agrees with mpmath


def test_reference_agrees_with_mpmath():
    with mpmath.workdps(60):
        row = [mpmath.mpf(float(v)) for v in LOGITS[0]]
        total = mpmath.fsum(mpmath.exp(v) for v in row)
        for got, value in zip(reference.softmax(LOGITS)[0], row, strict=True):
            assert abs(mpmath.mpf(str(got)) - mpmath.exp(value) / total) < mpmath.mpf(10) ** -50
        slope = reference.gradient(lambda x: reference.loss(x, LABELS, reduction="sum"), LOGITS)[0][0]
        assert abs(mpmath.mpf(str(slope)) - mpmath.exp(row[0]) / total) < mpmath.mpf(10) ** -35


# --- gradients


@pytest.fixture
def loss(asarray):
    labels = asarray(LABELS, "int64")
    loss = sg.CrossEntropy(label_smoothing=0.125)
    return (
        lambda x: loss(x, labels),
        lambda x: loss.grad(x, labels),
        lambda x, v: loss.hvp(x, labels, v),
    )


@late_where_slow
@pytest.mark.parametrize(("dtype", "slip"), [("float32", 1e-2), ("float64", 1e-8)])
def test_a_right_gradient_passes_and_a_slipped_one_does_not(dtype, slip, asarray, loss):
    value, gradient, _ = loss
    x = asarray(LOGITS, dtype)
    found = testing.check_gradient(value, gradient, x)
    assert found.ok
    assert "central" in found.errors
    with pytest.raises(AssertionError, match=r"gradient is wrong.*central"):
        testing.check_gradient(value, lambda z: gradient(z) * (1 + slip), x)
    # a constant added to every row is what a forgotten normalizer does
    with pytest.raises(AssertionError):
        testing.check_gradient(value, lambda z: gradient(z) + slip, x)


@late_where_slow
def test_a_right_second_derivative_passes_and_a_slipped_one_does_not(asarray, loss):
    _, gradient, hvp = loss
    x = asarray(LOGITS)
    assert testing.check_hvp(gradient, hvp, x).errors.keys() >= {"central", "symmetry"}
    with pytest.raises(AssertionError, match="second derivative is wrong"):
        testing.check_hvp(gradient, lambda z, v: hvp(z, v) * (1 + 1e-7), x)
    with pytest.raises(AssertionError, match="symmetry"):
        testing.check_hvp(gradient, lambda z, v: hvp(z, v) + z, x, methods="central")


@late_where_slow
def test_half_precision_is_checked_in_single(asarray, has_dtype, loss):
    if not has_dtype("float16"):
        pytest.skip("no float16")
    value, gradient, _ = loss
    assert testing.check_gradient(value, gradient, asarray(LOGITS, "float16")).ok
    with pytest.raises(AssertionError):
        testing.check_gradient(value, lambda z: gradient(z) * 1.25, asarray(LOGITS, "float16"))


@late_where_slow
def test_the_complex_step_sees_what_differences_cannot(asarray, to_numpy):
    x = asarray(LOGITS)
    found = testing.check_gradient(lambda z: sg.logsumexp(z), lambda z: sg.softmax(z, axis=None), x)
    assert found.tolerances["complex"] < 1e-12
    with pytest.raises(AssertionError, match="complex"):
        testing.check_gradient(
            lambda z: sg.logsumexp(z), lambda z: sg.softmax(z, axis=None) * (1 + 1e-12), x, methods=("complex",)
        )


def test_automatic_differentiation_is_asked_where_there_is_one(backend, asarray, loss):
    value, gradient, _ = loss
    found = testing.check_gradient(value, gradient, asarray(LOGITS))
    assert ("autodiff" in found.errors) == (backend in ("torch", "jax"))
    if "autodiff" not in found.errors:
        with pytest.raises(TypeError, match="automatic differentiation"):
            testing.check_gradient(value, gradient, asarray(LOGITS), methods="autodiff")


def test_a_function_in_mpmath_is_an_exact_witness():
    x = np.array([0.25, -1.0, 3.0])

    def exact(z):
        return mpmath.log(mpmath.fsum(mpmath.exp(v) for v in z))

    assert testing.check_gradient(sg.logsumexp, sg.softmax, x, exact=exact).tolerances["exact"] < 1e-13
    with pytest.raises(AssertionError, match="exact"):
        testing.check_gradient(sg.logsumexp, lambda z: sg.softmax(z) * (1 + 1e-12), x, exact=exact, methods="central")


def test_a_function_that_is_not_analytic_is_checked_by_differences():
    x = np.array([1.0, -2.0, 0.5])
    found = testing.check_gradient(lambda z: np.sum(np.abs(z)), np.sign, x)
    assert "complex" in found.skipped


def test_large_arrays_are_checked_along_drawn_directions():
    x = np.random.default_rng(0).normal(size=(30, 20))
    gradient = sg.softmax(x, axis=None)
    assert testing.check_gradient(sg.logsumexp, gradient, x).ok
    wrong = gradient.copy()
    wrong[3, 4] += 1e-6
    with pytest.raises(AssertionError):
        testing.check_gradient(sg.logsumexp, wrong, x)


def test_nan_is_no_gradient():
    with pytest.raises(AssertionError):
        testing.check_gradient(np.sum, np.full(3, np.nan), np.ones(3))


def test_differences_that_tell_nothing_say_so():
    with pytest.raises(ValueError, match="tell nothing"):
        testing.check_gradient(lambda z: np.sin(1e4 * z[0]), lambda z: 1e4 * np.cos(1e4 * z), np.array([0.3]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.arange(3)}, "x must be a real floating array"),
        ({"grad": np.ones(2)}, r"grad gives shape \(2,\), expected \(3,\)"),
        ({"fn": lambda z: z}, r"fn gives shape \(3,\), expected \(\)"),
        ({"methods": "guess"}, "methods must be"),
    ],
)
def test_wrong_use_is_named(change, words):
    arguments = {"fn": np.sum, "grad": np.ones(3), "x": np.ones(3), **change}
    with pytest.raises((TypeError, ValueError), match=words):
        testing.check_gradient(**arguments)


# --- the contract


# most of the time goes to the gradients, which differences of the loss witness
@pytest.mark.full("jax")
@pytest.mark.parametrize(
    "sections",
    [
        late(None, "torch", "dask", "cupy", "array_api_strict", id="all"),
        late(WITHOUT_GRADIENTS, "numpy", id="without gradients"),
    ],
)
def test_every_library_keeps_the_contract(sections, xp):
    report = testing.check_backend(xp, show=False, on_failure="return", sections=sections)
    assert report.ok, "\n".join(f"{check.promise}: {check.detail}" for check in report.failures)
    assert {check.section for check in report.checks} >= set(QUICK)


def broken_softmax(xp, x, axis, where, precision):
    """As many write it: overflows, knows no mask, divides by the sum of what it has."""
    e = xp.exp(x)
    return e / xp.sum(e, axis=axis, keepdims=True)


def broken_grad(xp, logits, args):
    """The slip of the derivation: the class's own probability is lost."""
    probs = sg.softmax(logits, axis=args.axis)
    return probs - xp.mean(probs, axis=args.axis, keepdims=True)


BROKEN = Backend(
    "broken",
    ("numpy:ndarray",),
    {"softmax": f"{__name__}:broken_softmax", "cross_entropy_grad": f"{__name__}:broken_grad"},
    opt_in=True,
)


@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or type(sys)(__name__))
    for function in (broken_softmax, broken_grad):
        monkeypatch.setattr(sys.modules[__name__], function.__name__, function, raising=False)
    return BROKEN


@pytest.mark.full
def test_a_broken_plug_in_is_found_out(broken, capsys):
    with pytest.raises(testing.ContractError, match="BREAKS") as caught:
        testing.check_backend(broken)
    found = {check.promise for check in caught.value.report.failures}
    assert any("+inf" in promise for promise in found)
    assert any("option" in promise for promise in found)
    printed = capsys.readouterr().out
    assert "broken BREAKS the contract" in printed
    assert "failed" in printed
    kernels = [c for c in caught.value.report.checks if c.section == "kernels"]
    assert [c.status for c in kernels] == ["passed", "passed"]
    assert "broken" not in sg.backends.available(), "what was registered for the check alone stays registered"


def test_failure_may_be_returned_or_end_python(broken):
    report = testing.check_backend(broken, on_failure="return", show=False, sections=("edge cases",))
    assert not report.ok
    with pytest.raises(SystemExit) as caught:
        testing.check_backend(broken, on_failure="exit", show=False, sections=("edge cases",))
    assert caught.value.code == 1


def test_a_kernel_that_raises_is_a_failure_of_its_clause(broken, monkeypatch):
    def raising(*args):
        raise NotImplementedError("no softmax here")

    monkeypatch.setattr(sys.modules[__name__], "broken_softmax", raising)
    report = testing.check_backend(broken, on_failure="return", show=False, sections=("values",))
    assert any("NotImplementedError: no softmax here" in check.detail for check in report.failures)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("nonesuch",), sg.BackendError, "nonesuch.*known.*numpy"),
        ((3.0,), TypeError, "backend must be"),
        (("numpy", None, "everything"), ValueError, r"sections must be a tuple.*got .*'everything'"),
    ],
)
def test_wrong_use_of_check_backend_is_named(arguments, error, words):
    name, *rest = arguments
    with pytest.raises(error, match=words):
        testing.check_backend(name, show=False, sections=(rest[1],) if rest else None)
    with pytest.raises(ValueError, match="on_failure"):
        testing.check_backend("numpy", on_failure="ignore")
    with pytest.raises(ValueError, match=r"sections must be a tuple.*got 'values'"):
        testing.check_backend("numpy", show=False, sections="values")


# --- the plugin, and what importing costs


def run_pytest(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "softgrad.testing.plugin"]
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    return subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_plugin_runs_a_test_on_the_libraries_asked_for(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "import softgrad\n"
        "def test_one(xp, device):\n"
        "    x = xp.asarray([0.0, 0.0], dtype=xp.float32, device=device)\n"
        "    y = softgrad.softmax(x)\n"
        "    assert float(y[0]) == 0.5 and y.device == device, xp.__name__\n"
    )
    done = run_pytest(tmp_path, "-v")
    assert "test_one[numpy] PASSED" in done.stdout, done.stdout + done.stderr
    done = run_pytest(tmp_path, "--softgrad-backend=nonesuch")
    assert done.returncode == 4
    assert "nonesuch" in done.stderr


def test_a_library_that_is_missing_fails_the_plugin(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('hidden for the test')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(SRC)])}
    command = [sys.executable, "-m", "pytest", "-p", "softgrad.testing.plugin"]
    done = subprocess.run(
        [*command, "--softgrad-backend=torch"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "torch was asked for and cannot be used" in done.stderr


@pytest.mark.parametrize("module", ["softgrad.testing", "softgrad.testing.plugin"])
def test_importing_brings_nothing_that_is_used_later(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    command = [sys.executable, "-c", code]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split())
    assert not loaded & {"rich", "mpmath", "torch", "jax", "dask", "cupy"}
    assert ("pytest" in loaded) == (module == "softgrad.testing.plugin")


#: A CuPy that is installed where there is no driver: it is imported, and makes no array.
NO_DRIVER = """
float32, int64, bool = "float32", "int64", "bool"
__version__ = "0"
class ndarray: pass
def asarray(*args, **kwargs):
    raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")
array = ones = zeros = asarray
"""


@pytest.mark.full
def test_all_libraries_skip_one_without_a_driver(tmp_path):
    (tmp_path / "cupy.py").write_text(NO_DRIVER)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["softgrad.testing.plugin"]\n')
    (tmp_path / "test_it.py").write_text("def test_one(xp):\n    assert xp\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(SRC)])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--softgrad-backend=all"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cupy cannot be used: no usable device: RuntimeError: cudaErrorInsufficientDriver" in done.stdout
    assert "SKIPPED [1]" in done.stdout


def test_check_backend_says_that_a_library_has_no_device(tmp_path):
    (tmp_path / "cupy.py").write_text(NO_DRIVER)
    code = "from softgrad.testing import check_backend; check_backend('cupy')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(SRC)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "ImportError: cupy cannot be used: no usable device: RuntimeError: cudaErrorInsuff" in done.stderr


def test_installing_changes_no_test_run():
    points = (SRC.parent / "pyproject.toml").read_text()
    assert "pytest11" not in points
