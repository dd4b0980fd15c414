"""How figures are held to what is stated of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def within(ceilings: Mapping[Any, float], figures: Mapping[Any, float]) -> None:
    """Fail where a figure is above its ceiling, and where a ceiling could be lowered by a tenth, so guards no more."""
    assert ceilings.keys() == figures.keys()
    wrong = [f"{name}: {figures[name]:.4g} for at most {most:.4g}" for name, most in ceilings.items()
             if not 0.9 * most < max(figures[name], 1e-9) <= max(most, 1e-9)]  # fmt: skip
    assert not wrong, "; ".join(wrong)
