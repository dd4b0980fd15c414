"""Random calls on NumPy and torch against slow formulas in extended precision: ``python -m fuzz --calls 100000``.

Shapes, formats, strides, special values and options are drawn; every call has to end without an error, a warning or
a write to its input, agree with the formula, and be NaN, infinite or 0 where the generic kernel is. It runs in
``tests``, or with that on ``PYTHONPATH``.
"""

from __future__ import annotations

from ._run import main, one

__all__ = ["main", "one"]
