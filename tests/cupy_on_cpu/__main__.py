"""``python -m cupy_on_cpu``: what of real CuPy on the CPU agrees with NumPy, in value and in dtype."""

from __future__ import annotations

import sys
import time

from . import install, log
from .agreement import disagreements


def main() -> int:
    began = time.perf_counter()
    cupy = install()
    checked, differing = disagreements(cupy)
    for line in differing:
        print(line)
    print(
        f"CuPy {cupy.__version__} on the CPU: {checked - len(differing)} of {checked} results agree with NumPy in "
        f"value and dtype; {log.compiled} modules compiled, {time.perf_counter() - began:.1f} s"
    )
    return int(bool(differing))


sys.exit(main())
