"""The documentation tells the truth: its tables, its list of public names, and its pages in a browser."""

import builtins
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

import softgrad as sg

DOCS = Path(__file__).resolve().parent.parent / "docs"


def load(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EDGE_CASES = load("_edge_cases")


@pytest.mark.parametrize(
    "case", [case for section in EDGE_CASES.CASES.values() for case in section], ids=lambda case: case.call
)
def test_the_table_of_edge_cases(case, asarray, to_numpy, has_dtype):
    if case.needs and not has_dtype(case.needs):
        pytest.skip(f"no {case.needs}")
    names = EDGE_CASES.names(asarray)
    if case.gives.startswith("raises "):
        error = case.gives.removeprefix("raises ")
        with pytest.raises(getattr(sg, error, None) or getattr(builtins, error)):
            eval(case.call, names)
        return
    result, expected = to_numpy(eval(case.call, names)), np.asarray(eval(case.gives, names))
    assert result.shape == expected.shape
    rtol = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6}.get(case.needs, 1e-14)
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=0)
