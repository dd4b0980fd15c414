"""Random damage to good files: an error in words, or exactly what an independent reader finds in the damaged file."""

from __future__ import annotations

import csv
import io
import warnings
from fractions import Fraction

import numpy as np
import pytest

from marks import full
from softgrad._cli import _files
from softgrad._cli._errors import UsageError

FILES = pytest.mark.parametrize("files", [250, *full(700)])
SAMPLES = 12


def texts():
    """Good text files of several kinds."""
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(SAMPLES, 3)), 3).tolist()
    kinds = ["None", "Some", "Marked"]
    for delimiter, quote, names in (
        (",", csv.QUOTE_MINIMAL, "abc"),
        (";", csv.QUOTE_ALL, "xyz"),
        ("\t", 0, ("", "u", "v")),
    ):
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=delimiter, quoting=quote, lineterminator="\n" if names == "abc" else "\r\n")
        writer.writerow([*names, "label"])
        for i, row in enumerate(X):
            writer.writerow([*row, kinds[i % 3] if names == "abc" else i % 3])
        yield file.getvalue().encode("utf-8-sig" if quote else "utf-8")


def damaged(content, rng):
    """One to three of: another byte, bytes that are meaningful in such files, bytes lost, doubled or moved, a cut."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(content))) if content else 0
        length = int(rng.integers(1, 9))
        match int(rng.integers(7)):
            case 0:
                content[place : place + 1] = rng.bytes(1)
            case 1:
                meaningful = b",;\t|\"'\n\r\0#-+._eEnNaA019 \xff\xef\xbb\xbf\xa0"
                content[place : place + 1] = bytes([meaningful[rng.integers(len(meaningful))]])
            case 2:
                del content[place : place + length]
            case 3:
                content[place:place] = content[place : place + 4 * length]
            case 4:
                content[place:place] = rng.bytes(length)
            case 5:
                del content[place:]
            case 6:
                if content:
                    content[place] ^= 1 << rng.integers(8)
    return bytes(content)


def read(path):
    """A table, or None where it was refused; no other exception and no warning comes out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return _files.read(path)
        except UsageError:
            return None


def cells_of(content, table):
    """The records of a text as Python's own reader splits them, without those that the notes leave out."""
    mark = next((m for m in (b"\xff\xfe", b"\xfe\xff") if content.startswith(m)), None)
    text = content.decode("utf-16" if mark else "utf-8-sig")
    notes = " ".join(table.notes)
    names = {"semicolons": ";", "tabs": "\t", "bars": "|"}
    delimiter = next((sign for name, sign in names.items() if f"separated by {name}" in notes), ",")
    lines = list(io.StringIO(text, newline=""))
    above = next(i for i, line in enumerate(lines) if line.strip())
    if "comments above line" in notes:
        above = int(notes.partition("comments above line ")[2].partition(",")[0]) - 1
        assert all(not line.strip() or line.lstrip().startswith("#") for line in lines[:above])
    records = [row for row in csv.reader(lines[above:], delimiter=delimiter) if row]
    header, *records = records
    if "left out: column 0" in notes:
        assert len({row[0] for row in records}) == len(records)
        header, records = header[1:], [row[1:] for row in records]
    assert all(len(row) == len(header) for row in records)
    place = label_of([name.strip().lower() for name in header])
    return [row[:place] + row[place + 1 :] for row in records], [row[place].strip() for row in records]


def label_of(names):
    return next((names.index(name) for name in ("label", "target", "y") if name in names), len(names) - 1)


@FILES
@pytest.mark.parametrize("kind", range(3))
def test_a_damaged_text_is_refused_or_read_as_it_is(tmp_path, kind, files):
    whole = list(texts())[kind]
    rng = np.random.default_rng(kind)
    path = tmp_path / "data.csv"
    accepted = 0
    path.write_bytes(whole)
    assert read(path) is not None
    for _ in range(files):
        content = damaged(whole, rng)
        path.write_bytes(content)
        table = read(path)
        if table is None:
            continue
        accepted += 1
        numbers, labels = cells_of(content, table)
        # exact fractions: the nearest float is the only right one
        expected = [[float(Fraction(cell.strip())) for cell in row] for row in numbers]
        np.testing.assert_array_equal(table.X, expected)
        assert [table.class_names[code] for code in table.labels] == labels
        assert len(set(labels)) == len(table.class_names)
    assert accepted > files / 50


@FILES
def test_a_damaged_npz_is_refused_or_read_as_it_is(tmp_path, files):
    rng = np.random.default_rng(3)
    arrays = {"X": rng.normal(size=(SAMPLES, 3)), "y": np.array(["None", "Some", "Marked"])[np.arange(SAMPLES) % 3]}
    path = tmp_path / "data.npz"
    accepted = 0
    for i in range(files):
        (np.savez if i % 2 else np.savez_compressed)(path, **arrays)
        path.write_bytes(damaged(path.read_bytes(), rng))
        table = read(path)
        if table is not None:
            accepted += 1
            np.testing.assert_array_equal(table.X, arrays["X"])
            assert [table.class_names[code] for code in table.labels] == arrays["y"].tolist()
    # damage to dates and names of members that nobody reads
    assert 0 < accepted < files / 2


@FILES
def test_a_damaged_parquet_file_is_refused_or_read_as_it_is(tmp_path, files):
    parquet = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(4)
    labels = ["None", "Some", "Marked"] * (SAMPLES // 3)
    columns = {"a": rng.normal(size=SAMPLES), "b": rng.integers(9, size=SAMPLES), "label": labels}
    path = tmp_path / "data.parquet"
    parquet.write_table(pa.table(columns), path, compression="none")
    whole = path.read_bytes()
    accepted = 0
    for _ in range(files):
        path.write_bytes(damaged(whole, rng))
        table = read(path)
        if table is not None:
            accepted += 1
            frame = parquet.ParquetFile(path).read()
            names = list(frame.column_names)
            place = names.pop(label_of([name.lower() for name in names]))
            assert table.attribute_names == tuple(names)
            np.testing.assert_array_equal(table.X, np.stack([frame[name].to_numpy() for name in names], axis=1))
            assert [table.class_names[code] for code in table.labels] == [
                value.decode() if isinstance(value, bytes) else str(value) for value in frame[place].to_pylist()
            ]
    assert accepted > files / 100
