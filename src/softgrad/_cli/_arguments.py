"""Values of options, refused in words that say what was expected."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

from ..testing._libraries import LIBRARIES
from ..testing._terminal import quoted


def count(least: int) -> Callable[[str], int]:
    """A converter of whole numbers that are ``least`` or more."""

    def convert(text: str) -> int:
        if not re.fullmatch("[0-9]{1,18}", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {quoted(text)}")
        return int(text)

    return convert


def backend(name: str) -> str:
    """A converter of the names of array libraries."""
    if name not in LIBRARIES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(LIBRARIES)}, got {quoted(name)}")
    return name
