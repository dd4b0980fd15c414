"""The tutorial's pictures, drawn from the fits that it shows: one for a light page, one for a dark one."""

import functools
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import softgrad as sg
from softgrad._data import load_digits

INKS = {"light": "#1f2933", "dark": "#d5dbe1"}
#: Told apart by the colour-blind, too (Okabe and Ito).
COLORS = {INKS["light"]: ["#0072b2", "#d55e00", "#009e73"], INKS["dark"]: ["#56b4e9", "#e69f00", "#00c08b"]}


def softmax_curves(ink):
    t = np.linspace(-6, 6, 241)
    p = sg.softmax(np.stack([t, np.zeros_like(t), np.ones_like(t)], axis=1))
    figure = Figure(figsize=(6.4, 2.7))
    axes = figure.subplots()
    for k, name in enumerate(["t", "0", "1"]):
        axes.plot(t, p[:, k], color=COLORS[ink][k], label=f"logit {name}")
    axes.set(xlabel="t", ylabel="probability", xlim=(-6, 6), ylim=(0, 1))
    axes.legend(frameon=False, loc="center left")
    return figure


def some_digits(ink):
    X, y = load_digits()
    figure = Figure(figsize=(6.4, 1.7))
    for axes, image, digit in zip(figure.subplots(2, 10).flat, X, y, strict=False):
        axes.imshow(image.reshape(8, 8), cmap="gray_r" if ink == INKS["light"] else "gray", interpolation="nearest")
        axes.set_title(str(digit), fontsize=8, pad=2)
        axes.set_axis_off()
    return figure


@functools.cache
def fit():
    X, y = load_digits()
    return sg.SoftmaxRegression().fit(X[:1300] / 16.0, y[:1300])


def loss_curve(ink):
    figure = Figure(figsize=(6.4, 2.7))
    axes = figure.subplots()
    curve = np.asarray(fit().loss_curve_)
    axes.semilogy(curve[:-1] - curve[-1], "o-", color=COLORS[ink][0], markersize=3)
    axes.set(xlabel="iteration", ylabel="objective above its last value")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def coefficients(ink):
    figure = Figure(figsize=(6.4, 3.0))
    coef = fit().coef_
    limit = np.abs(coef).max()
    for digit, axes in enumerate(figure.subplots(2, 5).flat):
        picture = axes.imshow(
            coef[digit].reshape(8, 8), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
        )
        axes.set_title(str(digit), fontsize=9, pad=3)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.colorbar(picture, ax=figure.axes, shrink=0.9, label="coefficient")
    return figure


FIGURES = {
    "softmax_curves": softmax_curves,
    "some_digits": some_digits,
    "loss_curve": loss_curve,
    "coefficients": coefficients,
}


def style(ink):
    parts = ["text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"]
    return {
        **dict.fromkeys(parts, ink),
        "figure.constrained_layout.use": True,
        "axes.facecolor": "none",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 9,
        "svg.fonttype": "none",  # letters stay letters: searched, read aloud, drawn in the reader's font
        "svg.hashsalt": "softgrad",
    }


def draw(folder):
    """Draw what is not there yet, or is older than this file."""
    born = Path(__file__).stat().st_mtime
    for theme, ink in INKS.items():
        for name, figure in FIGURES.items():
            path = folder / f"{name}_{theme}.svg"
            if path.exists() and path.stat().st_mtime > born:
                continue
            with matplotlib.rc_context(style(ink)):
                figure(ink).savefig(path, transparent=True, metadata={"Date": None})
