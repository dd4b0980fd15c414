"""Memory beyond inputs and results, each contender in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from ._cases import Case, data

#: Contenders whose memory is on the host and so can be read from the process.
MEASURED = ("softgrad", "torch", "jax.jit", "scikit-learn", "softgrad on torch")

_CHILD = f"""
import json, os, resource, sys
import numpy as np
from {__package__} import _cases, _contenders
shape, dtype, name = json.loads(sys.argv[1])
case = _cases.Case("linear", tuple(shape))
warm = _cases.Case("linear", (64, shape[1], 8))
everyone = _contenders.contenders(warm, _cases.data(warm, dtype), compiled=False)
if name not in everyone:
    sys.exit(3)
everyone[name]()
call = _contenders.contenders(case, _cases.data(case, dtype), compiled=False)[name]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if os.path.exists("/proc/self/statm"):
    # what was let go since the peak is filled up: the call would use it unseen
    resident = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    filler = np.ones(max(0, 1024 * before - resident), np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
call()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def peak(case: Case, dtype: str, name: str) -> float | None:
    """MiB that one call of the linear loss and gradient adds to the process' peak; None where it cannot run."""
    argument = json.dumps([case.shape, dtype, name])
    done = subprocess.run([sys.executable, "-c", _CHILD, argument], capture_output=True, text=True, check=False)
    return int(done.stdout) / 1024 if done.returncode == 0 else None


def table(case: Case, dtype: str) -> dict[str, Any]:
    """The peaks of everyone, with the bytes of the gradient itself."""
    gradient = data(Case("linear", (1, *case.shape[1:])), dtype).W.nbytes / 2**20
    return {"gradient": gradient, "peaks": {name: peak(case, dtype, name) for name in MEASURED}}
