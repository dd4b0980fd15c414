"""Exceptions and warnings of softgrad."""

from __future__ import annotations


class AxisError(ValueError, IndexError):
    """An axis that the array does not have, or one named twice."""


class MixedArraysError(TypeError):
    """Arrays of two libraries, or of two devices, in one call."""


class LabelError(IndexError):
    """A class index out of range (raised only with ``validate=True``)."""


class BackendError(ValueError):
    """An unknown or unusable back end."""


class BackendWarning(UserWarning):
    """A back end that was found but failed to load, and is ignored."""
