"""Parquet files: every number and label is the column's, or an error names column and row."""

from __future__ import annotations

import json
import sys
from decimal import Decimal

import numpy as np
import pytest

from softgrad._cli import _files
from softgrad._cli._errors import UsageError

LONG = 2**53


@pytest.fixture
def pa():
    pytest.importorskip("pyarrow.parquet")
    return pytest.importorskip("pyarrow")


def write(pa, path, columns, index=None):
    """A Parquet file of these columns; ``index`` are the names that pandas' metadata calls its index."""
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if index is not None:
        metadata = {b"pandas": json.dumps({"index_columns": index, "columns": [], "column_indexes": []}).encode()}
        table = table.replace_schema_metadata(metadata)
    pa.parquet.write_table(table, path)
    return path


#: Name: a function of pyarrow that makes the labels, the label of each.
PARQUET_LABELS = {
    "integers": (lambda pa: pa.array([3, LONG + 1, LONG]), ["3", str(LONG + 1), str(LONG)]),
    "strings": (lambda pa: pa.array(["b", "a", "b"]), ["b", "a", "b"]),
    "None as a class": (lambda pa: pa.array(["None", "Some", "NA"]), ["None", "Some", "NA"]),
    "categories": (lambda pa: pa.array(["None", "Some", "Some"]).dictionary_encode(), ["None", "Some", "Some"]),
    "categories of numbers": (lambda pa: pa.array([7, 5, 5]).dictionary_encode(), ["7", "5", "5"]),
    "binary": (lambda pa: pa.array([b"b", "é".encode(), b"b"]), ["b", "é", "b"]),
    "booleans": (lambda pa: pa.array([True, False, True]), ["True", "False", "True"]),
    "decimals": (lambda pa: pa.array([Decimal(3), Decimal(5), Decimal(5)]), ["3", "5", "5"]),
    "a NUL byte": (lambda pa: pa.array(["a\0", "a", "b"]), ["a\0", "a", "b"]),
    "blanks": (lambda pa: pa.array(["a ", "a", "b"]), ["a ", "a", "b"]),
}


@pytest.mark.parametrize("case", PARQUET_LABELS)
def test_labels_of_a_parquet_file_are_those_of_the_column(pa, tmp_path, case):
    make, expected = PARQUET_LABELS[case]
    path = write(pa, tmp_path / "data.parquet", {"a": [1.0, 2.0, 3.0], "label": make(pa)})
    table = _files.read(path)
    assert [table.class_names[code] for code in table.labels] == expected
    assert table.notes == ()


def test_samples_of_a_parquet_file_are_those_of_the_columns(pa, tmp_path):
    columns = {
        "half": pa.array(np.array([1, 2, 3], dtype="f2")),
        "label": ["x", "y", "x"],
        "int": pa.array([1, -2, 3], pa.int8()),
        "bool": [True, False, True],
        "decimal": pa.array([Decimal("1.25"), Decimal(2), Decimal(3)]),
        "category": pa.array([7, 5, 5]).dictionary_encode(),
    }
    table = _files.read(write(pa, tmp_path / "data.parquet", columns))
    assert table.attribute_names == ("half", "int", "bool", "decimal", "category")
    expected = [[1, 1, 1, 1.25, 7], [2, -2, 0, 2, 5], [3, 3, 1, 3, 5]]
    np.testing.assert_array_equal(table.X, np.asarray(expected, dtype=np.float64))


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("__index_level_0__", ["__index_level_0__"]),
        ("__index_level_0__", None),
        ("patient", ["patient"]),
        ("Unnamed: 0", None),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_the_index_of_a_frame_is_left_out_and_named(pa, tmp_path, name, index, first):
    columns = {"a": [1.0, 2.0, 3.0], "kind": [8, 6, 8]}
    columns = {name: [4, 7, 9], **columns} if first else {**columns, name: [4, 7, 9]}
    path = write(pa, tmp_path / "data.parquet", columns, index)
    table = _files.read(path)
    assert (table.attribute_names, table.class_names) == (("a",), ("6", "8"))
    assert table.notes == (f"left out: column {name!r}, the table's index",)
    assert _files.read(path, name).class_names == ("4", "7", "9")


