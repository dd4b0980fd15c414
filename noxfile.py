"""The test matrix: ``python -m nox``; one back end of it: ``nox -s "tests(torch)" -- -k softmax``."""

from __future__ import annotations

import itertools
import os
import runpy
import shutil
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import nox

nox.needs_version = ">=2026.8"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
# the longest first
nox.options.sessions = ["gpu_static", "tests", "docs", "release", "types", "plugin", "lint", "summary"]
# of the whole matrix two sessions run at once, each on half the cores: much of what they do keeps one core busy
if set(sys.argv[1:]) <= {"-R"}:
    nox.options.parallel, nox.options.allow_parallel = 2, True

# else each of the hundreds of processes that tests start would compile PyTorch, SciPy and the tests anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# uv does not read pip's variable, and without it takes PyTorch's CUDA build where pip finds a CPU wheel
if "PIP_FIND_LINKS" in os.environ:
    os.environ.setdefault("UV_FIND_LINKS", os.environ["PIP_FIND_LINKS"])

#: What is run beside the default matrix before a release.
BEFORE_RELEASE = ("coverage", "minimums", "python", "vendor", "downstream", "typing", "peers", "others", "mutants")
BEFORE_RELEASE += ("kernels", "accuracy", "same_bits", "fuzz")
#: In the environment of nox: the tests sessions run the tests marked full too, and measure coverage.
FULL = "SOFTGRAD_FULL"
EXTENT = ("--full",) if FULL in os.environ else ()
# of sessions at once each has a process of its own
STARTED = float(os.environ.setdefault("SOFTGRAD_STARTED", str(time.time())))
REPORTS = Path("build/reports")
COVERAGE = Path("build/coverage")
PROJECT = nox.project.load_toml("pyproject.toml")
# nox has an environment of its own, without the package: the file needs the standard library alone
LIBRARIES = runpy.run_path("src/softgrad/_array/libraries/__init__.py")
BACKENDS, OTHERS = tuple(LIBRARIES["MATRIX"]), tuple(LIBRARIES["OTHERS"])
# what holds numbers to their digits is compiled on JAX as users have it, and all of it before a release; else XLA's
# optimizers, off, would take three quarters of the time
NUMBERS = ["tests/contract/test_accuracy.py", "tests/contract/test_compiled_scalings.py"]
NUMBERS += ["tests/backends/jax/test_kernels.py"]
QUICKLY = " ".join(
    [
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
        "--xla_cpu_parallel_codegen_split_count=1",
    ]
)
KERNELS = [
    nox.param(*pair, id="-".join(pair))
    for pair in (
        ("numpy", "generic"),
        ("numpy", "numpy"),
        ("torch", "generic"),
        ("torch", "torch"),
        ("jax", "generic"),
        ("cupy", "generic"),
        # not Dask: its operations warn and refuse what is empty, which its own kernels are there to mend
    )
]
MATRIX = [
    nox.param(name, id=name, tags=["gpu" if name == "cupy" else "cpu"])
    for name in sorted(BACKENDS, key=lambda name: name not in ("jax", "torch"))
]


def install(session: nox.Session, *groups: str, package: str = "", pins: str = "constraints.txt") -> None:
    """Install dependency groups, and the package: "-e ." links the sources, "." is what users get."""
    requirements = nox.project.dependency_groups(PROJECT, *groups)
    # pip would compile every module of every dependency, which takes longer than the tests that import a few of them
    lazily = () if session.venv_backend == "uv" else ("--no-compile",)
    session.install(*lazily, "-c", pins, *package.split(), *requirements)


def spread(session: nox.Session, how: str = "worksteal") -> tuple[str, ...]:
    """Give tests to a process for each core; worksteal, as some compile for long."""
    cores = min(os.cpu_count() or 1, 4) // (2 if session.parallel else 1)
    return ("-n", str(cores), f"--dist={how}") if cores > 1 else ()


