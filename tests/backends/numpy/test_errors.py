"""No setting of NumPy's for floating point errors stops a call: infinities and NaNs are results."""

import importlib.util

import numpy as np
import pytest

import calls
import softgrad as sg
from marks import late

pytestmark = pytest.mark.libraries("numpy", "array_api_strict")
#: What the numbers are scaled by, so that products overflow and underflow; or the largest is replaced by.
SCALES = (1e-160, 4e-323, 1e160, 8e307, np.inf, -np.inf, np.nan)


def scaled(asarray, scale):
    def a(host, dtype=None, samples=True):
        host = np.asarray(host)
        name = str(host.dtype) if dtype is None else dtype
        with np.errstate(all="ignore"):
            if host.dtype.kind == "f":
                host = host * scale if np.isfinite(scale) else np.where(host == host.max(), scale, host)
            return asarray(host, "int64" if name.startswith("int") else "float32" if name == "bfloat16" else name)

    return a


def outcome(call, setting, arrays):
    """The type of error that a call ends with."""
    with np.errstate(all=setting):
        try:
            call(arrays)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is to be the same
            return type(error)
    return None


@pytest.mark.filterwarnings("ignore:.*failed to converge")
@pytest.mark.parametrize("kernels", [None, "generic"])
@pytest.mark.parametrize("name", calls.CALLS)
@pytest.mark.parametrize(
    "each",
    [
        late(False, "numpy", id="scales in turn"),
        late(True, "array_api_strict", id="each scale"),
    ],
)
def test_a_call_ends_as_it_does_where_errors_are_ignored(each, name, kernels, asarray):
    if name.startswith("SoftmaxRegression") and importlib.util.find_spec("sklearn") is None:
        pytest.skip("the estimator needs scikit-learn")
    start = list(calls.CALLS).index(name) + (kernels is None)
    for scale in SCALES if each else SCALES[start % 2 :: 2]:
        arrays = scaled(asarray, scale)
        with sg.backends.use(kernels or "generic") if kernels else np.errstate():
            expected = outcome(calls.CALLS[name], "ignore", arrays)
            assert outcome(calls.CALLS[name], "raise", arrays) is expected, scale


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "trust-ncg"])
def test_a_fit_with_a_feature_of_a_tiny_scale(solver, backend, asarray, to_numpy):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) * [1.0, 1e-160, 1e-3]
    y = rng.integers(0, 3, 60)
    with np.errstate(all="raise"):
        model = sg.SoftmaxRegression(solver=solver, max_iter=1000).fit(asarray(X), asarray(y, "int64"))
        probs = to_numpy(model.predict_proba(asarray(X)))
    np.testing.assert_allclose(probs.sum(axis=1), 1)
