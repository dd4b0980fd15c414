"""The program: exit codes, closed pipes, full disks, interrupts, names that steer terminals; never a traceback."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import softgrad
from marks import full
from softgrad import _cli
from softgrad.testing import _libraries

NUMPY = ("check", "--backend", "numpy", "--samples", "50")
CHECK = " ".join(NUMPY)
FRAMEWORKS = [name for name in _libraries.LIBRARIES if name != "numpy"]
posix = pytest.mark.skipif(os.name == "nt", reason="of POSIX systems")
HOSTILE = "\x1b[31m[draft]\x1b]0;owned\x07\r\u202e$x$\nsoftgrad: error: forged"


def shell(line, unbuffered=False):
    """Run a line of bash, in which ``softgrad`` is the program."""
    line = f'softgrad() {{ "{sys.executable}" -m softgrad "$@"; }}; {line}'
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
    return subprocess.run(
        ["bash", "-c", line],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        env=environment,
        cwd=Path(__file__).parent,
    )


def test_version_and_help(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert call("--version") == (0, f"softgrad {softgrad.__version__}\n", "")
    for words in ((), ("check",), ("info",), ("bench",), ("warmup",)):
        code, out, err = call(*words, "--help")
        assert (code, err) == (0, "")
        assert out.isascii()
        assert max(map(len, out.splitlines())) < 80
        # a line is short only before an option, or where a paragraph ends
        assert all(word in out for word in words)
    assert "Exit code: 0" in call("check", "--help")[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "required: {check,info,bench,warmup}"),
        (("nonesuch",), "nonesuch"),
        (("check", "--samples", "abc"), "--samples: expected a whole number, 0 or more, got 'abc'"),
        (("check", "--samples", "-1"), "--samples: expected a whole number, 0 or more, got '-1'"),
        (("check", "--samples", "1_0"), "got '1_0'"),
        (("check", "--samples", "٣"), "--samples: expected a whole number"),
        (("check", "--seed", "9" * 5000), "--seed: expected a whole number"),
        (("check", "--backend", "nonesuch"), "--backend: expected one of numpy, torch"),
        (("check", "--backend", HOSTILE), "--backend: expected one of numpy, torch"),
        (("check", HOSTILE), "unrecognized arguments: "),
        (("bench", "--threads", "0"), "--threads: expected a whole number, 1 or more, got '0'"),
        (("bench", "--rounds", "x"), "--rounds: expected a whole number"),
        (("check", "--label", "species"), "--label and --header belong to --data"),
        (("check", "--no-header"), "--label and --header belong to --data"),
    ],
)
def test_wrong_use_is_told_in_words(call, words, expected):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert expected in err
    assert all(line.isprintable() for line in err.splitlines())
    assert "\nsoftgrad: error: forged" not in err


@pytest.mark.parametrize("words", ["check --help", *full(CHECK, f"{CHECK} --json")])
@pytest.mark.parametrize("unbuffered", [False, *full(True)])
@posix
def test_a_closed_pipe_ends_the_program_quietly(words, unbuffered):
    done = shell(f"softgrad {words} | true; exit ${{PIPESTATUS[0]}}", unbuffered)
    assert (done.returncode, done.stderr) == (141, "")


@posix
def test_a_pipe_that_is_closed_amid_the_output_is_no_error():
    done = shell(f"softgrad {CHECK} --json | head -c 20")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", '{\n  "softgrad": "0.1')


@pytest.mark.parametrize("words", [f"{CHECK} --json", *full(CHECK, "--version")])
@pytest.mark.parametrize("unbuffered", [False, *full(True)])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(words, unbuffered):
    done = shell(f"softgrad {words} > /dev/full", unbuffered)
    assert (done.returncode, done.stderr) == (2, "softgrad: error: the output: No space left on device\n")
    assert shell(f"softgrad {words} > /dev/full 2> /dev/full", unbuffered).returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_error_that_cannot_be_told_is_an_exit_code():
    assert shell("softgrad check --data none.csv 2> /dev/full").returncode == 2


@pytest.mark.full
@posix
def test_closed_streams_leave_the_exit_code():
    assert shell(f"softgrad {CHECK} >&-").returncode == 0
    assert shell(f"softgrad {CHECK} --json >&- 2>&-").returncode == 0
    done = shell("softgrad check --data none.csv 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


STARTED = {
    "check": """
real = cli.check.run_all
cli.check.run_all = lambda *args: print("started", flush=True) or [real(*args) for _ in range(1000)]
""",
    "bench": """
