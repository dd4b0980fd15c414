"""``warmup``: every loop is compiled and kept, and it is told why there is none."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import softgrad as sg
from softgrad.backends import numba


@pytest.mark.full
def test_what_is_warmed_up_is_loaded_by_the_next_process(usual_kernels):
    pytest.importorskip("numba")
    # in the usual folder: what is compiled here serves the tests that follow
    environment = {name: value for name, value in os.environ.items() if name != "SOFTGRAD_NUMBA"}
    command = [sys.executable, "-m", "softgrad", "warmup"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Compiled, or loaded, in ")
    program = """
import numpy as np, softgrad as sg
from softgrad.backends.numba import compile
for dtype in (np.float32, np.float64):
    x, y = np.zeros((3000, 20), dtype), np.zeros(3000, np.int64)
    sg.softmax(x), sg.log_softmax(x), sg.logsumexp(x), sg.softmax(x, axis=0)
    sg.softmax_vjp(x, x), sg.softmax_jvp(x, x), sg.log_softmax_vjp(x, x)
    sg.cross_entropy(x, y), sg.cross_entropy_grad(x, y, ignore_index=-1), sg.cross_entropy_value_and_grad(x, y)
    sg.linear_cross_entropy(x, y, np.zeros((3, 20), dtype), np.zeros(3, dtype))
print(compile._clock.seconds)
"""
    after = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )
    assert (after.returncode, after.stdout) == (0, "0.0\n"), after.stderr


def test_without_numba_nothing_is_compiled(call, monkeypatch, usual_kernels):
    monkeypatch.setattr(numba, "_verdict", "SOFTGRAD_NUMBA=0 turns numba off")
    assert sg.backends.explain("softmax", np.zeros((2000, 10))).backend != "numba"
    code, out, err = call("warmup")
    assert (code, err) == (0, "")
    assert "nothing is compiled" in out.lower()
