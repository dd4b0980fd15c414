"""JAX as its users set it: strict ranks, a look-out for NaN, no compiler, 32 bits, arrays over several devices."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import calls
import softgrad as sg
from marks import full, some

pytestmark = pytest.mark.usefixtures("jax")
DEVICES = Path(__file__).parents[2] / "jax_devices.py"


WITH_LOGARITHMS = [name for name in calls.CALLS if name.lower().startswith(("cross", "linear", "log"))]


def check(name, asarray, to_numpy):
    got = calls.flat(calls.CALLS[name](lambda host, dtype=None, samples=True: asarray(host, dtype)))
    for one, other in zip(got, calls.expected(name), strict=True):
        tolerance = 2e-2 if "float16" in name else 1e-4 if "fit" in name else 1e-6
        np.testing.assert_allclose(to_numpy(one), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", some(calls.CALLS, *list(calls.CALLS)[::8]))
def test_strict_ranks_and_a_look_out_for_nan(name, jax, asarray, to_numpy):
    with jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        check(name, asarray, to_numpy)


@pytest.mark.parametrize("name", some(WITH_LOGARITHMS, *WITH_LOGARITHMS[::16]))
def test_a_look_out_for_nan_in_every_operation(name, jax, asarray, to_numpy):
    with jax.disable_jit(), jax.debug_nans(True):
        check(name, asarray, to_numpy)


def test_a_look_out_for_nan_finds_a_label_that_is_no_class(jax, asarray):
    x, labels = asarray(np.zeros((2, 3)), "float32"), asarray([0, 3], "int32")
    assert bool(jax.numpy.isnan(sg.cross_entropy(x, labels)))
    with jax.debug_nans(True), pytest.raises(FloatingPointError):
        sg.cross_entropy(x, labels)


@pytest.mark.parametrize(
    "name",
    [
        "cross_entropy_value_and_grad, all options",
        "logsumexp, b",
        "SoftmaxRegression.fit",
        *full(
            "linear_cross_entropy_hessian",
            "partial.cross_entropy_shard_grad",
            "statistics.coefficient_statistics",
        ),
    ],
)
def test_32_bits(name, jax, to_numpy):
    narrow = {"f": "float32", "i": "int32", "b": "bool", "c": "complex64"}
    module = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    with module.enable_x64(False), warnings.catch_warnings():
        warnings.simplefilter("error")
        check(
            name, lambda host, dtype=None: jax.numpy.asarray(np.asarray(host).astype(narrow[host.dtype.kind])), to_numpy
        )


@pytest.mark.full
@pytest.mark.parametrize("spread", ["replicated", "rows", "classes"])
def test_arrays_over_two_devices(spread):
    done = subprocess.run([sys.executable, str(DEVICES), spread], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
