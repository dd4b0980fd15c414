"""The benchmark: the timer's ratios, what the contenders compute, and the command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from softgrad._cli import bench
from softgrad.testing._terminal import Terminal
from softgrad.testing.bench import _cases, _contenders, _report, _timer


class Clock:
    """A clock that runs only while somebody sleeps."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(_timer, "time", made)
    return made


def test_a_race_finds_the_ratio(clock):
    contenders = {"one": lambda: clock.sleep(0.004), "three": lambda: clock.sleep(0.012)}
    timings = _timer.race(contenders, "one", rounds=5)
    assert timings["one"].ratio == 1
    assert timings["three"].seconds == pytest.approx(0.012)
    assert timings["three"].ratio == pytest.approx(3)
    assert timings["three"].low == pytest.approx(timings["three"].high)


def test_a_short_call_is_repeated(clock):
    timings = _timer.race({"short": lambda: clock.sleep(1e-6)}, "short", rounds=3, gap=0.5)
    assert timings["short"].seconds == pytest.approx(1e-6)


def test_a_race_ends_with_its_budget(clock):
    calls = []

    def slow():
        calls.append(0)
        clock.sleep(1.0)

    _timer.race({"slow": slow}, "slow", rounds=1000, budget=5.0, gap=0.0)
    assert 5 <= len(calls) <= 8


def test_quick_is_a_part_of_the_whole():
    whole = {(case.operation, case.shape[-1]) for case in _cases.cases(("dense", "tiny", "linear"))}
    quick = {(case.operation, case.shape[-1]) for case in _cases.cases(("tiny", "linear"), quick=True)}
    assert quick < whole


SMALL = [
    *(_cases.Case(operation, (20, 5)) for operation in _cases.DENSE),
    _cases.Case("softmax", (5, 20), axis=0),
    _cases.Case("loss+gradient", (5, 20), axis=0),
    _cases.Case("linear", (30, 4, 3)),
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_all_contenders_compute_the_same(case):
    given = _cases.data(case, "float64")
    everyone = _contenders.contenders(case, given, compiled=False)
    expected = _flat(everyone.pop("softgrad")())
    for name, call in everyone.items():
        if not name.startswith("floor"):
            np.testing.assert_allclose(np.sort(_flat(call())), np.sort(expected), rtol=1e-5, atol=1e-7, err_msg=name)


def _flat(result):
    """The numbers of a result, in no order: a peer may lay out its gradient in its own way."""
    parts = result if isinstance(result, tuple) else (result,)
    return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])


def run(*words):
    command = [sys.executable, "-m", "softgrad", "bench", *words]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False, env=environment)


def test_the_command_prints_and_writes(tmp_path):
    out = tmp_path / "bench.json"
    done = run("--group", "tiny", "--quick", "--rounds", "3", "--threads", "1", "--json", str(out))
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(out.read_text())
    assert {row["group"] for row in result["cases"]} == {"tiny"}
    assert all(row["ratio"]["softgrad"] == 1 and row["threads"] == 1 for row in result["cases"])
    assert result["machine"]["versions"]["numpy"] == np.__version__
    assert "softmax 3" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if str(out) not in line) <= 80
    assert "Ratio: softgrad's time over the other library's" in done.stdout
    assert f"Wrote {out}: everything that was measured." in " ".join(done.stdout.split())


@pytest.mark.full
def test_the_command_refuses_what_it_cannot_write_before_it_measures(tmp_path):
    for option, name in (
        ("--json", "none/bench.json"),
        ("--json", "."),
        ("--plot", "none/bench.png"),
        ("--plot", "a.x"),
    ):
        done = run(option, str(tmp_path / name))
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert done.stderr.startswith(f"softgrad: error: {option} {tmp_path}")


def row(operation="softmax", shape=(20, 5), **ratios):
    """A case in which the ratio to each library is (middle, low, high)."""
    parts = {"softgrad": (1, 1, 1), **{name.replace("_", "."): ratio for name, ratio in ratios.items()}}
    return {
        "operation": operation,
        "shape": shape,
        "axis": -1,
        "dtype": "float32",
        "threads": 2,
        "seconds": dict.fromkeys(parts, 0.001),
        "ratio": {name: middle for name, (middle, _, _) in parts.items()},
        "spread": {name: (low, high) for name, (_, low, high) in parts.items()},
    }


def shown(*rows):
    out = io.StringIO()
    _report.show(list(rows), Terminal(out))
    return out.getvalue()


def test_a_table_gives_ratios_and_how_far_they_moved():
    out = shown(row(scipy=(0.5, 0.45, 0.55), jax_jit=(0.004, 0.0038, 0.0042)), row("loss", scipy=(2.0, 1.9, 2.1)))
    lines = [line.split() for line in out.splitlines()]
    # half of the range from 0.45 to 0.55 is 10 % of 0.5
    assert ["softmax", "20x5", "1", "0.50", "0.004", "10%"] in lines
    assert ["loss", "20x5", "1", "2.00", "5%"] in lines
    assert "Noise" not in out


def test_a_table_says_where_a_busy_machine_made_ratios_uncertain():
    out = shown(row(scipy=(0.5, 0.3, 0.9)), row("loss", scipy=(2.0, 1.9, 2.1)))
    assert ["softmax", "20x5", "1", "0.50", "60%", "!"] in [line.split() for line in out.splitlines()]
    assert "Noise: 1 of 2 cases, marked !, moved by more than 20%" in out


def test_without_other_libraries_times_alone_are_told():
    out = shown(row())
    assert "softgrad on NumPy arrays; of scipy, torch, torch.compile, jax.jit" in " ".join(out.split())
    assert ["softmax", "20x5", "1"] in [line.split() for line in out.splitlines()]


def test_a_busy_machine_is_told_before_it_is_measured(monkeypatch):
    monkeypatch.setattr(bench.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (1.9, 0, 0), raising=False)
    assert bench._busy() == ""
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (2.5, 0, 0), raising=False)
    assert "a load of 2.5 on 4 cores" in bench._busy()


def test_a_library_that_fails_is_left_out_and_told(clock):
    def fails():
        raise RuntimeError("no\ncompiler")

    failures = {}
    timings = _timer.race({"one": lambda: clock.sleep(0.004), "broken": fails}, "one", rounds=3, failures=failures)
    assert set(timings) == {"one"}
    assert failures == {"broken": "RuntimeError: no compiler"}
    with pytest.raises(RuntimeError):
        _timer.race({"one": lambda: clock.sleep(0.004), "broken": fails}, "one", rounds=3)
    with pytest.raises(RuntimeError):
        _timer.race({"broken": fails}, "broken", rounds=3, failures=failures)
