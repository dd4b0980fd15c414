"""The benchmark: the timer's ratios, what the contenders compute, and the command."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from softgrad.testing.bench import _cases, _contenders, _timer


@pytest.fixture(autouse=True)
def _once(backend):
    if backend != "numpy":
        pytest.skip("measures what is installed, whatever the library under test")


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


def test_the_command_prints_and_writes(tmp_path):
    out = tmp_path / "bench.json"
    command = [
        sys.executable,
        "-m",
        "softgrad",
        "bench",
        "--group",
        "tiny",
        "--quick",
        "--rounds",
        "3",
        "--threads",
        "1",
    ]
    done = subprocess.run([*command, "--json", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert {row["group"] for row in result["cases"]} == {"tiny"}
    assert all(row["ratio"]["softgrad"] == 1 and row["threads"] == 1 for row in result["cases"])
    assert result["machine"]["versions"]["numpy"] == np.__version__
    assert "softmax 3" in done.stdout


def test_the_command_refuses_no_threads():
    done = subprocess.run(
        [sys.executable, "-m", "softgrad", "bench", "--threads", "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--threads must be at least 1" in done.stderr
