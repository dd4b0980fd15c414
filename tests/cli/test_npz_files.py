"""Archives of NumPy: every number and label is the array's, or an error names array and sample."""

from __future__ import annotations

import io
import warnings
import zipfile

import numpy as np
import pytest

from softgrad._cli import _files
from softgrad._cli._errors import UsageError

ONES = np.ones((3, 2))
LONG = 2**53
DOUBLE = np.longdouble(2) ** 1024 if np.finfo(np.longdouble).maxexp > 1024 else np.inf
#: Name: labels, the label of each.
NPZ_LABELS = {
    "integers": (np.array([3, -1, 3]), ["3", "-1", "3"]),
    "unsigned": (np.array([2**64 - 1, 0, 2**64 - 2], dtype="u8"), [str(2**64 - 1), "0", str(2**64 - 2)]),
    "ids": (np.array([LONG, LONG + 1, LONG]), [str(LONG), str(LONG + 1), str(LONG)]),
    "another byte order": (np.array([1, 256, 1], dtype=">i4"), ["1", "256", "1"]),
    "booleans": (np.array([True, False, True]), ["True", "False", "True"]),
    "whole floats": (np.array([1.0, 2.0, 1.0]), ["1", "2", "1"]),
    "halves": (np.array([1.0, 2.0, 1.0], dtype="f2"), ["1", "2", "1"]),
    "strings": (np.array(["b", "a", "None"]), ["b", "a", "None"]),
    "bytes": (np.array([b"b", "é".encode(), b"b"]), ["b", "é", "b"]),
}


@pytest.mark.parametrize("case", NPZ_LABELS)
def test_labels_of_an_npz_are_those_of_the_array(tmp_path, case):
    labels, expected = NPZ_LABELS[case]
    np.savez_compressed(tmp_path / "data.npz", X=ONES, y=labels, other=3)
    table = _files.read(tmp_path / "data.npz")
    assert [table.class_names[code] for code in table.labels] == expected


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i1", "u8", "?", "g"])
def test_samples_of_an_npz_are_those_of_the_array(tmp_path, dtype):
    X = np.asfortranarray(np.arange(6).reshape(3, 2).astype(dtype))
    np.savez(tmp_path / "data.npz", X=X, y=[0, 1, 1])
    np.testing.assert_array_equal(_files.read(tmp_path / "data.npz").X, X.astype(np.float64))


