"""Text files: every number and label that is kept is the file's, or an error names line and column."""

from __future__ import annotations

import numpy as np
import pytest

from softgrad._cli import _files
from softgrad._cli._errors import UsageError

LONG = 9007199254740993  # 2 ** 53 + 1, which float64 lacks


def lines(*each):
    return "\n".join(each) + "\n"


#: Name: text or bytes, options of ``read``, samples, the label of each, and words of the notes.
READ = {
    "plain": ("a,b,label\n1,2,x\n3,4,y\n", {}, [[1, 2], [3, 4]], "xy", ""),
    "an open last line": ("a,label\n1,x\n3,y", {}, [[1], [3]], "xy", ""),
    "Windows line ends": (b"a,label\r\n1,x\r\n3,y\r\n", {}, [[1], [3]], "xy", ""),
    "old Macintosh line ends": (b"a,label\r1,x\r3,y\r", {}, [[1], [3]], "xy", ""),
    "a byte order mark": ("\ufeffa,label\n1,x\n3,y\n", {}, [[1], [3]], "xy", ""),
    "UTF-16, little end first": (b"\xff\xfe" + "a,läbel\n1,ä\n3,y\n".encode("utf-16-le"), {}, [[1], [3]], "äy", ""),
    "UTF-16, big end first": (b"\xfe\xff" + "a,label\n1,x\n3,y\n".encode("utf-16-be"), {}, [[1], [3]], "xy", ""),
    "UTF-32": ("a,label\n1,x\n3,y\n".encode("utf-32"), {}, [[1], [3]], "xy", ""),
    "semicolons": ("\ufeffa;b;label\n1;2;x\n3;4;y\n", {}, [[1, 2], [3, 4]], "xy", "separated by semicolons"),
    "tabs": ("a\tb\tlabel\n1\t2\tx\n3\t4\ty\n", {}, [[1, 2], [3, 4]], "xy", "separated by tabs"),
    "bars": ("a|label\n1|x\n3|y\n", {}, [[1], [3]], "xy", "separated by bars"),
    "quoted cells": ('"a","label"\n"1","x, y"\n"3","""q"""\n', {}, [[1], [3]], ["x, y", '"q"'], ""),
    "a quoted line break": ('a,label\n1,"x\ny"\n3,y\n', {}, [[1], [3]], ["x\ny", "y"], ""),
    "a line break in a name": ('"a\nb",label\n1,x\n3,y\n', {}, [[1], [3]], "xy", ""),
    "separators in a quoted name": ('"a;b, c",label\n1,x\n3,y\n', {}, [[1], [3]], "xy", ""),
    "blanks around cells": ("a, label\n 1 , x\n3, y \n", {}, [[1], [3]], "xy", ""),
    "empty lines": ("\n\na,label\n\n1,x\n\n3,y\n\n", {}, [[1], [3]], "xy", ""),
    "comments above": ("# one\n#two,x\na,label\n1,x\n3,y\n", {}, [[1], [3]], "xy", "comments above line 3"),
    "forms of numbers": ("a,label\n+1.,x\n.5e-1,y\n-1E+2,x\n", {}, [[1], [0.05], [-100]], "xyx", ""),
    "digits beyond float64": ("a,label\n0.1000000000000000055511151231257827,x\n2,y\n", {}, [[0.1], [2]], "xy", ""),
    "labels first": ("label,a\nx,1\ny,3\n", {}, [[1], [3]], "xy", ""),
    "the last column": ("a,kind\n1,x\n3,y\n", {}, [[1], [3]], "xy", ""),
    "a label by name": ("kind,a\nx,1\ny,3\n", {"label": "kind"}, [[1], [3]], "xy", ""),
    "a label by number": ("kind,a\nx,1\ny,3\n", {"label": "0"}, [[1], [3]], "xy", ""),
    "a label from the end": ("a,kind,b\n1,x,2\n3,y,4\n", {"label": "-2"}, [[1, 2], [3, 4]], "xy", ""),
    "label before target": ("target,a,label\n1,2,x\n3,4,y\n", {}, [[1, 2], [3, 4]], "xy", ""),
    "no header": ("5.1,3.5,x\n4.9,3.0,y\n", {"header": False}, [[5.1, 3.5], [4.9, 3.0]], "xy", ""),
    "no header, a number": ("x,1\ny,3\n", {"header": False, "label": "0"}, [[1], [3]], "xy", ""),
    "numbers as names": ("0,1,target\n5,6,x\n7,8,y\n", {}, [[5, 6], [7, 8]], "xy", ""),
    "years as names": ("2010,2011,area\n5,6,x\n7,8,y\n", {"label": "area"}, [[5, 6], [7, 8]], "xy", ""),
    "numbers as names, said": ("0,1\n5,x\n7,y\n", {"header": True}, [[5], [7]], "xy", ""),
    "the index of a frame": (",a,label\n0,1,x\n7,3,y\n", {}, [[1], [3]], "xy", "left out: column 0"),
    "row names": ('"","a","kind"\n"one",1,"x"\n"two",3,"y"\n', {}, [[1], [3]], "xy", "left out: column 0"),
    "an index written twice": ("Unnamed: 0,a,label\n0,1,x\n1,3,y\n", {}, [[1], [3]], "xy", "left out: column 0"),
    "the index as labels": (",a\nx,1\ny,3\n", {"label": "0"}, [[1], [3]], "xy", ""),
    "None as a class": (
        "a,treatment\n1,None\n2,Some\n3,Marked\n",
        {},
        [[1], [2], [3]],
        ["None", "Some", "Marked"],
        "'None' in column 'treatment' is a class",
    ),
    "plus and minus": ("a,label\n1,+\n2,-\n", {}, [[1], [2]], "+-", "'-'"),
    "numbers": ("a,label\n1,10\n2,9\n3,-1\n", {}, [[1], [2], [3]], ["10", "9", "-1"], ""),
    "padded numbers": ("a,label\n1,007\n2,010\n", {}, [[1], [2]], ["007", "010"], ""),
    "whole decimals": ("a,label\n1,1.0\n2,2.0\n", {}, [[1], [2]], ["1.0", "2.0"], ""),
    "long ids": (f"a,label\n1,{LONG}\n2,{LONG - 1}\n", {}, [[1], [2]], [str(LONG), str(LONG - 1)], ""),
    "longer ids": (f"a,label\n1,{LONG**3}\n2,{LONG**3 - 1}\n", {}, [[1], [2]], [str(LONG**3), str(LONG**3 - 1)], ""),
    "underscores": ("a,label\n1,1_0\n2,10\n", {}, [[1], [2]], ["1_0", "10"], ""),
    "digits of another script": ("a,label\n1,٣\n2,3\n", {}, [[1], [2]], ["٣", "3"], ""),
    "big and small letters": ("a,label\n1,x\n2,X\n", {}, [[1], [2]], "xX", ""),
    "composed and not": ("a,label\n1,\u00e9\n2,e\u0301\n", {}, [[1], [2]], ["\u00e9", "e\u0301"], ""),
    "escape sequences": (
        "\x1b[31ma,label\n1,\x1b]0;x\x07\n2,\u202ey\n",
        {},
        [[1], [2]],
        ["\x1b]0;x\x07", "\u202ey"],
        "",
    ),
    "markup": ("[draft]a,label\n1,[red]x[/red]\n2,[/]\n", {}, [[1], [2]], ["[red]x[/red]", "[/]"], ""),
    "formulas": ("$a$,label\n1,$\\frac\n2,$$\n", {}, [[1], [2]], ["$\\frac", "$$"], ""),
    "almost the largest float": ("a,label\n8e307,x\n-4e307,y\n", {}, [[8e307], [-4e307]], "xy", ""),
    "the smallest floats": ("a,label\n5e-324,x\n1e-323,y\n", {}, [[5e-324], [1e-323]], "xy", ""),
}


