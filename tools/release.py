"""Look into what ``python -m build`` made: ``python tools/release.py DIST``; the first thing amiss is the message.

With ``--final`` the changelog has to have a heading for the version too.
"""

from __future__ import annotations

import email
import re
import sys
import tarfile
import zipfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
SOURCE = REPO / "src"
#: What stays in the repository: tests, documentation, and the tools of those who maintain the package.
STRAYS = re.compile(r"(^|/)(tests?|conftest|docs|benchmarks|tools|accuracy|_capabilities)(/|\.py$)")


def demand(condition: object, words: str) -> None:
    """Leave with ``words`` unless ``condition`` holds."""
    if not condition:
        sys.exit(f"not fit for release: {words}")


def expected() -> set[str]:
    """What the wheel has to hold beside its metadata: the sources, the data and the mark of typing."""
    files = {path for path in (SOURCE / "softgrad").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {str(path.relative_to(SOURCE)) for path in files}


def check_wheel(path: Path, version: str) -> None:
    """Names, metadata and entry points of the wheel."""
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = f"softgrad-{version}.dist-info"
        demand(f"{info}/METADATA" in names, f"the wheel is of another version than {version}: {path.name}")
        held = {name for name in names if not name.startswith(f"{info}/")}
        demand(held == expected(), f"files of the wheel differ from src/: {sorted(held ^ expected())}")
        for name in ("softgrad/py.typed", "softgrad/_data/digits.npz", "softgrad/_data/NOTICE.md"):
            demand(name in held, f"{name} is missing")
        strays = [name for name in held if STRAYS.search(name)]
        demand(not strays, f"tests, documentation or maintainers' tools in the wheel: {strays}")
        demand(any(name.endswith("licenses/LICENSE") for name in names), "the licence is missing")
        points = wheel.read(f"{info}/entry_points.txt").decode()
        demand("softgrad = softgrad._cli:main" in points, "the entry point of the command line is missing")
        demand("[pytest11]" not in points, "the plugin for pytest is to be asked for")
        metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        demand(metadata["License-Expression"] == "BSD-3-Clause", "the licence is not told")
        needed = {
            re.split(r"[<>=~! ;\[]", line)[0]
            for line in metadata.get_all("Requires-Dist", [])
            if "extra ==" not in line
        }
        demand(needed == {"array-api-compat", "numpy"}, f"dependencies are {sorted(needed)}")


def check_sdist(path: Path, version: str) -> None:
    """What is needed to build and to test from the source archive."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    demand(path.name == f"softgrad-{version}.tar.gz", f"the archive is of another version: {path.name}")
    for name in (
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "noxfile.py",
        "tests/conftest.py",
        "tools/accuracy/__main__.py",
        "src/softgrad/py.typed",
    ):
        demand(name in names, f"{name} is missing from the source archive")
    demand(not [name for name in names if "__pycache__" in name or "/_generated/" in name], "generated files in it")


def main() -> None:
    """Check the one wheel and the one source archive in the folder."""
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    found = re.search(r'__version__ = "(.+)"', (SOURCE / "softgrad" / "_version.py").read_text(encoding="utf-8"))
    demand(found, "there is no version in _version.py")
    assert found is not None
    version = found[1]
    check_wheel(wheel, version)
    check_sdist(sdist, version)
    heading = re.escape(version) if "--final" in sys.argv else rf"({re.escape(version)}|Unreleased)"
    changes = (REPO / "CHANGELOG.md").read_text(encoding="utf-8")
    demand(re.search(rf"^## \[?{heading}\b", changes, re.M), f"CHANGELOG.md has no heading for {version}")
    print(f"{wheel.name} and {sdist.name} are fit for release")


if __name__ == "__main__":
    main()
