"""Run the tests on one package after the other in one process: ``worker.py BACKEND FOLDER NAME...``.

A process of its own for each would load, and for JAX compile, everything again. Writes one line of JSON a package.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
#: Rows of the table of capabilities that are called, by every back end.
CALLS = (
    "softmax",
    "logsumexp",
    "log_softmax_vjp",
    "cross_entropy",
    "cross_entropy_value_and_grad",
    "cross_entropy_hvp",
    "linear_cross_entropy_value_and_grad",
    "softmax, where",
    "logsumexp, b",
    "cross_entropy, weights by class",
    "cross_entropy_value_and_grad, all options",
    "linear_cross_entropy_grad, l2",
    "linear_cross_entropy_grad, classes",
)
TESTED = (
    *(f"contract/test_portability.py::test_call_keeps_width_device_library_and_inputs[{{}}-{name}]" for name in CALLS),
    "contract/test_portability.py::test_axis_of_many_terms",
    "contract/test_portability.py::test_labels_narrower_than_the_number_of_classes",
    "contract/test_edge_targets.py::test_label_out_of_range_is_nan_and_alone",
    "test_cross_entropy.py::test_loss_object_holds_no_labels",
)
#: Not on Dask, of which more is declared than the generic code alone can do.
DECLARED = tuple(f"contract/test_capabilities.py::test_what_is_declared_is_what_happens[{{}}-{name}]" for name in CALLS)
TESTED_ON = {
    "numpy": DECLARED,
    "torch": (
        *DECLARED,
        "contract/test_devices.py::test_torch_fake_cuda_gives_shapes_and_dtypes",
        "contract/test_transforms.py::test_torch_gradcheck_of_the_dense_functions",
        "contract/test_transforms.py::test_torch_gradcheck_of_the_losses",
    ),
    "array_api_strict": (*DECLARED, "contract/test_devices.py::test_every_device_of_array_api_strict"),
    "jax": DECLARED,
    "dask": ("contract/test_transforms.py::test_dask_computes_nothing_early",),
    "cupy": (
        *DECLARED,
        "backends/cupy/test_launches.py::test_no_call_copies_to_the_host_or_waits",
    ),
}
#: Modules that hold nothing of the package and are slow to load again.
LASTING = ("arrays", "cupy_on_cpu")


class Recorder:
    """A pytest plugin that keeps the first failure."""

    def __init__(self) -> None:
        self.failed = ""
        self.passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.failed:
            self.failed = report.nodeid.split("::", 1)[1]
        self.passed += report.passed and report.when == "call"


def forget() -> None:
    """Take the package and the tests out of the process."""
    for name, module in list(sys.modules.items()):
        root = name.partition(".")[0]
        file = getattr(module, "__file__", None) or ""
        if root == "softgrad" or (file.startswith(str(TESTS)) and root not in LASTING and name != "__main__"):
            del sys.modules[name]


def run(backend: str, folder: Path) -> dict[str, object]:
    """What the tests say of the package in ``folder``."""
    forget()
    sys.path.insert(0, str(folder))
    recorder = Recorder()
    chosen = [str(TESTS / test.format(backend)) for test in (*TESTED, *TESTED_ON.get(backend, ()))]
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", f"--backend={backend}"]
    try:
        softgrad = importlib.import_module("softgrad")
        assert Path(softgrad.__file__).parent.parent == folder, softgrad.__file__
        with softgrad.backends.use("generic"):
            code = pytest.main([*options, *chosen], plugins=[recorder])
    finally:
        sys.path.remove(str(folder))
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return {"caught": True, "by": f"pytest ends with {code!r}", "passed": recorder.passed}
    return {"caught": code == pytest.ExitCode.TESTS_FAILED, "by": recorder.failed, "passed": recorder.passed}


def main() -> None:
    """Run what the command line names, results to the standard output, all else to nowhere."""
    backend, folder, *names = sys.argv[1:]
    sys.path.insert(0, str(TESTS))
    import arrays

    arrays.LOADERS[backend] = functools.cache(arrays.LOADERS[backend])
    with os.fdopen(os.dup(1), "w", buffering=1) as results, Path(os.devnull).open("w") as nowhere:
        for name in names:
            with contextlib.redirect_stdout(nowhere):
                outcome = run(backend, Path(folder) / name.replace("/", "-"))
            results.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    main()
