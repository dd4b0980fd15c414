"""Put the package inside a made-up library, under another name and with its own array-api-compat, and try it there.

``python tools/vendor.py FOLDER [BACKEND ...]`` builds the library in FOLDER, blocks the names ``softgrad`` and
``array_api_compat``, runs the contract on each back end (NumPy by default), and a part of the test suite.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
HOST, NAME = "madeup", "gradients"
VENDORED = f"{HOST}.external.{NAME}"
# what a copy may do without, as docs/howto/embedding.md says
SPARE = ("_cli", "__main__.py", "_data", "testing")
SUITE = (
    "test_softmax",
    "test_cross_entropy*",
    "linear/test_model",
    "linear/test_hessian",
    "linear/test_seed",
    "contract/test_e*",
    "contract/test_inputs",
    "contract/conftest",
)
HELPERS = ("conftest", "arrays", "contract_cases", "linear_cases", "marks", "oracle", "triton_on_cpu")

# what stands beside both copies, and is all that an embedder writes
DOOR = "from .array_api_compat import *\n"

GUARD = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("softgrad", "array_api_compat"):
            raise ModuleNotFoundError(f"{name} is blocked: the vendored copy is to be used", name=name)

for name in ("softgrad", "array_api_compat"):
    assert name not in sys.modules, f"{name} was imported before it could be blocked"
sys.meta_path.insert(0, Blocked())
"""

CONTRACT = f"""
import sys
import guard
from {VENDORED} import backends
from {VENDORED}.testing import check_backend

for name in sys.argv[1:]:
    check_backend(name)
kernels = [kernel for known in backends.available().values() for kernel in known.functions.values()]
strange = [kernel for kernel in kernels if not kernel.startswith("{VENDORED}.")]
assert kernels and not strange, strange
bad = [name for name in sys.modules if name.partition(".")[0] in ("softgrad", "array_api_compat")]
assert not bad, bad
"""

CORE = f"""
import guard
import numpy as np
import {VENDORED} as copied

x, y = np.asarray([[1.0, 2.0], [0.0, 3.0]]), np.asarray([0, 1])
assert np.allclose(copied.softmax(x).sum(axis=1), 1)
value, gradient = copied.LinearCrossEntropy(x, y).value_and_grad(np.zeros((2, 2)))
assert np.isclose(value, np.log(2)) and gradient.shape == (2, 2)
assert copied.backends.explain("softmax", x).implementation.startswith({VENDORED!r})
"""


def copy_python(source: Path, target: Path) -> None:
    """Copy what a package needs: Python files, stubs and the mark of typing, no data."""
    for path in source.rglob("*"):
        if path.suffix in (".py", ".pyi") or path.name == "py.typed":
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copied)


def build(folder: Path) -> None:
    """Write the library, and the tests with the names changed, into ``folder``."""
    external = folder / HOST / "external"
    external.mkdir(parents=True)
    (folder / HOST / "__init__.py").touch()
    (external / "__init__.py").touch()
    (external / "_array_api_compat_vendor.py").write_text(DOOR, encoding="utf-8")
    copy_python(REPO / "src" / "softgrad", external / NAME)
    found = importlib.util.find_spec("array_api_compat")
    assert found is not None
    assert found.origin is not None
    copy_python(Path(found.origin).parent, external / "array_api_compat")
    (folder / "guard.py").write_text(GUARD, encoding="utf-8")
    shutil.copyfile(REPO / "pyproject.toml", folder / "pyproject.toml")
    for path in (path for name in (*SUITE, *HELPERS) for path in (REPO / "tests").glob(f"{name}.py")):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^(\s*)import softgrad as", rf"\1import {VENDORED} as", text, flags=re.M)
        text = re.sub(r"^(\s*)import softgrad$", rf"\1import {VENDORED} as softgrad", text, flags=re.M)
        text = re.sub(r"^(\s*from) softgrad\b", rf"\1 {VENDORED}", text, flags=re.M)
        other = f"{HOST}.external.array_api_compat"
        text = re.sub(r"^(\s*)import array_api_compat$", rf"\1import {other} as array_api_compat", text, flags=re.M)
        target = folder / path.relative_to(REPO)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def main() -> None:
    """Build and try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("backends", nargs="*", default=["numpy"])
    options = parser.parse_args()
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    build(folder)
    subprocess.run([sys.executable, "-c", CONTRACT, *options.backends], cwd=folder, check=True)
    for backend in options.backends:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "guard", "-p", "no:cacheprovider"]
        subprocess.run([*command, f"--backend={backend}"], cwd=folder, check=True)
    copied = folder / HOST / "external" / NAME
    for path in (copied / name for name in SPARE):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    subprocess.run([sys.executable, "-c", CORE], cwd=folder, check=True)


if __name__ == "__main__":
    main()
