"""Interleaved timing: on a shared machine only a ratio within a round means something."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: A call shorter than this is repeated within a round.
SHORTEST = 2e-3
#: Before a call shorter than this comes one that is not timed, which wakes the contender's own threads.
WOKEN = 50e-3


@dataclass(frozen=True)
class Timing:
    """Of one contender: seconds (median), and the ratio to the reference (median, first and third quartile)."""

    seconds: float
    ratio: float
    low: float
    high: float


def _once(call: Callable[[], Any]) -> float:
    """Seconds of a call."""
    once, spent = math.inf, 0.0
    # the first calls after another contender's are the slow ones
    while spent < SHORTEST:
        start = time.perf_counter()
        call()
        took = max(time.perf_counter() - start, 1e-7)
        once, spent = min(once, took), spent + took
    return once


def race(
    contenders: dict[str, Callable[[], Any]],
    reference: str,
    *,
    rounds: int = 9,
    budget: float = 6.0,
    gap: float = 0.01,
    failures: dict[str, str] | None = None,
) -> dict[str, Timing]:
    """Run every contender once a round, each round starting with another one.

    Parameters
    ----------
    contenders : dict of str to callable
    reference : str
        The one that the others are divided by, round by round.
    rounds : int
        Rounds at most; at least three are run.
    budget : float
        Seconds after which no round is begun.
    gap : float
        Seconds of rest before each contender, so that the threads of the one before stop looking out for work.
    failures : dict of str to str, optional
        Where given, a contender other than the reference whose first call raises is left out, and what it raised is
        put here.

    Returns
    -------
    dict of str to Timing
    """
    names = []
    for name, call in contenders.items():
        try:
            call()
        except Exception as error:
            if failures is None or name == reference:
                raise
            failures[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            names.append(name)
    seconds = {name: _once(contenders[name]) for name in names}
    rows: list[dict[str, float]] = []
    end = time.perf_counter() + budget
    gc.collect()
    gc.disable()
    try:
        while len(rows) < rounds and (len(rows) < 3 or time.perf_counter() < end):
            first = len(rows) % len(names)
            row = {}
            for name in names[first:] + names[:first]:
                call, count = contenders[name], max(1, int(SHORTEST / seconds[name]))
                time.sleep(gap)
                if seconds[name] < WOKEN:
                    call()
                start = time.perf_counter()
                for _ in range(count):
                    call()
                row[name] = (time.perf_counter() - start) / count
            rows.append(row)
    finally:
        gc.enable()
    out = {}
    for name in names:
        ratios = sorted(row[name] / row[reference] for row in rows)
        quarter = len(ratios) // 4
        out[name] = Timing(
            statistics.median(row[name] for row in rows),
            statistics.median(ratios),
            ratios[quarter],
            ratios[-1 - quarter],
        )
    return out