def compile_quickly(session: nox.Session) -> None:
    """Leave XLA's optimizers out of what JAX compiles from here on."""
    session.env["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICKLY}"


def run_pytest(session: nox.Session, backend: str, *args: str) -> None:
    """Run the suite on one back end; what follows ``--`` on nox's command line goes to pytest."""
    cache = Path(session.cache_dir).resolve() / "jax"
    session.env["SOFTGRAD_JAX_CACHE"] = str(cache)
    session.run("python", "-m", "pytest", f"--backend={backend}", *EXTENT, *spread(session), *args, *session.posargs)
    # the next run gives the tests to other workers: each gets what any of them has compiled
    for program, folder in itertools.product(cache.glob("*/*"), cache.glob("*")):
        if not (folder / program.name).exists():
            os.link(program, folder / program.name)


@nox.session
@nox.parametrize("backend", MATRIX)
def tests(session: nox.Session, backend: str) -> None:
    """Run the whole suite on one array library; a library that is missing fails."""
    data = COVERAGE / f"data.{backend}"
    for old in (*reports(backend), data):
        old.unlink(missing_ok=True)
    install(session, "test", backend, package="-e .")
    # of a program that a test starts elsewhere too
    session.env["COVERAGE_FILE"] = str(data.resolve())
    session.env["SOFTGRAD_REQUIRED"] = "numba"  # of what is optional, the tests of numpy are not to skip this
    # the cores are taken by pytest's workers, and by the other session; of our own threads NumPy's are tested
    session.env["OPENBLAS_NUM_THREADS" if backend == "numpy" else "OMP_NUM_THREADS"] = "1"
    # PyTorch's compiler would first compile headers, for longer than it takes to read them in a dozen programs
    session.env["TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS"] = "0"
    options = ("--cov=softgrad", "--cov-report=", "--cov-append") if FULL in os.environ else ()
    if backend == "jax" and not (session.posargs or FULL in os.environ):
        run_pytest(session, backend, f"--junit-xml={REPORTS}/jax.numbers.xml", *NUMBERS)
        compile_quickly(session)
        options = tuple(f"--ignore={path}" for path in NUMBERS)
    run_pytest(session, backend, f"--junit-xml={REPORTS}/{backend}.xml", *options)
    if backend == "numpy" and not session.posargs:
        # back ends of libraries that are not in this environment cannot be imported
        doctest = ("--doctest-modules", "--doctest-ignore-import-errors", "--pyargs", "softgrad")
        session.run("python", "-m", "pytest", *doctest)


@nox.session(python=False)
def full(session: nox.Session) -> None:
    """Run everything, as before a release: the default matrix with all tests and coverage, and all other sessions."""
    everything = (*nox.options.sessions, *BEFORE_RELEASE)
    session.run(sys.executable, "-m", "nox", "-s", *everything, *session.posargs, env={FULL: "1"})


@nox.session
def quick(session: nox.Session) -> None:
    """Check the style, and the contract on NumPy and PyTorch: what to run at every save, within a minute."""
    install(session, "test", "torch", "lint", package="-e .")
    session.run("ruff", "check", ".", silent=True)
    names = ("test_architecture", "test_cross_entropy*", "contract/test_arguments", "backends/test_registry")
    names += ("linear/test_model", "linear/test_hessian")
    chosen = [str(path) for name in names for path in Path("tests").glob(f"{name}.py")]
    session.run("python", "-m", "pytest", "-q", "--backend=numpy,torch", *spread(session), *(session.posargs or chosen))


@nox.session
@nox.parametrize("backend,chosen", KERNELS)
def kernels(session: nox.Session, backend: str, chosen: str) -> None:
    """Run the suite on one set of kernels alone: each has to keep what is promised of whichever is chosen."""
    install(session, "test", backend, package="-e .")
    compile_quickly(session)
    run_pytest(session, backend, f"--kernels={chosen}")


@nox.session
def gpu_static(session: nox.Session) -> None:
    """Compile the code for GPUs as their compilers have it, with no GPU: what is refused, spills or is slow fails."""
    install(session, "test", "torch", "jax", "cupy", "gpu_static", package="-e .")
    static = ("-c", "tests/gpu_static/pytest.ini", "tests/gpu_static")
    # a file to a worker: what is made for all tests of one takes long
    session.run("python", "-m", "pytest", *spread(session, "loadfile"), *static, *session.posargs)
    suite = ["tests/backends/triton", "tests/test_softmax.py", *map(str, Path("tests").glob("test_cross_entropy*.py"))]
    # long, and of no other kernel than the rest: a million classes, thousands of rows, every dtype of labels
    chosen = "not loses_no_digits and not lifts_above_a_half and not every_integer_dtype"
    interpreted = ("--backend=torch", "--kernels=triton", "-k", chosen, *EXTENT, *spread(session), *suite)
    session.run("python", "-m", "pytest", *interpreted, env={"TRITON_INTERPRET": "1"})


@nox.session(python=False)
def gpu(session: nox.Session) -> None:
    """On a machine with a GPU, in the environment that nox runs in: the contract, digits and times there."""
    session.run("python", "tools/gpu.py", *session.posargs, env={"PYTHONPATH": "src"})


@nox.session(python=["3.12", "3.13", "3.14"])
def python(session: nox.Session) -> None:
    """Run the suite on NumPy under the other Pythons, from the wheel; a Python that is missing is skipped."""
    install(session, "test", "tables", package=".")
    run_pytest(session, "numpy")


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in ("numpy", "array_api_strict", "jax")])
def minimums(session: nox.Session, backend: str) -> None:
    """Run the suite on the lowest versions that pyproject.toml allows."""
    install(session, "test", backend, package=".", pins="constraints-min.txt")
    run_pytest(session, backend)