#: Name: arrays, options of ``read``, words of the error.
NPZ = {
    "a missing array": ({"X": ONES}, {}, "no array named 'y', it holds: X"),
    "no arrays": ({}, {}, "no array named 'X' or 'y', it holds: none"),
    "another array": ({"X": ONES, "y": [0, 1, 0]}, {"label": "species"}, "no array named 'species', it holds: X, y"),
    "X of one dimension": ({"X": np.ones(4), "y": [0, 1, 0, 1]}, {}, "(n_samples, n_attributes), got (4,)"),
    "labels too few": ({"X": ONES, "y": [0, 1]}, {}, "shape (3,), got (2,)"),
    "one-hot labels": (
        {"X": np.ones((2, 2)), "y": np.eye(2)},
        {},
        "got (2, 2): of one-hot labels save y.argmax(axis=1)",
    ),
    "fractions": (
        {"X": ONES, "y": [0.5, 1, 2]},
        {},
        "sample 0 (counted from 0): array 'y' holds 0.5, which is no class",
    ),
    "a NaN label": (
        {"X": ONES, "y": [0, np.nan, 2]},
        {},
        "sample 1 (counted from 0): array 'y' holds nan, a missing value",
    ),
    "an infinite label": (
        {"X": ONES, "y": [0, np.inf, 2]},
        {},
        "sample 1 (counted from 0): array 'y' holds inf, which is",
    ),
    "rounded ids": ({"X": ONES, "y": [0, 2.0**53, 2]}, {}, "holds 9007199254740992.0, which is no class"),
    "nan as a string": ({"X": ONES, "y": ["a", "nan", "b"]}, {}, "sample 1 (counted from 0): array 'y' holds 'nan'"),
    "an empty string": ({"X": ONES, "y": ["a", "", "b"]}, {}, "sample 1 (counted from 0): array 'y' is empty"),
    "bytes of no text": (
        {"X": ONES, "y": np.array([b"a", b"\xff", b"b"])},
        {},
        "y holds what is no text: 'utf-8' codec",
    ),
    "signs of no text": (
        {"X": ONES, "y": np.array([0x110000, 97, 98], "u4").view("U1")},
        {},
        "y holds what is no text: ",
    ),
    "one class": ({"X": ONES, "y": [2, 2, 2]}, {}, "one class only ('2')"),
    "NaN": (
        {"X": [[1, 2], [3, np.nan]], "y": [0, 1]},
        {},
        "sample 1 (counted from 0): column 1 (counted from 0) of X holds nan",
    ),
    "infinity": (
        {"X": [[1, 2], [np.inf, 3]], "y": [0, 1]},
        {},
        "sample 1 (counted from 0): column 0 (counted from 0) of X",
    ),
    "Stata's missing value": (
        {"X": [[1, 2], [2.0**1023, 3]], "y": [0, 1]},
        {},
        "holds 8.98846567431158e+307; values from",
    ),
    "beyond float32": (
        {"X": [[1e-30], [0], [1e30]], "y": [0, 1, 0]},
        {},
        "holds 1e-30, sample 2 (counted from 0) has 1e+30",
    ),
    "beyond float64": (
        {"X": np.array([[1], [DOUBLE]]), "y": [0, 1]},
        {},
        "values that are not finite numbers of float64",
    ),
    "no samples": ({"X": np.ones((0, 2)), "y": np.ones(0, dtype=int)}, {}, "no samples"),
    "no attributes": ({"X": np.ones((3, 0)), "y": [0, 1, 0]}, {}, "no attributes"),
    "complex numbers": (
        {"X": np.ones((2, 2), dtype=complex), "y": [0, 1]},
        {},
        "X must hold real numbers, got dtype complex",
    ),
    "words": ({"X": [["a"], ["b"]], "y": [0, 1]}, {}, "X must hold real numbers, got dtype <U1"),
    "dates": ({"X": np.zeros((2, 2), "M8[D]"), "y": [0, 1]}, {}, "X must hold real numbers, got dtype datetime64[D]"),
    "records": ({"X": np.zeros((2, 2), [("a", "f8")]), "y": [0, 1]}, {}, "X must hold real numbers, got dtype [('a'"),
    "complex labels": (
        {"X": np.ones((2, 2)), "y": [1j, 2]},
        {},
        "y must hold integers or strings, got dtype complex128",
    ),
    "dates as labels": (
        {"X": np.ones((2, 2)), "y": np.zeros(2, "M8[D]")},
        {},
        "y must hold integers or strings, got dtype",
    ),
    "pickled labels": (
        {"X": ONES, "y": np.array([0, {}, None], dtype=object)},
        {},
        "y holds Python objects, which are not",
    ),
    "pickled samples": ({"X": ONES.astype(object), "y": [0, 1, 0]}, {}, "by X.astype(str)"),
    "ids as labels": ({"X": np.ones((300, 2)), "y": np.arange(300)}, {}, "300 different labels in 300 samples"),
    "a header": ({"X": ONES, "y": [0, 1, 0]}, {"header": False}, "--header and --no-header belong to text files"),
}


@pytest.mark.parametrize("case", NPZ)
def test_an_npz_that_cannot_be_used_is_refused_with_its_place(tmp_path, case):
    arrays, options, words = NPZ[case]
    path = tmp_path / "data.npz"
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    with pytest.raises(UsageError) as caught:
        _files.read(path, **options)
    assert words in str(caught.value)


def archive(*members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that comes twice
        for name, array in members:
            each = io.BytesIO()
            np.save(each, array)
            file.writestr(f"{name}.npy", each.getvalue())
    return content.getvalue()


def one_array():
    content = io.BytesIO()
    np.save(content, ONES)
    return content.getvalue()


WHOLE = archive(("X", ONES), ("y", [0, 1, 0]))
BROKEN = {
    "text": (b"a,label\n1,2\n", "File is not a zip file"),
    "nothing": (b"", "File is not a zip file"),
    "one array": (one_array(), "is a NumPy array, as .npy is: an .npz archive with the arrays X and y is needed"),
    "a truncated archive": (WHOLE[:-30], "cannot be read as .npz"),
    "another byte": (WHOLE.replace(np.float64(1).tobytes(), np.float64(2).tobytes(), 1), "does not have its checksum"),
    "no arrays but files": (WHOLE.replace(b"\x93NUMPY", b"\x93NUMPX"), "does not have its checksum"),
    "two arrays of one name": (
        archive(("X", ONES), ("y", [0, 1, 0]), ("y", [1, 1, 0])),
        "holds two arrays named 'y.npy'",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_npz_is_refused(tmp_path, case):
    content, words = BROKEN[case]
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        _files.read(path)
    assert words in str(caught.value)
