"""The command line: the identity on real data, on every library; and what it says when it cannot."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import softgrad
from softgrad import _cli, backends
from softgrad._cli import _files, _problem
from softgrad._cli._errors import UsageError
from softgrad._data import load_digits
from softgrad.testing import _libraries

AUTOGRAD = {"torch": "torch autograd", "jax": "jax.grad"}
GROUPS = {"loss", "columns", "product", "differences"}
FRAMEWORKS = [name for name in _libraries.LIBRARIES if name != "numpy"]


@pytest.fixture(autouse=True)
def _once(request):
    """What depends on no library is run with NumPy alone."""
    asked = ",".join(request.config.getoption("--backend")) or "numpy"
    if "backend" not in request.fixturenames and "numpy" not in asked.split(","):
        pytest.skip("needs no library but NumPy")


@pytest.fixture
def call(capsys):
    """``call(*words)``: (exit code, stdout, stderr) of the command run in this process."""

    def run(*words):
        try:
            code = _cli.main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def numpy_alone(monkeypatch):
    """Only NumPy can be found."""
    for name in FRAMEWORKS:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def plug_in(tmp_path, monkeypatch, usual_kernels):
    """``plug_in(source, *kernels)``: a back end for NumPy arrays with these functions of a module."""
    added = []

    def add(source, *kernels):
        name = f"plug_in_{len(added)}_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        backends.register(backends.Backend(name, ("numpy:ndarray",), {k: f"{name}:{k}" for k in kernels}, priority=100))
        added.append(name)
        return name

    yield add
    for name in added:
        backends.unregister(name)


@pytest.fixture
def fake_library(tmp_path, monkeypatch):
    """``fake_library(name, source)``: an array library of that name whose module holds ``source``."""

    def add(name, source):
        module = f"{name}_of_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        usual = _libraries.LIBRARIES["numpy"]
        library = _libraries.Library(name, module, usual.put, usual.get, usual.device)
        monkeypatch.setitem(_libraries.LIBRARIES, name, library)

    return add


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-m", "softgrad", *words],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=Path(__file__).parent,
        timeout=300,
        **options,
    )


def save(path, X, y):
    np.savez(path, X=X, y=y)
    return path


def samples(n=60, m=3, k=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, m)), np.arange(n) % k


# check, on the library under test


def test_check_finds_the_identity_on_the_digits(backend, library, call):
    code, out, err = call("check", "--backend", backend, "--json")
    report = json.loads(out)
    assert (code, err, report["agrees"], report["missing"]) == (0, "", True, [])
    assert report["data"]["samples"] == 1797
    assert report["data"]["attributes"] == 64
    assert report["data"]["classes"] == list("0123456789")
    assert [(r["back_end"], r["dtype"]) for r in report["results"]] == [
        (backend, "float64"),
        (backend, "float32"),
    ]
    for result in report["results"]:
        assert result["failure"] is None
        assert result["device"]
        assert {c["group"] for c in result["checks"]} == GROUPS | {
            AUTOGRAD[backend] for _ in range(backend in AUTOGRAD)
        }
        assert all(c["agrees"] and c["error"] <= c["tolerance"] for c in result["checks"])
        np.testing.assert_allclose(result["loss"], report["reference"]["loss"], rtol=1e-5)
        steps = {c["step"] for c in result["checks"] if c["group"] == "differences"}
        assert len(steps) >= 6


def test_check_holds_float64_to_one_part_in_a_million_million(backend, library, call):
    report = json.loads(call("check", "--backend", backend, "--json")[1])
    exact = [
        c for r in report["results"] for c in r["checks"] if r["dtype"] == "float64" and c["group"] != "differences"
    ]
    assert len(exact) >= 7
    assert max(c["tolerance"] for c in exact) <= 1e-12
    assert max(c["error"] for c in exact) <= 1e-13
    narrow = [
        c["tolerance"]
        for r in report["results"]
        for c in r["checks"]
        if r["dtype"] == "float32" and c["group"] != "differences"
    ]
    assert max(narrow) <= 1e-3


def test_check_as_a_program_prints_json_and_nothing_else(backend):
    done = command("check", "--backend", backend, "--json")
    report = json.loads(done.stdout)
    if backend == "cupy" and report["missing"]:
        assert done.returncode == 1
        assert report["missing"][0]["reason"].startswith("no usable device: ")
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert report["agrees"]
        assert report["seconds"] < 60


def test_check_prints_a_table_that_fits_a_terminal(backend, library, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call("check", "--backend", backend)
    assert (code, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= 80
    lines = [line.split() for line in out.splitlines()]
    (wide,) = [words for words in lines if "float64" in words and backend in words]
    (narrow,) = [words for words in lines if "float32" in words and backend not in words and ">" not in words][:1]
    columns = 4 + (backend in AUTOGRAD)
    assert len(wide) == 2 + columns
    assert all(0 <= float(word) < 1e-6 for word in wide[2:])
    assert narrow[-1 - columns] == "float32"
    assert f"holds on {backend};" in " ".join(out.split())


# check, on files


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_check_takes_data_from_a_file(backend, library, call, tmp_path, suffix):
    X, y = samples()
    path = tmp_path / f"data{suffix}"
    if suffix == ".npz":
        save(path, X, y)
    elif suffix == ".csv":
        rows = [f"{a},{b},{c},{label}" for (a, b, c), label in zip(X.tolist(), y.tolist(), strict=True)]
        path.write_text("\n".join(["a,b,c,kind", *rows]), encoding="utf-8")
    else:
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = dict(zip("abc", X.T, strict=True))
        parquet.write_table(pa.table({**columns, "kind": y}), path)
    code, out, err = call("check", "--backend", backend, "--data", path, "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert report["data"] == {
        "source": path.name,
        "samples": 60,
        "of_samples": 60,
        "attributes": 3,
        "classes": ["0", "1", "2"],
        "seed": 0,
    }
    # whatever the file, the same data is the same experiment
    expected = _problem.make_problem(X, y, seed=0, samples=0)
    assert report["reference"]["loss"] == expected.loss


@pytest.mark.parametrize(
    ("header", "words", "place"),
    [
        ("a,label,b", (), 1),
        ("Target,a,b", (), 0),
        ("a,b,c", (), 2),
        ("a,label,b", ("--label", "a"), 0),
        ("y,label,b", (), 1),
    ],
)
def test_the_column_of_labels(tmp_path, header, words, place):
    cells = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    path = tmp_path / "data.csv"
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in cells)]), encoding="utf-8")
    X, y, names = _files.read(path, words[1] if words else None)
    assert names == tuple(np.delete(header.split(","), place))
    np.testing.assert_array_equal(y, cells[:, place])
    np.testing.assert_array_equal(X, np.delete(cells, place, axis=1))


def test_labels_may_be_words_and_become_classes_in_their_order(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('a,kind\n1,"rose, red"\n2,iris\n\n3,iris\n', encoding="utf-8-sig")
    X, y, _ = _files.read(path)
    problem = _problem.make_problem(X, y, seed=0, samples=0)
    assert problem.class_names == ("iris", "rose, red")
    assert problem.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize("labels", [[1.0, 2.0, 1.0], [True, False, True], np.array([7, 250, 7], dtype="u1")])
def test_whole_numbers_and_booleans_are_classes(tmp_path, labels):
    X, y, _ = _files.read(save(tmp_path / "data.npz", np.ones((3, 2)), labels))
    problem = _problem.make_problem(X, y, seed=0, samples=0)
    assert problem.classes == 2
    assert problem.labels[0] == problem.labels[2] != problem.labels[1]


NPZ = {
    "a missing array": ({"X": np.ones((4, 2))}, "no array named y, it holds: X"),
    "X of one dimension": ({"X": np.ones(4), "y": [0, 1, 0, 1]}, "(n_samples, n_attributes), got (4,)"),
    "labels too few": ({"X": np.ones((4, 2)), "y": [0, 1]}, "shape (4,), got (2,)"),
    "one-hot labels": ({"X": np.ones((2, 2)), "y": np.eye(2)}, "shape (2,), got (2, 2)"),
    "fractions": ({"X": np.ones((3, 2)), "y": [0.5, 1, 2]}, "not classes: sample 0 (counted from 0) has 0.5"),
    "a NaN label": ({"X": np.ones((3, 2)), "y": [0, np.nan, 2]}, "sample 1 (counted from 0) has nan"),
    "one class": ({"X": np.ones((3, 2)), "y": [2, 2, 2]}, "one class only (2)"),
    "NaN in X": ({"X": [[1, 2], [3, np.nan]], "y": [0, 1]}, "attribute 1 holds nan in sample 1"),
    "infinity in X": ({"X": [[1, 2], [np.inf, 3]], "y": [0, 1]}, "attribute 0 holds inf in sample 1"),
    "no samples": ({"X": np.ones((0, 2)), "y": np.ones(0, dtype=int)}, "no samples"),
    "no attributes": ({"X": np.ones((3, 0)), "y": [0, 1, 0]}, "no attributes"),
    "complex X": ({"X": np.ones((2, 2), dtype=complex), "y": [0, 1]}, "got dtype complex128"),
    "words in X": ({"X": [["a"], ["b"]], "y": [0, 1]}, "X must hold real numbers"),
    "complex labels": ({"X": np.ones((2, 2)), "y": [1j, 2]}, "integers or strings, got dtype complex128"),
    "zeros": ({"X": np.zeros((2, 2)), "y": [0, 1]}, "every attribute is zero"),
    "a label for each": ({"X": np.ones((300, 2)), "y": np.arange(300)}, "300 different labels in 300 samples"),
    "objects": ({"X": np.ones((2, 2)), "y": np.array([0, {}], dtype=object)}, "cannot be read as .npz"),
}
CSV = {
    "an empty file": ("", "needs a header line"),
    "a header alone": ("a,label\n", "no samples"),
    "one column": ("label\n1\n2\n", "at least two columns"),
    "a word among numbers": ("a,b,label\n1,2,0\n1,two,1\n", "line 3: column 'b' holds 'two', not a number"),
    "an empty cell": ("a,b,label\n1,,0\n1,2,1\n", "line 2: column 'b' is empty"),
    "an empty label": ("a,label\n1,x\n2,\n", "label of sample 1 (counted from 0) is missing"),
    "a short line": ("a,b,label\n1,2,0\n1,1\n", "line 3 has 2 cells, the header has 3"),
    "NaN": ("a,b,label\n1,2,0\n1,nan,1\n", "column 'b' holds nan in sample 1"),
    "fractions": ("a,label\n1,0.25\n2,1\n", "not classes: sample 0 (counted from 0) has 0.25"),
    "one class": ("a,label\n1,x\n2,x\n", "one class only (x)"),
    "two of one name": ("a,a,label\n1,2,0\n", "two columns are named 'a'"),
    "bytes": (b"a,label\n\xff\xfe,1\n", "no text in UTF-8"),
    "a quote left open": ('a,label\n"1,0\n', "cannot be read as .csv"),
}


def refused(call, path, words, *more):
    code, out, err = call("check", "--backend", "numpy", "--data", path, *more)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith(f"softgrad: error: {path}: ")
    assert words in err


@pytest.mark.parametrize("case", NPZ)
def test_an_npz_that_cannot_be_used_is_refused_in_one_line(call, tmp_path, case):
    arrays, words = NPZ[case]
    path = tmp_path / "data.npz"
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    refused(call, path, words)


@pytest.mark.parametrize("case", CSV)
def test_a_csv_that_cannot_be_used_is_refused_in_one_line(call, tmp_path, case):
    text, words = CSV[case]
    path = tmp_path / "data.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(call, path, words)


def test_a_parquet_that_cannot_be_used_is_refused_in_one_line(call, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    path.write_bytes(b"nothing of the kind")
    refused(call, path, "cannot be read as .parquet")
    for table, words in (
        ({"a": [1.0, None], "label": [0, 1]}, "column 'a' has 1 missing values"),
        ({"a": [1.0, 2.0], "label": ["x", None]}, "column 'label' has 1 missing values"),
        ({"a": ["u", "v"], "label": [0, 1]}, "column 'a' holds string, not numbers"),
        ({"label": [0, 1]}, "at least two columns, it has: label"),
        ({"a": [1.0, float("nan")], "label": [0, 1]}, "column 'a' holds nan in sample 1"),
    ):
        parquet.write_table(pa.table(table), path)
        refused(call, path, words)


def test_parquet_without_pyarrow_says_what_to_install(call, tmp_path, monkeypatch):
    path = tmp_path / "data.parquet"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(call, path, 'pip install "softgrad[parquet]"')


def test_a_file_that_is_not_there_or_of_no_known_kind_is_refused(call, tmp_path):
    refused(call, tmp_path / "none.csv", "no such file")
    path = tmp_path / "data.xlsx"
    path.write_bytes(b"")
    refused(call, path, "ends in .npz, .csv, .parquet")
    (tmp_path / "folder.csv").mkdir()
    refused(call, tmp_path / "folder.csv", "Is a directory" if sys.platform != "win32" else "ermission")
    path = tmp_path / "data.npz"
    path.write_bytes(b"PK nothing of the kind")
    refused(call, path, "cannot be read as .npz")
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(path)
    refused(call, path, "holds one array")


def test_a_column_that_is_not_there_is_named_with_those_that_are(call, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b,label\n1,2,0\n", encoding="utf-8")
    refused(call, path, "no column named 'species', it has: a, b, label", "--label", "species")
    save(tmp_path / "data.npz", np.ones((2, 2)), [0, 1])
    refused(call, tmp_path / "data.npz", "no array named species", "--label", "species")
    code, out, err = call("check", "--label", "species")
    assert (code, out) == (2, "")
    assert "--label belongs to --data" in err


def test_reading_says_so_by_an_error_of_its_own(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        _files.read(tmp_path / "none.npz")


def test_a_bad_file_as_a_program_gives_no_traceback(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,label\nx,0\n", encoding="utf-8")
    done = command("check", "--backend", "numpy", "--data", str(path), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"softgrad: error: {path}: line 2: column 'a' holds 'x', not a number\n"


# check, where something is missing or wrong


def test_numpy_alone_is_enough_and_what_is_missing_is_told(call, numpy_alone):
    code, out, err = call("check")
    assert (code, err) == (0, "")
    for name in FRAMEWORKS:
        assert f"not run  {name}: not installed" in out
    assert "holds on numpy;" in " ".join(out.split())


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_library_asked_for_and_missing_is_a_failure(call, numpy_alone, name):
    code, out, _ = call("check", "--backend", name, "--backend", "numpy")
    assert code == 1
    assert f"missing  {name}: not installed" in out
    assert f"MISSING: {name}" in out
    code, out, _ = call("check", "--backend", name, "--json")
    report = json.loads(out)
    assert code == 1
    assert not report["agrees"]
    assert report["missing"] == [{"back_end": name, "reason": "not installed"}]


def test_a_library_whose_import_fails_is_told_with_its_words(call, numpy_alone, fake_library):
    fake_library("broken", "raise OSError('libgone.so: cannot open\\nshared object')")
    fake_library("deviceless", "def asarray(*a, **k): raise RuntimeError('no CUDA-capable device')\nfloat32 = 0")
    code, out, _ = call("check", "--json")
    reasons = {each["back_end"]: each["reason"] for each in json.loads(out)["missing"]}
    assert code == 0
    assert reasons["broken"] == "import fails: OSError: libgone.so: cannot open shared object"
    assert reasons["deviceless"] == "no usable device: RuntimeError: no CUDA-capable device"
    assert call("check", "--backend", "broken")[0] == 1


def test_an_unknown_library_is_wrong_use(call):
    code, out, err = call("check", "--backend", "nonesuch")
    assert (code, out) == (2, "")
    assert "nonesuch" in err
    assert "array_api_strict" in err


OFF = """
from softgrad._kernels.linear import linear_cross_entropy_value_and_grad as right

