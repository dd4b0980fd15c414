"""What a person would rather see than a table: the errors against the step, the gradient as images."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..testing._terminal import printable
from . import _output
from ._errors import UsageError
from ._identity import DTYPES, Result
from ._problem import STEPS, Problem

#: Colours that stay apart for the colour-blind (Okabe and Ito), and markers that stay apart without colour.
_STYLES = (
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
)
_FORMATS = (".png", ".svg", ".pdf")
_IMAGES = 20
#: Pixels a side from which as many attributes are taken for an image.
_SMALLEST_IMAGE = 8
_NAMES = 40


def prepare(path: Path) -> None:
    """Raise before anything is computed where the drawing could not be made.

    Raises
    ------
    UsageError
        Matplotlib is missing, or the file is of another kind or cannot be written.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"--plot {path}: expected a file that ends in {', '.join(_FORMATS)}")
    _output.prepare("--plot", path)
    try:
        from matplotlib import figure  # noqa: F401 -- drawn later, and not found out then
    except ImportError as error:
        raise UsageError(f"--plot needs Matplotlib: python -m pip install matplotlib ({error})") from error


def _shown(name: str, most: int) -> str:
    r"""A name for Matplotlib, to which ``$`` begins a formula and ``\$`` is a dollar."""
    short = name if len(name) <= most else f"{name[: most - 1]}…"
    return printable(short).replace("$", r"\$")


def draw(path: Path, source: str, problem: Problem, results: list[Result]) -> None:
    """Draw the errors of every back end and the first back end's gradient into ``path``.

    Raises
    ------
    UsageError
        The file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    content = io.BytesIO()
    # names are no formulas, and signs that no font has are drawn as boxes
    with mpl.rc_context({"text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(11, 8.2), layout="constrained", dpi=130)
        parts: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1))
        top, bottom = parts
        _errors(top, results)
        _gradient(bottom, problem, results)
        figure.suptitle(
            f"∇E = X (S − Y)ᵀ on {_shown(source, 50)}: {problem.samples:,} samples, {problem.attributes:,} attributes, "
            f"{problem.classes:,} classes"
        )
        figure.savefig(content, format=path.suffix.lower().removeprefix("."))
    _output.write("--plot", path, content.getvalue())


def _errors(figure: Any, results: list[Result]) -> None:
    axes = figure.subplots(1, len(DTYPES), sharey=True)
    names = list(dict.fromkeys(result.back_end for result in results))
    for ax, dtype in zip(axes, DTYPES, strict=True):
        shown = [result for result in results if result.dtype == dtype and result.curve]
        for place, result in enumerate(shown):
            color, marker = _STYLES[names.index(result.back_end) % len(_STYLES)]
            # an exact agreement has no place on a logarithmic axis
            errors = [check.error or math.nan for check in result.curve]
            ax.plot(
                STEPS,
                errors,
                color=color,
                marker=marker,
                markersize=9 - 1.2 * place,
                markeredgewidth=1.6,
                fillstyle="none",
                linewidth=1.2,
                label=f"{result.back_end} {result.version}",
            )
        if shown:
            limit = [check.tolerance for check in shown[0].curve]
            ax.plot(STEPS, limit, color="#444444", linestyle="--", linewidth=1.2, label="most allowed")
        ax.set(xscale="log", yscale="log", title=dtype, xlabel="step h of the central difference")
        ax.grid(alpha=0.3, linewidth=0.6)
    axes[0].set_ylabel("error relative to the gradient")
    if any(result.curve for result in results):
        axes[0].legend(fontsize="small")
    figure.suptitle(
        "Finite differences against the gradient: truncation falls with h², rounding grows with 1/h",
        fontsize="medium",
    )


def _gradient(figure: Any, problem: Problem, results: list[Result]) -> None:
    result = next((result for result in results if result.gradient is not None), None)
    if result is None or result.gradient is None:
        return
    side = math.isqrt(problem.attributes)
    is_image = side >= _SMALLEST_IMAGE and side**2 == problem.attributes
    # pixels share a unit and a scale; columns of a table do not
    powers = problem.exponents - problem.exponents.max()
    gradient = np.ldexp(result.gradient, powers[:, None]) if is_image else result.gradient
    reach = float(np.max(np.abs(gradient), initial=0.0, where=np.isfinite(gradient))) or 1.0
    style = {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach, "interpolation": "nearest"}
    shown = min(problem.classes, _IMAGES)
    if is_image:
        rows = 1 if shown < 5 else 2
        grid = figure.subplots(rows, -(-shown // rows), squeeze=False)
        for ax in grid.flat:
            ax.set_visible(False)
        for k, ax in zip(range(shown), grid.flat, strict=False):
            ax.set_visible(True)
            ax.set(xticks=[], yticks=[])
            image = ax.imshow(gradient[:, k].reshape(side, side), **style)
            ax.set_title(_shown(problem.class_names[k], 12), fontsize="medium")
        axes = list(grid.flat)
        words = f"one image a class, {side} × {side} attributes"
    else:
        ax = figure.subplots()
        image = ax.imshow(gradient.T[:shown], aspect="auto", **style)
        ax.set_yticks(range(shown), [_shown(name, 16) for name in problem.class_names[:shown]])
        ax.set(xlabel="attribute", ylabel="class")
        if problem.attribute_names and problem.attributes <= _NAMES:
            names = [_shown(name, 16) for name in problem.attribute_names]
            ax.set_xticks(range(problem.attributes), names, rotation=30, ha="right", rotation_mode="anchor")
            ax.set_xlabel("")
        axes = [ax]
        words = "one row a class, attributes scaled to at most 1"
    figure.colorbar(image, ax=axes, shrink=0.9, label="∂E/∂w")
    more = f" (the first {shown} of {problem.classes:,})" if shown < problem.classes else ""
    figure.suptitle(f"The gradient on {result.back_end}, {result.dtype}: {words}{more}", fontsize="medium")
