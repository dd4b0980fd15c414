"""The cross-entropy with its classes split over processes: each holds some columns of the logits, or rows of W.

Every process calls the same function with its own share of the classes and the same labels, and all get the same loss;
the gradient by the share of a process needs nothing from the others. ``reduce`` combines the processes: one maximum
and one sum of a few numbers a sample, in this order, whether or not the gradient is wanted.
"""

from __future__ import annotations

from ..backends._collectives import jax_axis, torch_distributed
from .dense import cross_entropy, cross_entropy_value_and_grad
from .linear import linear_cross_entropy, linear_cross_entropy_value_and_grad

__all__ = [
    "cross_entropy",
    "cross_entropy_value_and_grad",
    "jax_axis",
    "linear_cross_entropy",
    "linear_cross_entropy_value_and_grad",
    "torch_distributed",
]
