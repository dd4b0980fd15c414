"""Fixtures of the tests of what every public function promises."""

import numpy as np
import pytest

import oracle
from contract_cases import FEATURES, LABELS, LOGITS, ORDERS, VECTOR, WEIGHTS


@pytest.fixture
def check(asarray, to_numpy):
    """Every order of a loss against the reference."""

    def check(loss, logits, labels, *, orders=ORDERS, rtol=1e-12, label_dtype="int64", **arguments):
        labels = np.asarray(labels)
        dense = labels.ndim == np.ndim(logits)
        shared = {name: getattr(loss, name) for name in ("axis", "label_smoothing", "ignore_index", "z_loss")}
        given = {name: asarray(value, "bool" if name == "where" else "float64") for name, value in arguments.items()}
        with np.errstate(all="ignore"):
            reference = oracle.cross_entropy(
                logits, labels, vector=VECTOR, class_weight=loss.class_weight, **shared, **arguments
            )
        got = oracle.every_order(
            loss,
            asarray(logits),
            asarray(labels, "float64" if dense else label_dtype),
            asarray(VECTOR),
            **given,
        )
        for name in orders:
            array, kind = got[name]
            expected = oracle.rounded(getattr(reference, kind)(loss.reduction))
            np.testing.assert_allclose(to_numpy(array), expected, rtol=rtol, atol=1e-15, err_msg=name)

    return check


@pytest.fixture
def data(asarray):
    return {
        "logits": asarray(LOGITS),
        "labels": asarray(LABELS, "int64"),
        "X": asarray(FEATURES),
        "W": asarray(WEIGHTS),
    }


@pytest.fixture
def foreign(backend):
    """A way to make arrays of another library, and what it is called."""
    if backend == "numpy":
        other = pytest.importorskip("array_api_strict")
        return other.asarray, "array_api_strict"
    return np.asarray, "numpy"
