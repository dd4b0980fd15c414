"""The bugs that ``nox -s mutants`` injects still have the place that they are put in."""

import runpy
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MUTANTS = runpy.run_path(str(HERE / "mutants" / "catalogue.py"))["MUTANTS"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_code_that_is_changed_stands_once(mutant):
    source = (HERE.parent / "src" / "softgrad" / mutant.file).read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1, f"{mutant.old!r} in {mutant.file}"