def linear_cross_entropy_value_and_grad(*args):
    value, gradients = right(*args)
    return value, tuple(each * (1 + {off}) for each in gradients)
"""
OFF_VALUE = """
from softgrad._kernels.linear import linear_cross_entropy as right

def linear_cross_entropy(*args):
    return right(*args) * {factor}
"""


def disagreeing(out):
    return {(r["dtype"], c["group"]) for r in json.loads(out)["results"] for c in r["checks"] if not c["agrees"]}


def test_a_gradient_that_is_off_is_found(call, plug_in):
    plug_in(OFF.format(off=1e-11), "linear_cross_entropy_value_and_grad")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert not json.loads(out)["agrees"]
    assert disagreeing(out) >= {("float64", "product")}
    assert {dtype for dtype, _ in disagreeing(out)} == {"float64"}


def test_a_gradient_that_is_far_off_is_found_by_finite_differences_too(call, plug_in):
    plug_in(OFF.format(off=0.05), "linear_cross_entropy_value_and_grad")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert disagreeing(out) >= {(d, g) for d in ("float64", "float32") for g in ("product", "differences")}
    code, out, _ = call("check", "--backend", "numpy")
    assert code == 1
    assert "DISAGREES on numpy" in out
    assert ">" in out


def test_a_loss_that_is_off_is_found_by_finite_differences(call, plug_in):
    plug_in(OFF_VALUE.format(factor="1.001"), "linear_cross_entropy")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert disagreeing(out) == {("float64", "differences")}


@pytest.mark.parametrize("factor", ["float('nan')", "float('inf')"])
def test_a_loss_that_is_no_number_never_agrees(call, plug_in, factor):
    plug_in(OFF_VALUE.format(factor=factor), "linear_cross_entropy")
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    wrong = [c for r in json.loads(out)["results"] for c in r["checks"] if c["group"] == "differences"]
    assert not any(c["agrees"] for c in wrong)
    assert all(c["error"] is None for c in wrong)
    assert call("check", "--backend", "numpy")[0] == 1


def test_a_kernel_that_raises_is_a_line_and_a_failure(call, plug_in):
    plug_in("def linear_cross_entropy(*args):\n    raise ValueError('no such\\nthing')", "linear_cross_entropy")
    code, out, err = call("check", "--backend", "numpy")
    assert (code, err) == (1, "")
    assert "failed   numpy, float64: ValueError: no such thing" in out
    code, out, _ = call("check", "--backend", "numpy", "--json")
    assert code == 1
    assert {r["failure"] for r in json.loads(out)["results"]} == {"ValueError: no such thing"}


# the experiment


def test_samples_are_drawn_with_the_seed(call):
    words = ("check", "--backend", "numpy", "--json", "--samples", 100)
    first, again, other = (json.loads(call(*words, "--seed", seed)[1]) for seed in (1, 1, 2))
    assert first["data"]["samples"] == 100
    assert first["data"]["of_samples"] == 1797
    assert first["reference"] == again["reference"] != other["reference"]
    assert "100 samples (drawn from 1,797 with seed 1)" in call(*words[:3], "--samples", 100, "--seed", 1)[1]
    assert json.loads(call(*words[:-1], 0)[1])["data"]["samples"] == 1797
    assert call("check", "--samples", -1)[0] == 2


def test_the_slipped_formula_is_told_apart(call):
    report = json.loads(call("check", "--backend", "numpy", "--json")[1])
    assert report["slipped_formula"]["error"] > 1
    X, y = load_digits()
    problem = _problem.make_problem(X, y, seed=0, samples=0)
    lost = problem.X @ (problem.S - problem.Y.sum(axis=0)).T
    np.testing.assert_allclose(problem.slipped_gradient, lost, rtol=1e-12)


def problems():
    X, y = load_digits()
    yield _problem.make_problem(X, y, seed=0, samples=0)
    rng = np.random.default_rng(5)
    yield _problem.make_problem(rng.normal(size=(50, 2)) * [1e-9, 1e12], rng.integers(3, size=50), seed=3, samples=0)
    yield _problem.make_problem(rng.normal(size=(400, 300)), rng.integers(40, size=400), seed=4, samples=200)


@pytest.mark.parametrize("problem", list(problems()), ids=["digits", "scales", "wide"])
def test_all_dtypes_are_given_the_same_problem(problem):
    for array in (problem.X, problem.W):
        np.testing.assert_array_equal(array, array.astype(np.float32))
    assert np.abs(problem.X).max() <= 1
    for probe in problem.probes:
        for step in _problem.STEPS:
            for h in (step, -step):
                shifted = problem.W + h * probe.direction
                np.testing.assert_array_equal(shifted, shifted.astype(np.float32))
                np.testing.assert_array_equal(shifted - problem.W, h * probe.direction)


@pytest.mark.parametrize("problem", list(problems()), ids=["digits", "scales", "wide"])
def test_truncation_is_bounded_by_the_third_cumulant(problem):
    for probe in problem.probes:
        along = probe.direction.T @ problem.X
        for h in (-0.25, 0.0, 0.25):
            logits = (problem.W + h * probe.direction).T @ problem.X
            p = np.exp(logits - logits.max(axis=0))
            p /= p.sum(axis=0)
            central = along - (p * along).sum(axis=0)
            assert abs((p * central**3).sum()) <= probe.third * (1 + 1e-12)


# plot


def test_the_plot_shows_every_library_and_every_class(call, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "check.svg"
    code, out, _ = call("check", "--backend", "numpy", "--backend", "array_api_strict", "--plot", path)
    drawing = path.read_text(encoding="utf-8")
    ran = [name for name in ("numpy", "array_api_strict") if f"missing  {name}" not in out]
    assert code == (0 if len(ran) == 2 else 1)
    classes = [f"<!-- {digit} -->" for digit in range(10)]
    for words in (*ran, *classes, "float64", "float32", "step h", "one image a class, 8 × 8"):
        assert words in drawing
    assert drawing.count("<image") == 11  # ten classes, and the colour bar


@pytest.mark.parametrize(("m", "k"), [(3, 2), (9, 3), (64, 30), (1, 2)])
def test_the_plot_is_drawn_for_any_number_of_attributes_and_classes(call, tmp_path, m, k):
    image = pytest.importorskip("matplotlib.image")
    data = save(tmp_path / "data.npz", *samples(90, m, k))
    path = tmp_path / "check.png"
    assert call("check", "--backend", "numpy", "--data", data, "--plot", path, "--json")[0] == 0
    pixels = image.imread(path)
    assert min(pixels.shape[:2]) > 600
    assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 50


def test_a_plot_that_cannot_be_made_is_refused_before_the_work(call, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    for path, words in (
        (tmp_path / "check.docx", "expected a file that ends in one of"),
        (tmp_path / "none" / "check.png", "no folder"),
    ):
        code, out, err = call("check", "--backend", "numpy", "--plot", path)
        assert (code, out) == (2, "")
        assert words in err
    (tmp_path / "taken.png").mkdir()
    code, _, err = call("check", "--backend", "numpy", "--plot", tmp_path / "taken.png")
    assert code == 2
    assert len(err.splitlines()) == 1


def test_a_plot_without_matplotlib_says_what_to_install(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    code, out, err = call("check", "--backend", "numpy", "--plot", tmp_path / "check.png")
    assert (code, out) == (2, "")
    assert 'pip install "softgrad[plot]"' in err


# info and the rest


def test_info_tells_what_runs_on_the_library_under_test(backend, library, call):
    code, out, err = call("info", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["softgrad"] == softgrad.__version__
    (mine,) = [each for each in found["libraries"] if each["name"] == backend]
    assert mine["available"]
    assert mine["version"]
    assert mine["device"]
    known = {each["name"] for each in found["back_ends"]} | {"generic"}
    assert known == set(backends.available()) | {"generic"}
    assert set(mine["runs"]) >= {"softmax", "cross_entropy_value_and_grad", "linear_cross_entropy_hvp"}
    assert {told["back_end"] for told in mine["runs"].values()} <= known
    code, out, _ = call("info")
    assert code == 0
    assert mine["version"] in out


def test_info_shows_a_back_end_that_was_registered(call, plug_in):
    name = plug_in("def softmax_vjp(*args): ...", "softmax_vjp")
    found = json.loads(call("info", "--json")[1])
    runs = {each["name"]: each["runs"] for each in found["libraries"] if each["available"]}["numpy"]
    assert runs["softmax_vjp"]["back_end"] == name
    assert runs["softmax_jvp"]["back_end"] != name
    assert name in call("info")[1].replace("\n", "")


def test_info_names_what_is_missing(call, numpy_alone):
    code, out, _ = call("info")
    assert code == 0
    for name in FRAMEWORKS:
        assert f"not there  {name}: not installed" in out


def test_version_and_help(call):
    assert call("--version") == (0, f"softgrad {softgrad.__version__}\n", "")
    code, out, _ = call("--help")
    assert code == 0
    assert "check" in out
    assert "info" in out
    for words in ((), ("nonesuch",)):
        code, out, err = call(*words)
        assert (code, out) == (2, "")
        assert "usage" in err


def test_a_terminal_without_the_signs_is_served_too():
    done = command("check", "--backend", "numpy", env={"PYTHONIOENCODING": "ascii", "PATH": ""})
    assert done.returncode == 0
    assert "holds on numpy" in " ".join(done.stdout.split())
