"""Read the samples with mypy and with pyright: no error in samples.py, in refused.py those marked and no others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLES, REFUSED = HERE / "samples.py", HERE / "refused.py"


def mypy() -> set[tuple[str, int]]:
    """File and line of each error."""
    # without the project's settings, as a user has it: there the libraries' types are left out
    command = ["mypy", "--config-file=", "--strict", "--no-error-summary", str(SAMPLES), str(REFUSED)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    found = re.findall(r"^.*?(\w+\.py):(\d+): error:", done.stdout, flags=re.MULTILINE)
    assert done.returncode in (0, 1), "mypy itself failed"
    return {(name, int(line)) for name, line in found}


def pyright() -> set[tuple[str, int]]:
    """File and line of each error."""
    command = ["pyright", "--outputjson", "--pythonpath", sys.executable, str(SAMPLES), str(REFUSED)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), f"pyright itself failed: {done.stderr}"
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 2
    for each in report["generalDiagnostics"]:
        print(f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}: {each['message']}")
    return {(Path(each["file"]).name, each["range"]["start"]["line"] + 1) for each in report["generalDiagnostics"]}


def main() -> None:
    """Compare what they say with the marks."""
    lines = enumerate(REFUSED.read_text(encoding="utf-8").splitlines(), 1)
    wrong = {(REFUSED.name, number) for number, line in lines if line.endswith("# wrong")}
    failed = False
    for checker in (mypy, pyright):
        found = checker()
        print(f"{checker.__name__}: {len(found)} errors, {len(wrong)} expected")
        for name, line in sorted(found ^ wrong):
            print(f"  {name}:{line}: {'an error' if (name, line) in found else 'no error was found'}")
        failed |= found != wrong
    sys.exit(failed)


if __name__ == "__main__":
    main()
