"""The data that the package carries."""

from importlib import resources

import numpy as np
import pytest

from softgrad._data import load_digits

# the number of samples of each digit, from the source's own description of its test set
COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
FIRST = """
 0  0  5 13  9  1  0  0
 0  0 13 15 10 15  5  0
 0  3 15  2  0 11  8  0
 0  4 12  0  0  8  8  0
 0  5  8  0  0  9  8  0
 0  4 11  0  1 12  7  0
 0  2 14  5 10 12  0  0
 0  0  6 13 10  0  0  0
"""


def test_digits_are_the_ones_of_the_source():
    X, y = load_digits()
    assert X.shape == (1797, 64)
    assert y.shape == (1797,)
    assert X.dtype == y.dtype == np.uint8
    assert (X.min(), X.max()) == (0, 16)
    assert np.bincount(y).tolist() == COUNTS
    assert X[0].tolist() == [int(word) for word in FIRST.split()]
    assert y[:10].tolist() == list(range(10))


def test_digits_are_those_that_scikit_learn_has():
    datasets = pytest.importorskip("sklearn.datasets")
    theirs = datasets.load_digits()
    X, y = load_digits()
    np.testing.assert_array_equal(X, theirs.data)
    np.testing.assert_array_equal(y, theirs.target)


def test_each_call_loads_arrays_of_its_own():
    first, _ = load_digits()
    first[:] = 0
    assert load_digits()[0].max() == 16


def test_source_and_licence_lie_beside_the_data():
    folder = resources.files("softgrad._data")
    notice = folder.joinpath("NOTICE.md").read_text(encoding="utf-8")
    for words in ("Alpaydin", "Kaynak", "1998", "UCI Machine Learning", "10.24432/C50P49", "CC BY 4.0"):
        assert words in notice
    assert len(folder.joinpath("digits.npz").read_bytes()) < 60_000