def data_of(text):
    return text if isinstance(text, bytes) else text.encode("utf-8")


@pytest.mark.parametrize("case", READ)
def test_what_is_read_is_what_the_file_holds(tmp_path, case):
    text, options, X, labels, words = READ[case]
    path = tmp_path / "data.csv"
    path.write_bytes(data_of(text))
    table = _files.read(path, **options)
    np.testing.assert_array_equal(table.X, np.asarray(X, dtype=np.float64))
    assert [table.class_names[code] for code in table.labels] == list(labels)
    assert words in " ".join(table.notes)
    assert bool(words) == bool(table.notes)


STATA = 2.0**1023
#: Name: text or bytes, options of ``read``, words of the error.
REFUSED = {
    "an empty file": ("", {}, "holds no samples"),
    "blank lines": ("\n  \n", {}, "holds no samples"),
    "comments alone": ("# a\n", {}, "holds no samples"),
    "a header alone": ("a,label\n", {}, "holds no samples"),
    "one column": ("label\n1\n2\n", {}, "at least two columns, separated by commas, semicolons"),
    "blanks between cells": ("a label\n1 2\n", {}, "at least two columns"),
    "nothing but labels": (",label\n0,x\n1,y\n", {}, "holds no attributes"),
    "two kinds of separators": ("a;b,c;label\n1;2;x\n", {}, "has commas and semicolons between the cells"),
    "separators in a name": ("a;b, c,label\n1,2,x\n", {}, "has commas and semicolons"),
    "decimal commas": ("a;label\n1,5;x\n2,5;y\n", {}, "line 2: column 'a' holds '1,5', not a number: a number has a"),
    "a word": ("a,b,label\n1,2,0\n1,two,1\n", {}, "line 3: column 'b' holds 'two', not a number"),
    "a word after a quoted line": ('a,label\n1,"x\ny"\ntwo,z\n', {}, "line 4: column 'a' holds 'two'"),
    "a word after comments": ("#\n\na,label\n1,x\n\ntwo,z\n", {}, "line 6: column 'a' holds 'two'"),
    "a word without names": ("1,x\ntwo,y\n", {"header": False}, "line 2: column 0 (counted from 0) holds 'two'"),
    "an empty cell": ("a,b,label\n1,,0\n1,2,1\n", {}, "line 2: column 'b' is empty"),
    "NaN": ("a,b,label\n1,2,0\n1,nan,1\n", {}, "line 3: column 'b' holds 'nan', not a number"),
    "infinity": ("a,label\n1,0\ninf,1\n", {}, "line 3: column 'a' holds 'inf', not a number"),
    "too large": ("a,label\n1,0\n1e999,1\n", {}, "line 3: column 'a' holds inf; values that are not finite"),
    "too small": ("a,label\n1,0\n1e-999,1\n", {}, "line 3: column 'a' holds '1e-999', which float64 rounds to zero"),
    "too many zeros": (f"a,label\n1,0\n0.{'0' * 400}1,1\n", {}, "which float64 rounds to zero"),
    "Stata's missing value": (f"a,label\n1,0\n{STATA!r},1\n", {}, "line 3: column 'a' holds 8.98846567431158e+307; "),
    "the largest float": ("a,b,label\n1,2,0\n1,1.7976931348623157e308,1\n", {}, "line 3: column 'b' holds 1.79769"),
    "beyond float32": ("a,label\n1e-30,0\n1e30,1\n", {}, "line 2: column 'a' holds 1e-30, line 3 has 1e+30: too far"),
    "underscores": ("a,label\n1_0,x\n2,y\n", {}, "line 2: column 'a' holds '1_0', not a number"),
    "digits of another script": ("a,label\n٣,x\n2,y\n", {}, "line 2: column 'a' holds '٣', not a number"),
    "hexadecimal": ("a,label\n0x10,x\n2,y\n", {}, "line 2: column 'a' holds '0x10'"),
    "a fraction": ("a,label\n1/2,x\n2,y\n", {}, "line 2: column 'a' holds '1/2'"),
    "a no-break space": ("a,label\n\u00a01,x\n2,y\n", {}, "not a number"),
    "a mark in the middle": ("a,label\n\ufeff1,x\n2,y\n", {}, "not a number"),
    "thousands": ('a,label\n"1,234,567",x\n2,y\n', {}, "holds '1,234,567', not a number"),
    "a short line": ("a,b,label\n1,2,0\n1,1\n", {}, "line 3 has 2 cells, the header has 3"),
    "a long line": ("1,2,0\n1,1,1,1\n", {"header": False}, "line 2 has 4 cells, the first line has 3"),
    "a comment below": ("label,a\nx,1\n#y,2\n", {}, "line 3 begins with '#'"),
    "two of one name": ("a,b,a,label\n1,2,3,0\n", {}, "columns 0 and 2 (counted from 0) are both named 'a'"),
    "no name": ("a,,label\n1,2,x\n", {}, "line 1: column 1 (counted from 0) has no name"),
    "no name for an attribute": (
        ",a,label\n1,2,x\n1,3,y\n",
        {},
        "column 0 (counted from 0) has no name, and is no index",
    ),
    "no header": ("5.1,3.5,x\n4.9,3.0,y\n", {}, "line 1 holds '5.1': is it a sample, or the names of the columns?"),
    "no header, said by number": ("5.1,4,x\n4.9,3.0,y\n", {"label": "4"}, "say --header or --no-header"),
    "no header, a class named y": ("1.5,y\n2.5,n\n3.5,y\n1.0,n\n", {}, "line 1 names column 'y', and 'y' is one of"),
    "no header, a missing value": ("?,x\n4.9,y\n", {"label": "1"}, "line 1 holds '?': is it a sample"),
    "no header below comments": ("# a,b\n1.5,x\n2.5,y\n", {}, "lines above, which begin with '#', are comments"),
    "no such column": ("a,b,label\n1,2,0\n", {"label": "species"}, "no column named 'species', it has: a, b, label"),
    "no such number": ("1,2,0\n", {"label": "3", "header": False}, "no column numbered '3', it has 3 columns"),
    "a long number": ("1,2,0\n", {"label": "9" * 5000, "header": False}, "no column numbered '999"),
    "an empty label": ("a,label\n1,x\n2,\n", {}, "line 3: column 'label' is empty"),
    "a blank label": ("a,label\n1,x\n2,  \n", {}, "line 3: column 'label' is empty"),
    "NA beside words": (
        "a,label\n1,x\n2,NA\n3,y\n",
        {},
        "line 3: column 'label' holds 'NA', which means a missing",
    ),
    "NaN beside words": ("a,label\n1,x\n2,NaN\n3,y\n", {}, "line 3: column 'label' holds 'NaN'"),
    "a question mark": ("a,label\n1,x\n2,?\n3,y\n", {}, "line 3: column 'label' holds '?'"),
    "null beside numbers": ("a,label\n1,0\n2,null\n3,1\n", {}, "line 3: column 'label' holds 'null'"),
    "None beside numbers": ("a,label\n1,0\n2,None\n3,1\n", {}, "line 3: column 'label' holds 'None'"),
    "a dot beside numbers": ("a,label\n1,0\n2,.\n3,1\n", {}, "line 3: column 'label' holds '.'"),
    "fractions": ("a,b\n1,0.25\n2,1\n", {}, "line 2: column 'b' holds 0.25, which is no class"),
    "fractions, by guess": ("a,b\n1,0.25\n2,1\n", {}, "another column is taken by --label"),
    "huge labels": ("a,b\n1,1e999999999\n2,1\n", {}, "line 2: column 'b' holds 1e999999999, which is no class"),
    "labels without end": ("a,b\n1,1e99999999999999999999\n2,1\n", {}, "which is no class"),
    "one number in two forms": (
        "a,label\n1,1\n2,1.0\n3,2\n",
        {},
        "holds '1' (line 2) and '1.0' (line 3): one class in two",
    ),
    "one word with blanks": ('a,label\n1,x\n2," x"\n3,y\n', {}, "holds 'x' (line 2) and ' x' (line 3)"),
    "one class": ("a,label\n1,x\n2,x\n", {}, "column 'label' holds one class only ('x')"),
    "labels of measurements": (
        lines("a,b", *(f"1,{i}" for i in range(40))),
        {},
        "column 'b' holds 40 different labels in 40 samples: these are not classes; another column is taken by --label",
    ),
    "ids": (lines("a,label", *(f"1,{i}" for i in range(200))), {}, "200 different labels in 200 samples"),
    "Latin-1": ("a,label\n1,é\n2,x\n".encode("latin-1"), {}, "line 2 is no text in UTF-8: byte 0xe9; save the file as"),
    "half a sign of UTF-16": (b"\xff\xfea\0,\0b", {}, "is no text in UTF-16"),
    "UTF-16 without its mark": ("a,label\n1,x\n".encode("utf-16-le"), {}, "line 1 holds a NUL byte"),
    "a NUL byte": (b"a,label\n1,x\n2,x\0\n", {}, "line 3 holds a NUL byte"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, "line 1 is no text in UTF-8: byte 0x89"),
    "a workbook": (b"PK\x03\x04\x14\0\x06\0", {}, "is a ZIP archive, as .npz and .xlsx are"),
    "a Parquet file": (b"PAR1\x15\x04\x15\x10", {}, "is a Parquet file"),
    "a compressed file": (b"\x1f\x8b\x08\0\0\0\0\0", {}, "is compressed by gzip"),
    "an open quote": ('a,label\n"1,0\n', {}, "line 2: unexpected end of data"),
    "a quote amid a cell": ('a,label\n"1"2,0\n', {}, "line 2: ',' expected after '\"'"),
    "an endless cell": (f"a,label\n1,{'x' * 200_000}\n", {}, "line 2: field larger than field limit"),
    "an endless name": (f"{'x' * 200_000},label\n1,x\n", {}, "line 1: field larger than field limit"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_kept_as_it_is_is_refused_with_its_place(tmp_path, case):
    text, options, words = REFUSED[case]
    path = tmp_path / "data.csv"
    path.write_bytes(data_of(text))
    with pytest.raises(UsageError) as caught:
        _files.read(path, **options)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".data", ".CSV"])
def test_the_endings_of_text_files(tmp_path, suffix):
    path = tmp_path / f"data{suffix}"
    path.write_text("a\tlabel\n1\tx\n2\ty\n", encoding="utf-8")
    assert _files.read(path).class_names == ("x", "y")