def test_a_filtered_frame_of_pandas_keeps_its_label(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": np.arange(80.0), "kind": np.arange(80) % 3})
    frame = frame[frame.a % 3 != 1]
    frame.to_parquet(tmp_path / "data.parquet")
    frame.to_csv(tmp_path / "data.csv")
    for suffix in (".parquet", ".csv"):
        table = _files.read(tmp_path / f"data{suffix}")
        assert (table.attribute_names, table.class_names) == (("a",), ("0", "2"))
        np.testing.assert_array_equal(table.X[:, 0], frame.a)


#: Name: a function of pyarrow that makes the columns, options of ``read``, words of the error.
PARQUET = {
    "one column": (lambda pa: {"label": [0, 1]}, {}, "at least two columns, it has: label"),
    "no rows": (lambda pa: {"a": pa.array([], "f8"), "label": pa.array([], "i8")}, {}, "holds no samples"),
    "nothing but index": (lambda pa: {"__index_level_0__": [0, 1], "label": [0, 1]}, {}, "holds no attributes"),
    "missing numbers": (
        lambda pa: {"a": [1.0, None], "label": [0, 1]},
        {},
        "row 1 (counted from 0): column 'a' is missing",
    ),
    "missing labels": (
        lambda pa: {"a": [1.0, 2.0], "label": ["x", None]},
        {},
        "row 1 (counted from 0): column 'label' is",
    ),
    "missing categories": (
        lambda pa: {"a": [1.0, 2.0], "label": pa.array(["x", None]).dictionary_encode()},
        {},
        "row 1 (counted from 0): column 'label' is missing",
    ),
    "no values": (lambda pa: {"a": [1.0, 2.0], "label": [None, None]}, {}, "values missing in it: 2"),
    "an empty label": (
        lambda pa: {"a": [1.0, 2.0], "label": ["x", ""]},
        {},
        "row 1 (counted from 0): column 'label' is empty",
    ),
    "words": (lambda pa: {"a": ["u", "v"], "label": [0, 1]}, {}, "column 'a' holds string, not numbers"),
    "lists": (lambda pa: {"a": [[1], [2]], "label": [0, 1]}, {}, "column 'a' holds list<"),
    "times": (
        lambda pa: {"a": pa.array([1, 2], pa.timestamp("ms")), "label": [0, 1]},
        {},
        "holds timestamp[ms], not numbers",
    ),
    "dates as labels": (lambda pa: {"a": [1, 2], "label": pa.array([1, 2], pa.date32())}, {}, "labels are integers or"),
    "binary of no text": (
        lambda pa: {"a": [1, 2], "label": [b"\xff", b"a"]},
        {},
        "holds b'\\xff', which is no text in UTF-8",
    ),
    "NaN": (lambda pa: {"a": [1.0, float("nan")], "label": [0, 1]}, {}, "row 1 (counted from 0): column 'a' holds nan"),
    "NaN labels": (
        lambda pa: {"a": [1.0, 2.0], "label": [0, float("nan")]},
        {},
        "column 'label' holds nan, a missing value",
    ),
    "fractions": (lambda pa: {"a": [1.0, 2.0], "b": [0.5, 1]}, {}, "column 'b' holds 0.5, which is no class"),
    "decimal fractions": (
        lambda pa: {"a": [1.0, 2.0], "b": pa.array([Decimal("0.50"), Decimal("1.50")])},
        {},
        "column 'b' holds 0.50, which is no class: whole numbers or words are expected; another column is taken by",
    ),
    "two of one name": (
        lambda pa: pa.Table.from_arrays([pa.array([1, 2])] * 3, ["a", "a", "label"]),
        {},
        "columns 0 and 1 (counted from 0) are both named 'a'",
    ),
    "no such column": (lambda pa: {"a": [1, 2], "b": [0, 1]}, {"label": "c"}, "no column named 'c', it has: a, b"),
}


@pytest.mark.parametrize("case", PARQUET)
def test_a_parquet_file_that_cannot_be_used_is_refused_with_its_place(pa, tmp_path, case):
    make, options, words = PARQUET[case]
    path = write(pa, tmp_path / "data.parquet", make(pa))
    with pytest.raises(UsageError) as caught:
        _files.read(path, **options)
    assert words in str(caught.value)


def test_the_folders_of_a_parquet_file_are_no_columns(pa, tmp_path):
    folder = tmp_path / "year=2020"
    folder.mkdir()
    table = _files.read(write(pa, folder / "data.parquet", {"a": [1, 2], "label": [0, 1]}))
    assert table.attribute_names == ("a",)


@pytest.mark.parametrize("cut", [0, 3, 4, 8, -1, -8, -100])
def test_a_damaged_parquet_file_is_refused(pa, tmp_path, cut):
    whole = write(pa, tmp_path / "whole.parquet", {"a": [1, 2], "label": [0, 1]}).read_bytes()
    path = tmp_path / "data.parquet"
    path.write_bytes(whole[:cut])
    with pytest.raises(UsageError) as caught:
        _files.read(path)
    assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "data.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"reading \.parquet needs pyarrow: python -m pip install pyarrow"):
        _files.read(path)
