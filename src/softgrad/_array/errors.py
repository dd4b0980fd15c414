"""The exceptions that softgrad raises beside the built-in ones."""

from __future__ import annotations


class AxisError(ValueError, IndexError):
    """An axis that the array does not have, or one named twice."""


class MixedArraysError(TypeError):
    """Arrays of two libraries, or of two devices, in one call."""


class LabelError(IndexError):
    """A class index that is no class of the logits (raised only with ``validate=True``)."""


class BackendError(ValueError):
    """A back end that is not known, or cannot be used."""


class BackendWarning(UserWarning):
    """A back end that was found but is broken, and so is left out."""
