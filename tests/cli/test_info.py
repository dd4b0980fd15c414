"""``info``: one table of functions and libraries."""

from __future__ import annotations

import json

import pytest

import softgrad
from softgrad import backends
from softgrad.testing import _libraries

FRAMEWORKS = [name for name in _libraries.LIBRARIES if name != "numpy"]


def test_info_tells_what_runs_on_the_library_under_test(backend, library, call):
    code, out, err = call("info", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["softgrad"] == softgrad.__version__
    (mine,) = [each for each in found["libraries"] if each["name"] == backend]
    assert mine["available"]
    assert mine["version"]
    assert mine["device"]
    known = {each["name"] for each in found["back_ends"]} | {"generic"}
    assert known == set(backends.available()) | {"generic"}
    assert set(mine["runs"]) >= {"softmax", "cross_entropy_value_and_grad", "linear_cross_entropy_hvp"}
    assert {told["back_end"] for told in mine["runs"].values()} <= known


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_of_info_is_what_explain_tells(backend, library, call, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    mine = next(each for each in json.loads(call("info", "--json")[1])["libraries"] if each["name"] == backend)
    code, out, _ = call("info")
    assert code == 0
    assert max(map(len, out.splitlines())) <= width
    lines = [line.split() for line in out.splitlines()]
    assert [backend, mine["version"], mine["device"]] in lines
    head = next(words for words in lines if words[:1] == ["function"])
    place = head.index("strict" if backend == "array_api_strict" else backend)
    for function, told in mine["runs"].items():
        (row,) = [words for words in lines if words[:1] == [function]]
        own = {backend: "✓", "generic": "·"}
        assert row[place] == own.get(told["back_end"], told["back_end"])


def test_info_shows_a_back_end_that_was_registered(call, plug_in):
    name = plug_in("def softmax_vjp(*args): ...", "softmax_vjp")
    found = json.loads(call("info", "--json")[1])
    runs = {each["name"]: each["runs"] for each in found["libraries"] if each["available"]}["numpy"]
    assert runs["softmax_vjp"]["back_end"] == name
    assert runs["softmax_jvp"]["back_end"] != name
    assert name in call("info")[1].replace("\n", "")


def test_info_names_what_is_missing(call, numpy_alone):
    code, out, _ = call("info")
    assert code == 0
    for name in FRAMEWORKS:
        assert f"not used: {name}: not installed" in out


def test_a_library_that_breaks_does_not_hide_the_others(call, fake_library):
    fake_library(
        "crooked",
        "from numpy import *\ndef asarray(*a, **k): return type('Array', (), {'device': 'cpu', '__add__': max})()",
    )
    code, out, err = call("info")
    assert (code, err) == (0, "")
    assert "not used: crooked: " in out
    assert "numpy" in out
