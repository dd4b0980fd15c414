"""Which code runs: back ends that replace kernels, how they are found, and how to choose.

A back end is one ``Backend`` that names the array types it is for and the kernels that it replaces. Built-in ones are
loaded when an array of their library first comes; others are found through the entry point group
``softgrad.backends``. The generic kernels, written against the array API standard, end every plan.
"""

from __future__ import annotations

from .._array.libraries.declaration import ArrayLibrary
from . import _discovery
from ._declaration import Backend, Explanation
from ._registry import available, explain, register, unregister, use
from ._threads import workers

__all__ = [
    "GROUP",
    "ArrayLibrary",
    "Backend",
    "Explanation",
    "available",
    "explain",
    "register",
    "unregister",
    "use",
    "workers",
]

#: The entry point group in which other packages name their back ends.
GROUP = _discovery.GROUP
