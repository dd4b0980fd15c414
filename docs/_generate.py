"""What is made when the documentation is built: tables from declarations in code, pictures from fits."""

import contextlib
import inspect
import io
import json
import re
from collections import Counter
from pathlib import Path
from unittest import mock

import matplotlib

import _capabilities
import _edge_cases
import _figures
from softgrad import _cli
from softgrad._array.libraries import MATRIX, OTHERS, known
from softgrad.backends._declaration import GENERIC
from softgrad.testing.bench import _plot, _report

HERE = Path(__file__).resolve().parent
OUT = HERE / "_generated"
#: What ``nox -s bench`` measured.
MEASURED = HERE / "_data" / "performance.json"
#: What Markdown would take for its own.
ESCAPES = str.maketrans({sign: f"\\{sign}" for sign in "|*_<>"})


def command_help():
    """What each command says of itself."""
    out = []
    for command in _cli._COMMANDS:
        name = command.__name__.rpartition(".")[2]
        printed = io.StringIO()
        # as wide as a block of code, whatever the terminal that builds the pages
        width = mock.patch.dict("os.environ", COLUMNS="88", NO_COLOR="1")
        with width, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            _cli.main([name, "--help"])
        out += [f"## {name}", "", "```text", *printed.getvalue().strip().split("\n"), "```", ""]
    return "\n".join(out)


def kernels():
    """The table of the kernels that a back end may replace."""
    out = ["| Kernel | Arguments after `xp` | Computes |", "| --- | --- | --- |"]
    for name, kernel in GENERIC.items():
        arguments = ", ".join(list(inspect.signature(kernel).parameters)[1:])
        words = inspect.getdoc(kernel).partition("\n\n")[0].replace("\n", " ")
        if words[1] == " ":  # the sentence begins with a symbol, which the docstring's style made a capital
            words = words[0].lower() + words[1:]
        out.append(f"| `{name}` | `{arguments}` | {words.translate(ESCAPES)} |")
    return "\n".join(out) + "\n"


def exceptions(table):
    """A table and its notes; the rows of which many say the same, as most do, folded away."""
    lines = table.split("\n")
    end = lines.index("")
    head, rows = lines[:2], lines[2:end]
    cells = {row: tuple(row.strip("| ").split(" | ")[1:]) for row in rows}
    names = [name.strip() for name in head[0].strip("|").split("|")[1:]]
    usual = {told: count for told, count in Counter(cells.values()).most_common() if count >= 8}
    out = [*head, *(row for row in rows if cells[row] not in usual), *lines[end:]]
    for told, count in usual.items():
        each = "yes" if set(told) == {"yes"} else "; ".join(map(": ".join, zip(names, told, strict=True)))
        title = f"{count} other functions and options ({each})"
        folded = " · ".join(row.strip("| ").split(" | ")[0] for row in rows if cells[row] == told)
        out += ["<details>", f"<summary>{title}</summary>", "", folded, "", "</details>", ""]
    return "\n".join(out)


def capabilities():
    """The table of the array libraries, in three that fit a page."""
    first = ("numpy", "torch", "cupy", "jax")
    groups = (first, [name for name in MATRIX if name not in first], OTHERS)
    tables = {
        ", ".join(known(name).title for name in names): [k for k in _capabilities.KINDS if k.library in names]
        for names in groups
    }
    text = "\n".join(f"## {title}\n\n{exceptions(_capabilities.markdown(kinds))}\n" for title, kinds in tables.items())
    return re.sub(r"(no|refused) (\(\d+\) \|)", "\\1\N{NO-BREAK SPACE}\\2", text)