real = cli.bench.json.loads
cli.bench.json.loads = lambda text: print("started", flush=True) or real(text)
""",
}


@posix
@pytest.mark.parametrize("words", [NUMPY, ("bench", "--group", "tiny")], ids=STARTED)
def test_an_interrupt_is_one_line(words):
    # what is started in the background of a shell ignores interrupts
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}\nimport sys\nimport softgrad._cli as cli\n{STARTED[words[0]]}\nsys.exit(cli.main({list(words)}))"
    command = [sys.executable, "-c", code]
    # the interrupt goes to the whole group, as from a keyboard
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen(command, **options) as program:
        assert program.stdout.readline() == "started\n"
        os.killpg(program.pid, signal.SIGINT)
        _, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (130, "softgrad: error: interrupted\n")


def test_an_interrupt_at_any_moment_is_no_traceback(call, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    for name in ("run_all", "_problem_of", "_open"):
        with monkeypatch.context() as patch:
            patch.setattr(_cli.check, name, interrupted)
            assert call(*NUMPY) == (130, "", "softgrad: error: interrupted\n")


def test_too_little_memory_is_told(call, monkeypatch):
    def greedy(*args, **options):
        raise MemoryError("Unable to allocate 9 EiB")

    monkeypatch.setattr(_cli.check, "make_problem", greedy)
    assert call(*NUMPY) == (2, "", "softgrad: error: not enough memory: Unable to allocate 9 EiB\n")


def test_a_bug_is_a_line_that_says_where(call, monkeypatch):
    def broken(*args, **options):
        raise KeyError("a\nb")

    monkeypatch.setattr(_cli.check, "make_problem", broken)
    code, out, err = call(*NUMPY)
    assert (code, out, len(err.splitlines())) == (70, "", 1)
    assert "this is a bug of softgrad, please report it: KeyError: 'a\\nb' (test_program.py, line " in err


def test_a_file_that_cannot_be_opened_is_told(call, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "data.xlsx").write_bytes(b"")
    for name, words in (
        ("none.csv", "No such file or directory"),
        ("folder.csv", "Is a directory" if sys.platform != "win32" else "ermission"),
        ("file/data.csv", "Not a directory" if sys.platform != "win32" else "No such file"),
        (f"{'a' * 300}.csv", "File name too long" if sys.platform != "win32" else "No such file"),
        ("data.xlsx", "expected a file that ends in .csv, .tsv, .txt, .data, .npz, .parquet"),
        ("none.parquet", "No such file or directory"),
        ("none.npz", "No such file or directory"),
    ):
        code, out, err = call(*NUMPY, "--data", tmp_path / name)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert err.startswith(f"softgrad: error: {tmp_path / name}: ")
        assert words in err


@posix
def test_a_pipe_is_no_file(call, tmp_path):
    os.mkfifo(tmp_path / "data.csv")
    code, out, err = call(*NUMPY, "--data", tmp_path / "data.csv")
    assert (code, out) == (2, "")
    assert "is no regular file" in err


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_what_is_not_permitted_is_told(call, tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    for option, name in (("--data", "closed/data.csv"), ("--plot", "closed/check.png")):
        code, _, err = call(*NUMPY, option, tmp_path / name)
        assert code == 2
        assert "ermission denied" in err


@pytest.mark.full
def test_names_in_a_file_cannot_steer_the_terminal(command, data, tmp_path):
    path = data(f"{HOSTILE}.csv", columns=[HOSTILE, "b", "c"], classes=["None", HOSTILE, "z"])
    done = command(*NUMPY, "--data", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert r"\x1b[31m[draft]\x1b]0;owned\x07\r\u202e$x$\nsoftgrad: error: forged.csv: 50 samples" in " ".join(
        done.stdout.split()
    )
    path.write_text(path.read_text(encoding="utf-8") + f'\n1,2,"{HOSTILE}",x', encoding="utf-8")
    done = command(*NUMPY, "--data", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert all(line.isprintable() for line in done.stderr.splitlines())
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.full
@posix
def test_a_name_that_is_no_text_is_shown_with_its_bytes(command, tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"d\xff\xe9.npz")  # noqa: PTH118 -- pathlib takes no bytes
    with open(path, "wb") as file:  # noqa: PTH123
        np.savez(file, X=np.ones((4, 2)) * [[1], [2], [3], [4]], y=[0, 1, 0, 1])
    done = command(*NUMPY, "--data", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(r"d\xff\xe9.npz: 4 samples")
    done = command(*NUMPY, "--json", "--data", path)
    assert json.loads(done.stdout)["data"]["source"] == r"d\xff\xe9.npz"
    done = command(*NUMPY, "--label", "z", "--data", path)
    assert done.returncode == 2
    assert r"d\xff\xe9.npz: no array named 'z'" in done.stderr


@pytest.mark.full
def test_a_terminal_without_the_signs_is_served_too(command):
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "", "SYSTEMROOT": os.environ.get("SYSTEMROOT", "")}
    done = command(*NUMPY, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The gradient agrees on numpy" in " ".join(done.stdout.split())
    assert "X(S-Y)^T" in done.stdout
    done = command("info", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "yes" in done.stdout


def test_colours_are_for_terminals_that_are_asked_for_them(call, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = call(*NUMPY)[1]
    assert "\x1b" not in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = call(*NUMPY)[1]
    assert "\x1b[32mThe gradient agrees" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in call(*NUMPY)[1]


def test_the_program_needs_nothing_but_what_is_installed_with_it(command):
    blocked = ("rich", "matplotlib", "pyarrow", "pandas", "scipy", "numba", "mpmath", *FRAMEWORKS)
    code = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({blocked}))
for words in {(NUMPY, ("info",), ("bench", "--help"))}:
    sys.argv[:] = ["softgrad", *words]
    try:
        runpy.run_module("softgrad", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code, (words, end.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The gradient agrees on numpy" in " ".join(done.stdout.split())


def test_whatever_is_printed_is_escaped():
    # Terminal escapes, JSON does, and the one line of an error is
    package = Path(_cli.__file__).parent
    for path in sorted([*package.rglob("*.py"), *(package.parent / "testing" / "bench").glob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                words = ast.unparse(node.args[0])
                assert words.startswith("json.dumps(") or "{printable(" in words, f"{path}: print({words})"