@nox.session
def plugin(session: nox.Session) -> None:
    """Install the example of a back end of another package, and run its tests."""
    install(session, "plugin", package="-e . -e ./examples/softgrad-plugin")
    session.run("python", "-m", "pytest", "examples/softgrad-plugin/tests", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the style of every Python file."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types of the package."""
    install(session, "types", package="-e .")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, run its examples, look at it in a browser."""
    install(session, "docs", "test", "torch", "jax", "dask", package="-e .")
    # the examples are small: threads would only wait for each other
    session.env.update(SOFTGRAD_DOCS="build/docs", OMP_NUM_THREADS="1")
    session.run("sphinx-build", "-W", "--keep-going", "--fresh-env", "-q", "-b", "html", "docs", "build/docs")
    # hypothesis' plugin breaks on the failures that sybil reports; the last pages compile, and have their own session
    options = ("-p", "no:hypothesispytest", "--ignore-glob=docs/howto/downstream-*", *spread(session, "loadfile"))
    session.run("python", "-m", "pytest", *options, "docs", "tests/test_docs.py", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Combine what the tests sessions measured; the kernels have to be covered whole."""
    missing = [name for name in BACKENDS if not (COVERAGE / f"data.{name}").exists()]
    if missing:
        session.error(f"no coverage of {', '.join(missing)} yet: run {FULL}=1 nox -s tests")
    session.install("-c", "constraints.txt", "coverage")
    session.env["COVERAGE_FILE"] = str(COVERAGE / "combined")
    session.run("coverage", "combine", "--keep", *(str(COVERAGE / f"data.{name}") for name in BACKENDS))
    session.run("coverage", "report", "--fail-under=97")
    session.run("coverage", "report", "--include=*/_kernels/*.py", "--fail-under=100")


@nox.session(python=False, allow_parallel=False)
def summary(session: nox.Session) -> None:
    """Print one table of tests by back end, from the reports that the tests sessions left."""
    columns = {name: Report(paths) for name in BACKENDS if (paths := reports(name))}
    if not columns:
        session.error("there is no report yet: run nox -s tests")
    modules = sorted({module for report in columns.values() for module in report.modules})
    rows = [["", *columns]]
    rows += [[name, *(cell(report.modules.get(name)) for report in columns.values())] for name in modules]
    rows += [["all", *(cell(report.total) for report in columns.values())]]
    rows += [["seconds", *(f"{report.seconds:.0f}" for report in columns.values())]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip())
    print("\ncells: passed, F failed, s skipped, x failed as expected")
    for name, report in columns.items():
        if report.written < STARTED:
            print(f"{name}: from an earlier run")
        for reason, count in report.skips.most_common():
            print(f"{name}: {count} skipped: {reason}")
    for name in BACKENDS:
        if name not in columns:
            print(f"{name}: no report")
    total = sum((report.total for report in columns.values()), Counter())
    passed = total["passed"] + total["xfailed"]
    print(f"\n{passed} passed, {total['failed']} failed, {total['skipped']} skipped")


def reports(backend: str) -> list[Path]:
    """The JUnit files that the tests of one array library left."""
    return sorted(REPORTS.glob(f"{backend}.*xml"))


class Report:
    """What JUnit files tell: outcomes by test module, reasons of skips, seconds."""

    def __init__(self, paths: list[Path]) -> None:
        self.written = min(path.stat().st_mtime for path in paths)
        self.modules: dict[str, Counter[str]] = {}
        self.skips: Counter[str] = Counter()
        suites = [suite for path in paths for suite in ET.parse(path).getroot().iter("testsuite")]
        self.seconds = sum(float(suite.get("time", 0)) for suite in suites)
        for case in (case for suite in suites for case in suite.iter("testcase")):
            parts = [part for part in case.get("classname", "").split(".") if not part.startswith("Test")]
            self.modules.setdefault(".".join(parts), Counter())[self.outcome(case)] += 1

    def outcome(self, case: ET.Element) -> str:
        """One of passed, failed, skipped and xfailed; the reason of a skip is counted."""
        if case.find("failure") is not None or case.find("error") is not None:
            return "failed"
        skip = case.find("skipped")
        if skip is None:
            return "passed"
        if skip.get("type") == "pytest.xfail":
            return "xfailed"
        self.skips[skip.get("message", "")] += 1
        return "skipped"

    @property
    def total(self) -> Counter[str]:
        """Outcomes of the whole run."""
        return sum(self.modules.values(), Counter())


def cell(outcomes: Counter[str] | None) -> str:
    """One cell of the table: "118 2s"."""
    if outcomes is None:
        return "-"
    marks = {"failed": "F", "skipped": "s", "xfailed": "x"}
    rest = [f"{outcomes[key]}{mark}" for key, mark in marks.items() if outcomes[key]]
    return " ".join([str(outcomes["passed"]), *rest])


@nox.session
def accuracy(session: nox.Session) -> None:
    """Compare every library and the peers with mpmath; fails where a bound of docs/accuracy.md is broken."""
    install(session, "test", *BACKENDS, package="-e .")
    session.install("-c", "constraints.txt", "optax")
    session.env["PYTHONPATH"] = "tools"
    session.run("python", "-m", "accuracy", "--libraries", ",".join(BACKENDS), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed against the peers, on an idle machine: a quarter of an hour; the numbers of docs/performance.md."""
    install(session, "numpy", "torch", "jax", "downstream", package=".[sklearn,plot]")
    cores = str(os.cpu_count() or 1)
    options = [f"--group={name}" for name in ("dense", "tiny", "linear")]
    options += ["--dtype=float32", "--dtype=float64", "--threads=1", *([f"--threads={cores}"] if cores != "1" else [])]
    options += ["--memory", "--json=build/performance.json", "--plot=build/performance.png"]
    Path("build").mkdir(exist_ok=True)
    session.run("python", "-m", "softgrad", "bench", *(session.posargs or options))


@nox.session
def same_bits(session: nox.Session) -> None:
    """Compare the bits of rows in every company, with numba and without, and of libraries; fails where one differs."""
    install(session, "test", *BACKENDS, package="-e .")
    session.env["PYTHONPATH"] = os.pathsep.join(("tests", "tools"))
    rows = ("python", "tests/same_bits.py", *session.posargs, "--libraries")
    session.run(*rows, "numpy,torch,dask", env={"SOFTGRAD_NUMBA": "1"})
    session.run(*rows, "numpy,torch,dask,array_api_strict,jax", env={"SOFTGRAD_NUMBA": "0"})
    # emulated, by a thread for each element
    session.run(*rows, "cupy", "--largest", "1000", "--classes", "3,10,33,257", "--dtypes", "float32,float16")
    program = ("python", "tests/same_bits_libraries.py", *session.posargs, "--libraries")
    session.run(*program, "generic,torch,torch generic,array_api_strict,dask")
    session.run(*program, "jax,jax in 32 bits")
    session.run(*program, "cupy", "--values", "5e4", "--at-a-time", "800", "--dtypes", "float32,float16")


@nox.session
def fuzz(session: nox.Session) -> None:
    """Call with random arguments, compare with slow formulas: ``nox -s fuzz -- --calls 1000000``."""
    install(session, "test", "torch", package="-e .")
    session.env["PYTHONPATH"] = "tests"
    session.run("python", "-m", "fuzz", *session.posargs)


@nox.session
@nox.parametrize("backend", [nox.param(name, id=name) for name in ("numpy", "array_api_strict", "torch")])
def vendor(session: nox.Session, backend: str) -> None:
    """Copy the package into a made-up library, under another name, and run the contract and the suite there."""
    install(session, "test", backend, package="-e .")
    session.run("python", "tools/vendor.py", str(Path(session.create_tmp()) / "vendored"), backend)


@nox.session
def downstream(session: nox.Session) -> None:
    """Run scikit-learn's tests of its loss on ours, and the pages that put it into other people's programs."""
    install(session, "test", "downstream", "torch", "jax", "dask", package="-e .")
    session.env.update(SCIPY_ARRAY_API="1", PYTHONPATH="tests/peers")
    ini = ("-c", "tests/peers/pytest.ini", "-q", "-p", "sklearn_losses")
    suites = ("sklearn._loss.tests.test_loss", "sklearn.linear_model.tests.test_linear_loss")
    session.run("python", "-m", "pytest", *ini, "--pyargs", *suites)
    pages = sorted(str(path) for path in Path("docs/howto").glob("downstream-*.md"))
    # hypothesis' plugin breaks on the failures that sybil reports
    session.run("python", "-m", "pytest", "-p", "no:hypothesispytest", "-q", *pages, *session.posargs)


@nox.session
def typing(session: nox.Session) -> None:
    """Check with mypy and pyright that the array type that goes in comes out."""
    install(session, "typing", "torch", "jax", "test", package="-e .")
    session.run("python", "tests/typing/check.py")


@nox.session
def release(session: nox.Session) -> None:
    """Build what a release consists of, look into it (``-- --final``: the changelog too), try the wheel."""
    out = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(out, ignore_errors=True)
    install(session, "release")
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(out), silent=True)
    session.run("twine", "check", "--strict", *map(str, sorted(out.iterdir())))
    session.run("python", "tools/release.py", str(out), *session.posargs)
    (built,) = out.glob("*.whl")
    # not session.install, which -R leaves out
    session.run("python", "-m", "pip", "uninstall", "-q", "--yes", "softgrad")
    session.run("python", "-m", "pip", "install", "-q", "-c", "constraints.txt", str(built))
    session.chdir(session.create_tmp())
    session.run("python", "-c", "from softgrad.testing import check_backend; check_backend('numpy')")
    session.run("python", "-m", "softgrad", "check", "--backend", "numpy")


@nox.session
def others(session: nox.Session) -> None:
    """Hold the array libraries outside the matrix to what is declared of them: ONNX graphs, and a refusal of sparse."""
    install(session, "test", *OTHERS, package="-e .")
    chosen = f"--backend={','.join(OTHERS)}"
    session.run("python", "-m", "pytest", "tests/contract/test_capabilities.py", chosen, *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Inject portability bugs into the generic code: each has to be noticed on some array library of the matrix."""
    install(session, "test", *BACKENDS, package="-e .")
    compile_quickly(session)
    session.run("python", "tests/mutants", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Run the tests of SciPy, torch, optax and scikit-learn on softgrad; each difference is listed with its reason."""
    install(session, "test", "torch", "jax", "array_api_strict", "downstream", package="-e .")
    session.install("-c", "constraints.txt", "expecttest")
    session.env.update(PYTHONPATH="tests/peers", OMP_NUM_THREADS="1")
    pytest = ("python", "-m", "pytest", "-c", "tests/peers/pytest.ini", "-q")
    scipy = {"SCIPY_ARRAY_API": '["numpy", "torch", "array_api_strict", "jax.numpy"]'}
    session.run(*pytest, "-p", "scipy_special", "--pyargs", "scipy.special.tests.test_logsumexp", env=scipy)
    session.run(*pytest, "-p", "torch_samples", "tests/peers/torch_samples.py")
    session.run(*pytest, "-p", "optax_losses", "--pyargs", "optax.losses._classification_test")
    suites = ("_loss.tests.test_loss", "linear_model.tests.test_linear_loss", "linear_model.tests.test_logistic")
    chosen = ("-k", "(ultinomial or test_logistic) and not cupy")
    modules = (f"sklearn.{suite}" for suite in suites)
    session.run(*pytest, "-p", "sklearn_losses", *chosen, "--pyargs", *modules, env={"SCIPY_ARRAY_API": "1"})
