"""``warmup``: compile what numba compiles, so that no later process waits for it."""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from typing import Any

import numpy as np

from .. import backends
from .._cross_entropy_functions import cross_entropy_value_and_grad
from .._dense import log_softmax, log_softmax_vjp, softmax, softmax_vjp
from .._logsumexp import logsumexp
from ..linear.functions import linear_cross_entropy_value_and_grad
from ..testing._terminal import Terminal

_SAMPLES, _CLASSES, _ATTRIBUTES = 2000, 10, 8


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "warmup",
        help="compile what numba compiles, once for all later processes",
        description="Compile the loops that NumPy arrays and CPU tensors go through where numba is installed, "
        "for instance into the image of a container. They are kept where numba keeps them, in NUMBA_CACHE_DIR where "
        "that is set.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    out = Terminal(sys.stdout)
    if importlib.util.find_spec("numba") is None:
        out.say("numba is not installed: nothing is compiled.")
        return 0
    told = backends.explain("softmax", np.zeros((_SAMPLES, _CLASSES)))
    if told.backend != "numba":
        why = dict(told.declined).get("numba", f"{told.backend} runs instead")
        out.say(f"Nothing is compiled: {why}.")
        return 0
    start = time.perf_counter()
    for dtype in (np.float32, np.float64):
        _call_all(dtype)
    out.say(f"Compiled, or loaded, in {time.perf_counter() - start:.1f} s. Later processes load what is kept.")
    return 0


def _call_all(dtype: Any) -> None:
    """A call of every function that has loops, for each layout of the classes."""
    labels = np.zeros(_SAMPLES, np.int64)
    for shape, axis in (((_SAMPLES, _CLASSES), 1), ((_SAMPLES, 10 * _CLASSES), 1), ((_CLASSES, _SAMPLES), 0)):
        x = np.zeros(shape, dtype)
        logsumexp(x, axis=axis)
        softmax_vjp(softmax(x, axis=axis), x, axis=axis)
        log_softmax_vjp(log_softmax(x, axis=axis), x, axis=axis)
        cross_entropy_value_and_grad(x, labels, axis=axis)
    X, W = np.zeros((_SAMPLES, _ATTRIBUTES), dtype), np.zeros((_CLASSES, _ATTRIBUTES), dtype)
    linear_cross_entropy_value_and_grad(X, labels, W)
