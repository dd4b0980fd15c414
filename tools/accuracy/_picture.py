"""The picture: errors of a loss against the gap between its label and the other class, ours and the peers'."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ._families import Case
from ._formats import FORMATS, ulps
from ._reference import compute
from ._subjects import Subject

INKS = {"light": "#1f2933", "dark": "#d5dbe1"}
#: Name, function, colour (Okabe and Ito), line.
CURVES = (
    ("softgrad numpy", "#0072b2", "-"),
    ("softgrad numpy high", "#56b4e9", "-"),
    ("torch", "#d55e00", "--"),
    ("optax", "#009e73", "-."),
    ("scikit-learn", "#cc79a7", ":"),
)
BINS = 60
EACH = 24


def curves(dtype: str, subjects: Sequence[Subject]) -> tuple[Any, dict[str, Any]]:
    """The gaps, and by subject the worst error of the loss in each bin of gaps."""
    form = FORMATS[dtype]
    rng = np.random.default_rng(3)
    gap = np.linspace(0.05, form.normal_gap, BINS)
    label = rng.uniform(-3, 3, (BINS, EACH))
    x = form.round(np.stack([label, label - gap[:, None]], -1).reshape(-1, 2))
    case = Case("gap", form, x, np.zeros(len(x), np.int64))
    exact = compute(case)["loss"].exact
    out = {}
    for subject in subjects:
        if any(subject.name == name for name, _, _ in CURVES):
            got = subject.run("loss", case)
            if got is not None:
                out[subject.name] = ulps(got, exact, form).reshape(BINS, EACH).max(1)
    return gap, out


def draw(folder: Path, subjects: Sequence[Subject]) -> None:
    """``accuracy_light.svg`` and ``accuracy_dark.svg``."""
    import matplotlib
    from matplotlib.figure import Figure

    data = {dtype: curves(dtype, subjects) for dtype in ("float32", "float64")}
    for theme, ink in INKS.items():
        names = ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"]
        look = {
            **dict.fromkeys(names, ink),
            "axes.facecolor": "none",
            "axes.spines.right": False,
            "axes.spines.top": False,
            "font.size": 9,
            "svg.fonttype": "none",
            "svg.hashsalt": "softgrad",
            "figure.constrained_layout.use": True,
        }
        with matplotlib.rc_context(look):
            figure = Figure(figsize=(7.2, 3.4))
            for axes, (dtype, (gap, errors)) in zip(figure.subplots(1, 2), data.items(), strict=True):
                for name, color, style in CURVES:
                    if name in errors:
                        axes.semilogy(gap, np.maximum(errors[name], 0.1), style, color=color, label=name, linewidth=1.6)
                wrong = 2.0 ** (FORMATS[dtype].digits - 1)
                axes.axhline(wrong, color=ink, linewidth=0.6)
                axes.annotate("no digit is right", (gap[-1], wrong), (0, -11), textcoords="offset points", ha="right")
                axes.set(title=dtype, xlabel="label's logit above the other", ylabel="worst error of the loss, ULP")
            handles, labels = figure.axes[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
            figure.savefig(folder / f"accuracy_{theme}.svg", transparent=True, metadata={"Date": None})
