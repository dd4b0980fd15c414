"""What the layout of the package promises: imports point one way, array libraries stay where they belong."""

import ast
import functools
import inspect
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import softgrad
from softgrad._array import libraries

REPO = Path(__file__).resolve().parent.parent
SOURCE = REPO / "src" / "softgrad"
MODULES = sorted(SOURCE.rglob("*.py"))

# a module imports its own layer and those below; what is listed nowhere is a public function or serves one
LAYERS = {
    0: ("_array.typing", "_array.errors", "_array.scalars", "_options", "_version", "_data"),
    1: ("_kernels", "_kernels.*"),
    2: ("_array", "_array.*", "backends", "backends.*"),
    4: ("",),
    5: ("testing", "testing.*", "_cli", "_cli.*", "__main__"),
}
PUBLIC = 3
# NumPy is everybody's, and "sparse" an adjective too
LIBRARIES = sorted({*libraries.MATRIX, *libraries.OTHERS} - {"numpy", "sparse"})
# the module "torch" is PyTorch's own loss class by our kernels; nothing imports it but who asks for it
MAY_NAME_LIBRARIES = ("_array.*", "backends", "backends.*", "testing", "testing.*", "torch")
MOST_LINES = 400


def dotted(path):
    """ "backends.torch" for backends/torch.py, "" for the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def one_of(name, patterns):
    return any(fnmatch(name, pattern) for pattern in patterns)


def layer(name):
    return next((level for level, patterns in LAYERS.items() if one_of(name, patterns)), PUBLIC)


KNOWN = {dotted(path): path for path in MODULES}


def relative(call):
    """(dots, name) of the module that a call of importlib, or of a function for it, names relatively."""
    function = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = call.args[0] if call.args and "import" in function else None
    found = isinstance(given, ast.Constant) and re.fullmatch(r"(\.+)([a-z_.]*)", str(given.value))
    return found.groups() if found else None


@functools.cache
def tree(path):
    """The nodes of a file's syntax, in the order of a walk."""
    return tuple(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@functools.cache
def imports(path):
    """(names of softgrad's modules, names of other packages) that a file imports, anywhere in it."""
    package = path.relative_to(SOURCE).parent.parts
    inner, outer = set(), set()
    for node in tree(path):
        if isinstance(node, ast.Import):
            outer |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            outer.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom) and node.level > len(package) + 1:
            # beyond the package lies whoever vendors it
            outer |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            base = (*base, *node.module.split(".")) if node.module else base
            for alias in node.names:
                name = ".".join((*base, alias.name))
                inner.add(name if name in KNOWN else ".".join(base))
        elif isinstance(node, ast.Call) and (late := relative(node)):
            dots, rest = late
            name = ".".join((*package[: len(package) - len(dots) + 1], rest))
            inner |= {name} & KNOWN.keys() - {dotted(path)}
    return inner, outer


def names_in_code(path):
    """Identifiers and strings of a file, docstrings and comments left out."""
    docstrings = set()
    for node in tree(path):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            docstrings.add(body[0].value)
    for node in tree(path):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.name for alias in node.names)
            yield getattr(node, "module", None) or ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
            yield node.value


def among(*patterns, but=()):
    """(name, path) of the modules that one of the patterns fits."""
    return [(name, path) for name, path in KNOWN.items() if one_of(name, patterns) and not one_of(name, but)]


def test_imports_point_one_way():
    upwards = {name: sorted(n for n in imports(path)[0] if layer(n) > layer(name)) for name, path in among("*")}
    assert len(upwards) == len(MODULES) > 100
    assert not {name: above for name, above in upwards.items() if above}, "imports from a layer above the module's own"


def circles(graph):
    """The sets of more than one node that can each be reached from each other."""
    reached = {}
    for node in graph:
        left, seen = [node], set()
        while left:
            new = graph[left.pop()] - seen
            seen |= new
            left += new
        reached[node] = seen
    found = {frozenset(other for other in reached[node] if node in reached[other]) for node in graph}
    return [sorted(circle) for circle in found if len(circle) > 1]


def test_no_file_imports_what_imports_it():
    graph = {name: (imports(path)[0] & KNOWN.keys()) - {name} for name, path in KNOWN.items()}
    assert circles(graph) == []


def test_circles_are_seen():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert circles(graph) == [["b", "c"]]


def test_the_package_imports_itself_relatively():
    assert not [name for name, path in among("*") if "softgrad" in imports(path)[1]]


def test_kernels_import_only_kernels_and_types():
    kernels = among("_kernels", "_kernels.*")
    assert kernels
    for name, path in kernels:
        inner, outer = imports(path)
        assert all(layer(each) == 1 or each in ("_array.typing", "_options") for each in inner), (name, inner)
        # a kernel gets its library as xp, and imports none
        assert outer <= sys.stdlib_module_names, (name, sorted(outer))


def test_libraries_are_named_only_where_they_may_be():
    pattern = re.compile(rf"\b({'|'.join(LIBRARIES)})\b")
    named = {name: names_in_code(path) for name, path in among("*", but=MAY_NAME_LIBRARIES)}
    assert named
    found = {name: sorted({word for word in words if pattern.search(word)}) for name, words in named.items()}
    assert not {name: words for name, words in found.items() if words}


def test_no_module_is_too_long_to_read():
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in among("*")}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


def test_nothing_imports_the_module_that_needs_torch():
    assert not [name for name, path in among("*", but=["torch"]) if "torch" in imports(path)[0]]


def test_import_brings_no_library_but_numpy():
    code = "import sys, softgrad; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPO / "tests",
    )
    loaded = set(run.stdout.split())
    heavy = {
        *LIBRARIES,
        "distributed",
        "matplotlib",
        "numba",
        "pandas",
        "pyarrow",
        "rich",
        "scipy",
        "sklearn",
    }
    assert "numpy" in loaded
    assert not loaded & heavy


def public():
    for name in softgrad.__all__:
        thing = getattr(softgrad, name)
        if not isinstance(thing, str):
            yield pytest.param(thing, id=name)


@pytest.mark.parametrize("thing", list(public()))
def test_public_names_are_documented_with_an_example(thing):
    doc = inspect.getdoc(thing) or ""
    assert doc
    if inspect.isfunction(thing) or (inspect.isclass(thing) and not issubclass(thing, BaseException)):
        assert ">>> " in doc, "a docstring without an example"
        for name, member in vars(thing).items() if inspect.isclass(thing) else ():
            if inspect.isfunction(member) and not name.startswith("_"):
                assert inspect.getdoc(member), f"{name} has no docstring"


def test_public_names_are_there_once():
    assert len(set(softgrad.__all__)) == len(softgrad.__all__)
    assert set(softgrad.__all__) <= set(dir(softgrad))


def texts():
    suffixes = {".cfg", ".cff", ".cpp", ".h", ".json", ".md", ".py", ".rst", ".toml", ".txt", ".yaml", ".yml"}
    folders = [REPO / name for name in (".ci", "benchmarks", "docs", "src", "tests", "tools")]
    files = [path for path in REPO.iterdir() if path.is_file()]
    files += [path for folder in folders if folder.is_dir() for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.suffix in suffixes or path.name in ("run", "LICENSE")]


def test_no_file_holds_a_path_of_one_machine():
    pattern = re.compile(r"(?<![\w.~-])/(work|opt|root|home|Users)/|\.\./(shared)/")
    found = [str(path.relative_to(REPO)) for path in texts() if pattern.search(path.read_text(encoding="utf-8"))]
    assert not found
