"""``check --plot``: the picture, whatever the data are called."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from marks import full


def test_the_plot_shows_every_library_and_every_class(call, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "check.svg"
    code, out, _ = call("check", "--backend", "numpy", "--backend", "array_api_strict", "--plot", path)
    drawing = path.read_text(encoding="utf-8")
    ran = [name for name in ("numpy", "array_api_strict") if f"missing: {name}" not in out]
    assert code == (0 if len(ran) == 2 else 1)
    classes = [f"<!-- {digit} -->" for digit in range(10)]
    for words in (*ran, *classes, "float64", "float32", "step h", "one image a class, 8 × 8"):
        assert words in drawing
    assert drawing.count("<image") == 11  # ten classes, and the colour bar


@pytest.mark.parametrize(("m", "k"), [(9, 3), *full((3, 2), (64, 30), (1, 2))])
def test_the_plot_is_drawn_for_any_number_of_attributes_and_classes(call, data, tmp_path, m, k):
    image = pytest.importorskip("matplotlib.image")
    path = tmp_path / "check.png"
    assert call("check", "--backend", "numpy", "--data", data(m=m, k=k), "--plot", path, "--json")[0] == 0
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 600
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50


NAMES = (
    "$x$ and $y",
    r"\frac{$a\$}",
    "two\nlines",
    "\x1b[31mred",
    "\u202eright to left",
    "日本語 🚀",
    "[draft]",
    "a" * 400,
)


def texts(path):
    """What an SVG's comments tell of its texts, which are drawn as outlines."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    return {each.text.strip() for each in ET.parse(path, parser).iter() if each.tag is ET.Comment}


def shown(name, texts):
    escaped = name if name.isprintable() else repr(name)[1:-1]
    return any(text == escaped or text.startswith(escaped[:11]) or f" {escaped[:40]}" in text for text in texts)


def test_attributes_and_classes_are_drawn_under_their_names(call, data, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "check.svg"
    table = data(m=len(NAMES), k=len(NAMES), columns=NAMES, classes=[f"{name}." for name in NAMES])
    code, _, err = call("check", "--backend", "numpy", "--data", table, "--plot", path)
    assert (code, err) == (0, "")
    drawn = texts(path)
    for name in NAMES:
        assert shown(name, drawn)
        assert shown(f"{name}.", drawn)


@pytest.mark.full
@pytest.mark.parametrize("name", NAMES[:4], ids=ascii)
def test_the_file_is_named_as_it_is(call, data, tmp_path, name):
    pytest.importorskip("matplotlib")
    path = tmp_path / "check.svg"
    code, out, err = call("check", "--backend", "numpy", "--data", data(f"{name}.csv"), "--plot", path)
    assert (code, err) == (0, "")
    assert shown(f"{name}.csv", texts(path))
    assert shown(f"{name}.csv", [f" {out}"])


@pytest.mark.full
def test_the_plot_says_what_it_wrote(call, data, tmp_path):
    pytest.importorskip("matplotlib")
    for suffix in ("png", "svg", "pdf"):
        path = tmp_path / f"check.{suffix}"
        code, out, _ = call("check", "--backend", "numpy", "--data", data(), "--plot", path)
        assert code == 0
        assert f"Wrote {path}: the errors" in " ".join(out.split())
        assert path.stat().st_size > 1000


def test_a_plot_of_values_at_the_limits_of_float64_is_drawn(call, tmp_path):
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 64)) * np.where(np.arange(64) < 32, 1e305, 1e-305)
    np.savez(tmp_path / "data.npz", X=X, y=np.arange(40) % 3)
    words = ("check", "--backend", "numpy", "--data", tmp_path / "data.npz", "--plot", tmp_path / "check.png")
    assert call(*words)[::2] == (0, "")


def test_a_plot_where_nothing_could_be_computed_is_drawn_too(call, plug_in, tmp_path):
    pytest.importorskip("matplotlib")
    plug_in("def linear_cross_entropy(*args):\n    raise ValueError", "linear_cross_entropy")
    code, _, err = call("check", "--backend", "numpy", "--plot", tmp_path / "check.png")
    assert (code, err) == (1, "")


def test_a_plot_that_cannot_be_made_is_refused_before_the_work(call, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "taken.png").mkdir()
    for path, words in (
        (tmp_path / "check.docx", "expected a file that ends in .png, .svg, .pdf"),
        (tmp_path / "none" / "check.png", "there is no folder"),
        (tmp_path / "taken.png", "is a folder"),
        (tmp_path / f"{'a' * 300}.png", "File name too long"),
    ):
        code, out, err = call("check", "--backend", "numpy", "--plot", path)
        assert (code, out) == (2, "")
        assert err.startswith(f"softgrad: error: --plot {path}: ")
        assert words in err


def test_a_plot_without_matplotlib_says_what_to_install(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = call("check", "--backend", "numpy", "--plot", tmp_path / "check.png")
    assert (code, out) == (2, "")
    assert "python -m pip install matplotlib" in err
