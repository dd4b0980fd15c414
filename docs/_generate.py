"""What is made when the documentation is built: tables from declarations in code, pictures from fits."""

import contextlib
import importlib
import importlib.util
import io
from pathlib import Path

import _edge_cases
import _figures

from softgrad import _cli

OUT = Path(__file__).resolve().parent / "_generated"


def command_help(*command):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        _cli.main([*command, "--help"])
    return f"```text\n{printed.getvalue().strip()}\n```\n"


def pages():
    yield "edge_cases.md", _edge_cases.markdown()
    yield "help.md", command_help()
    yield "help_check.md", command_help("check")
    yield "help_info.md", command_help("info")
    if importlib.util.find_spec("softgrad._capabilities"):
        yield "capabilities.md", importlib.import_module("softgrad._capabilities").markdown()


def generate(app):
    OUT.mkdir(exist_ok=True)
    for name, text in pages():
        path = OUT / name
        # an unchanged file keeps its date, and the pages that include it are not read again
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    _figures.draw(OUT)


def setup(app):
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
