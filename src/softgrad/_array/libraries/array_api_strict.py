"""array-api-strict."""

from __future__ import annotations

import importlib

from .declaration import ArrayLibrary

LIBRARY = ArrayLibrary(
    "array_api_strict",
    "array_api_strict",
    "array-api-strict",
    warns=True,
    has_device=True,
    other_device=lambda: importlib.import_module("array_api_strict").Device("device1"),
    device_label=lambda array: "cpu" if "CPU_DEVICE" in str(array.device) else str(array.device),
)
