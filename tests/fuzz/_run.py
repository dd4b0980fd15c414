"""Calls one after the other, and what of them failed."""

from __future__ import annotations

import argparse
import collections
import sys
import time
import traceback

import numpy as np

from ._compare import measure_for
from ._dense import dense_call, pull_call, signed_call
from ._divergence import divergence_call, top_k_call
from ._inputs import Call
from ._linear import linear_call
from ._log_probs import linear_log_probs_call, log_probs_call
from ._loss import loss_call
from ._parallel import parallel_call
from ._scaled import scaled_call

#: Kinds of calls and their shares.
KINDS = (
    (dense_call, 0.2),
    (signed_call, 0.1),
    (pull_call, 0.1),
    (log_probs_call, 0.07),
    (linear_log_probs_call, 0.03),
    (loss_call, 0.2),
    (divergence_call, 0.1),
    (linear_call, 0.15),
    (top_k_call, 0.03),
    (parallel_call, 0.02),
)
#: The share of JAX's calls that are compiled with what comes before them.
COMPILED = 0.3
#: The share of calls on large arrays.
LARGE = 0.005


def one(seed, number, library, large=LARGE):
    """Make one call; raises what is wrong with it."""
    if library == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    measure_for(library)
    rng = np.random.default_rng([seed, number])
    call = Call((seed, number), library, large=large)
    dtypes = ["float64", "float32", "float32", "float64", "float16"] + (["bfloat16"] if library != "numpy" else [])
    dtype = str(rng.choice(dtypes))
    kind = KINDS[int(rng.choice(len(KINDS), p=[share for _, share in KINDS]))][0]
    if library == "jax" and rng.random() < COMPILED:
        kind = scaled_call
    try:
        with np.errstate(all="ignore"):
            kind(rng, call, dtype)
    except Exception as error:
        error.add_note(str(call))
        raise
    return call


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=sys.modules["fuzz"].__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--libraries", default="numpy,torch")
    parser.add_argument("--large", type=float, default=LARGE, help="the share of calls on large arrays")
    parser.add_argument("--only", type=int, help="the number of one call, to make it again with a traceback")
    parser.add_argument("--failures", type=int, default=20, help="how many to print before it ends")
    options = parser.parse_args(arguments)
    libraries = options.libraries.split(",")
    numbers = range(options.calls) if options.only is None else [options.only]
    started, failed, done = time.perf_counter(), 0, collections.Counter()
    for number in numbers:
        library = libraries[number % len(libraries)]
        try:
            call = one(options.seed, number, library, options.large)
            done[f"{library} {call.function}"] += 1
        except Exception as error:  # noqa: BLE001 - whatever a call raises is what is looked for
            failed += 1
            notes = " ".join(getattr(error, "__notes__", []))
            print(f"{type(error).__name__}: {str(error)[:300]}\n  {notes}", flush=True)
            if options.only is not None:
                traceback.print_exc()
            if failed >= options.failures:
                break
    seconds = time.perf_counter() - started
    print(", ".join(f"{name} {count}" for name, count in sorted(done.items())))
    print(f"{sum(done.values()) + failed} calls in {seconds:.0f} s, {failed} failed, seed {options.seed}")
    return 1 if failed else 0