#: The cases of the table that the page begins with, and its columns: heads, and whose time is divided by whose.
CHOSEN = (
    "softmax 209715x10",
    "softmax 20971x100",
    "softmax 65x32000",
    "log_softmax 2097x1000",
    "logsumexp 2097x1000",
    "loss+gradient 209715x10",
    "loss+gradient 65x32000",
    "softmax 10x10",
    "linear 60000x784x10",
    "linear 2048x768x32000",
)
COLUMNS = {
    "SciPy": ("softgrad", "scipy"),
    "PyTorch": ("softgrad", "torch"),
    "JAX": ("softgrad", "jax.jit"),
    "without numba, PyTorch": ("softgrad without numba", "torch"),
    "on tensors, PyTorch": ("softgrad on torch", "torch"),
}


def chosen_cases(rows):
    """A table of few cases, single precision on one thread."""
    found = {_report._case(row): row for row in rows if (row["dtype"], row["threads"]) == ("float32", 1)}
    out = [f"| case | ms | {' | '.join(COLUMNS)} |", "| --- |" + " ---: |" * (len(COLUMNS) + 1)]
    for case in CHOSEN:
        ratio, seconds = found[case]["ratio"], found[case]["seconds"]["softgrad"]
        pairs = [ratio[b] / ratio[a] if a in ratio and b in ratio else None for a, b in COLUMNS.values()]
        cells = ["–" if each is None else f"{each:.2f}" for each in pairs]
        name = re.sub(r"(?<=\d)x(?=\d)", " × ", case)
        out.append(f"| {name} | {seconds * 1e3:{'.0f' if seconds > 0.1 else '#.3g'}} | {' | '.join(cells)} |")
    return "\n".join(out)


def performance():
    """Machine and tables of the last benchmark that was kept."""
    result = json.loads(MEASURED.read_text(encoding="utf-8"))
    machine = result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    out = [
        f"Measured on {machine['date']}: {machine['processor']}, {machine['cores']} cores, Python {machine['python']}; "
        f"{versions}. Single precision, one thread:",
        "",
        chosen_cases(result["cases"]),
        "",
    ]
    for dtype, threads in dict.fromkeys((row["dtype"], row["threads"]) for row in result["cases"]):
        some = [row for row in result["cases"] if (row["dtype"], row["threads"]) == (dtype, threads)]
        title, _, table = _report.markdown(some).partition("\n\n")
        name = f"All {len(some)} cases: {title.removeprefix('### ')}"
        out += ["<details>", f"<summary>{name}</summary>", "", table, "</details>", ""]
    if memory := result.get("memory"):
        out += [
            f"## Memory: {memory['case']}, {memory['dtype']}",
            "",
            f"MiB that one call of loss and gradient adds to the process; the gradient itself takes "
            f"{memory['gradient']:.0f}.",
            "",
            "| | MiB |",
            "| --- | ---: |",
            *(f"| {name} | {peak:.0f} |" for name, peak in memory["peaks"].items() if peak is not None),
            "",
        ]
    return "\n".join(out)


def draw_performance(folder):
    """The benchmark's picture, of one part that a page is wide enough for, on a light page and on a dark one."""
    result = json.loads(MEASURED.read_text(encoding="utf-8"))
    result["cases"] = [row for row in result["cases"] if (row["dtype"], row["threads"]) == ("float32", 1)]
    for theme, ink in _figures.INKS.items():
        path = folder / f"performance_{theme}.svg"
        if path.exists() and path.stat().st_mtime > MEASURED.stat().st_mtime:
            continue
        with matplotlib.rc_context(_figures.style(ink)):
            _plot.draw(result, path, transparent=True, metadata={"Date": None})


def pages():
    yield "edge_cases.md", _edge_cases.markdown()
    yield "commands.md", command_help()
    yield "kernels.md", kernels()
    yield "capabilities.md", capabilities()
    yield "performance.md", performance()


def generate(app):
    OUT.mkdir(exist_ok=True)
    for name, text in pages():
        path = OUT / name
        # an unchanged file keeps its date, and the pages that include it are not read again
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    _figures.draw(OUT)
    draw_performance(OUT)


def setup(app):
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
