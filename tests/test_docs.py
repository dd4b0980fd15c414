"""The documentation tells the truth: its table of edge cases, its list of public names, its pages in a browser.

``nox -s docs`` builds the pages, names them in ``SOFTGRAD_DOCS``, and runs what is skipped elsewhere.
"""

import builtins
import dataclasses
import html
import http.server
import importlib
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest

import _edge_cases
import softgrad as sg
from softgrad._options import LossOptions

DOCS = Path(__file__).resolve().parent.parent / "docs"
MODULES = [
    "softgrad",
    "softgrad.backends",
    "softgrad.calibration",
    "softgrad.identity",
    "softgrad.parallel",
    "softgrad.partial",
    "softgrad.statistics",
    "softgrad.testing",
]
if importlib.util.find_spec("torch"):
    MODULES.append("softgrad.torch")
BUILT = os.environ.get("SOFTGRAD_DOCS")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_pages = pytest.mark.skipif(not BUILT, reason="SOFTGRAD_DOCS names no built pages: nox -s docs")
needs_browser = pytest.mark.skipif(not BROWSER, reason="there is no Chromium")


# --- the table of edge cases


@pytest.mark.parametrize(
    "case", [case for section in _edge_cases.CASES.values() for case in section], ids=lambda case: case.call
)
def test_the_table_of_edge_cases(case, asarray, to_numpy, has_dtype):
    if case.needs and not has_dtype(case.needs):
        pytest.skip(f"no {case.needs}")
    names = _edge_cases.names(asarray)
    if case.gives.startswith("raises "):
        error = case.gives.removeprefix("raises ")
        with pytest.raises(getattr(sg, error, None) or getattr(builtins, error)):
            eval(case.call, names)
        return
    result, expected = to_numpy(eval(case.call, names)), np.asarray(eval(case.gives, names))
    assert result.shape == expected.shape
    rtol = {"float16": 1e-3, "bfloat16": 1e-2, "float32": 1e-6}.get(case.needs, 1e-14)
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=0)


# --- the example of README.md


def test_the_example_of_the_readme_prints_what_it_says(capsys):
    example = re.search(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    exec(example, {})
    said = " ".join(re.findall(r"print\(.*\)  # (.*)", example))
    numbers = [[float(each) for each in re.findall(r"-?\d[\de.+-]*", text)] for text in (capsys.readouterr().out, said)]
    assert numbers[1]
    # the last digit is the processor's
    np.testing.assert_allclose(*numbers, rtol=1e-6)


# --- the reference


def public_names():
    """Dotted names of all that is public, modules and dunders left out."""
    for name in MODULES:
        module = importlib.import_module(name)
        for each in getattr(module, "__all__", ()):
            if not each.startswith("__") and f"{name}.{each}" not in MODULES:
                yield f"{name}.{each}"


def test_every_public_name_has_a_place_in_the_reference():
    pages = "\n".join(path.read_text(encoding="utf-8") for path in (DOCS / "api").glob("*.md"))
    documented = set(re.findall(r"auto(?:function|class|exception|data):: (\S+)", pages))
    for module in re.findall(r"automodule:: (\S+)\n +:members:", pages):
        documented |= {f"{module}.{each}" for each in importlib.import_module(module).__all__}
    missing = sorted(set(public_names()) - documented)
    assert not missing, f"add to a page of docs/api: {missing}"


def test_every_documented_name_is_there():
    for path in (DOCS / "api").glob("*.md"):
        for name in re.findall(r"auto(?:function|class|exception|data):: (\S+)", path.read_text(encoding="utf-8")):
            module, _, attribute = name.rpartition(".")
            if module == "softgrad.torch" and module not in MODULES:
                continue
            assert hasattr(importlib.import_module(module), attribute), f"{path.name} documents {name}"


def callables():
    """Public functions, classes and the methods of these, with their dotted names."""
    for name in public_names():
        module, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(module), attribute)
        if inspect.isfunction(thing):
            yield pytest.param(thing, id=name)
        elif inspect.isclass(thing) and not issubclass(thing, BaseException | tuple):
            yield pytest.param(thing, id=name)
            for each, member in inspect.getmembers(thing, inspect.isfunction):
                if member.__module__.startswith("softgrad") and (each == "__call__" or not each.startswith("_")):
                    yield pytest.param(member, id=f"{name}.{each}")


@pytest.mark.parametrize("thing", list(callables()))
def test_help_tells_every_argument(thing):
    signature, doc = inspect.signature(thing), inspect.getdoc(thing)
    for name, parameter in signature.parameters.items():
        if name != "self":
            # explain takes those of any function
            assert parameter.kind is not parameter.VAR_KEYWORD or thing is sg.backends.explain
            assert re.search(rf"^(?:\S+, )*\*{{0,2}}{name}(?:, \S+)*(?: : .*)?$", doc, re.M), f"{name} is not told of"
    told = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n---|\Z)", doc, re.M | re.S)
    for line in re.findall(r"^(\S.*?)(?: :.*)?$", told[1], re.M) if told else ():
        for name in line.split(", "):
            assert name.strip("*") in signature.parameters, f"{name} is no argument"
    assert "s for the call" not in doc
    assert not re.search(r"(?:As for|Those of) :(?:func|class)", told[1] if told else "")
    assert not re.search(r"^    As :(?:func|class)", doc, re.M)


def test_the_arguments_shown_are_those_that_are_taken():
    """What ``inspect.signature`` says of a shorthand is what its call makes of the same names."""
    logits, labels = np.asarray([[0.5, -1.0]]), np.asarray([0])
    given = {field.name: field.default for field in dataclasses.fields(LossOptions)}
    given |= {"axis": -1, "label_smoothing": 0.1, "class_weight": [1.0, 2.0], "ignore_index": 5, "softcap": 5.0}
    given |= {"reduction": "sum", "sample_weight": 2.0, "where": None, "validate": True}
    assert set(inspect.signature(sg.cross_entropy).parameters) == {"logits", "labels", *given}
    assert sg.cross_entropy(logits, labels, **given) > 0
    given.pop("axis")
    given |= {"sample_axis": 0, "l2": 0.1, "block_size": 4}
    both = {"X", "labels", "W", "bias"}
    assert set(inspect.signature(sg.linear_cross_entropy).parameters) == {*both, *given}
    assert sg.linear_cross_entropy(logits, labels, np.zeros((2, 2)), **given) > 0
    given |= {"wrt": "W", "classes": (0,)}
    assert set(inspect.signature(sg.linear_cross_entropy_grad).parameters) == {*both, *given}
    assert sg.linear_cross_entropy_grad(logits, labels, np.zeros((2, 2)), **given).shape == (1, 2)


@needs_pages
def test_every_public_name_is_in_the_built_inventory():
    inventory = (Path(BUILT) / "objects.inv").read_bytes()
    lines = zlib.decompress(inventory.split(b"zlib.\n", 1)[1]).decode().splitlines()
    assert not sorted(set(public_names()) - {line.split(" ", 1)[0] for line in lines})


# --- the built pages, without a network


@needs_pages
def test_no_page_loads_anything_from_elsewhere():
    for path in Path(BUILT).rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", path.read_text(encoding="utf-8")):
            assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag), f"{path.name}: {tag}"
    for path in Path(BUILT).rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", text), path.name


@pytest.fixture
def browse(tmp_path):
    """The DOM of an address once its scripts have run; no name is resolved."""

    def browse(address):
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={tmp_path}"]
        command += ["--virtual-time-budget=10000", "--dump-dom", address]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout

    return browse


PROBE = """<iframe src="/derivation.html" width="1200" height="900"></iframe><pre></pre><script>
const frame = document.querySelector("iframe");
frame.onload = async () => {
  const page = frame.contentDocument, box = (element) => element.getBoundingClientRect();
  await page.fonts.ready;
  const fractions = [...page.querySelectorAll("mfrac")], formulas = [...page.querySelectorAll("math")];
  document.querySelector("pre").textContent = JSON.stringify({
    formulas: formulas.length,
    drawn: formulas.filter((each) => box(each).width > 0 && box(each).height > 0).length,
    fractions: fractions.length,
    stacked: fractions.filter((each) => box(each.children[0]).bottom <= box(each.children[1]).top + 1).length,
    fonts: [...page.fonts].filter((font) => font.status === "loaded").map((font) => font.family),
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((each) => each.name),
    text: page.body.innerText,
  });
};
</script>"""


#: Of each page in a window: its width and that of its blocks of code, each with what it would need.
WIDTHS = """<iframe height="800"></iframe><pre></pre><script>
const frame = document.querySelector("iframe"), [width, ...pages] = location.search.slice(1).split(",");
frame.width = width;
(async () => {
  const seen = {};
  for (const address of pages) {
    await new Promise((loaded) => { frame.onload = loaded; frame.src = address; });
    const page = frame.contentDocument;
    await page.fonts.ready;
    const blocks = [...page.querySelectorAll("div.highlight pre")];
    seen[address] = {
      title: page.title,
      body: [page.documentElement.clientWidth, page.documentElement.scrollWidth],
      blocks: blocks.map((each) => [each.clientWidth, each.scrollWidth, each.innerText.slice(0, 200)]),
    };
  }
  document.querySelector("pre").textContent = JSON.stringify(seen);
})();
</script>"""


@pytest.fixture
def server():
    """The address of the built pages, and of a page that looks into the derivation's layout."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=BUILT)

        def do_GET(self):
            pages = {"/probe.html": PROBE, "/widths.html": WIDTHS}
            body = pages.get(self.path.partition("?")[0])
            if body is None:
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@needs_pages
@needs_browser
def test_the_start_page_opens_from_a_folder(browse):
    page = browse((Path(BUILT) / "index.html").resolve().as_uri())
    assert "<h1>softgrad" in page
    for target in ("tutorial.html", "derivation.html", "howto/own_data.html", "api/index.html"):
        assert f'href="{target}"' in page


@needs_pages
@needs_browser
def test_the_formulas_of_the_derivation_are_laid_out_without_a_network(browse, server):
    page = browse(f"{server}/probe.html")
    seen = json.loads(html.unescape(re.search(r"<pre>(.*)</pre>", page, re.DOTALL)[1]))
    assert seen["formulas"] > 40
    assert seen["drawn"] == seen["formulas"]
    assert seen["fractions"] >= 3
    assert seen["stacked"] == seen["fractions"]
    assert any("softgrad math" in font for font in seen["fonts"])
    assert seen["loaded"]
    assert all(address.startswith(server) for address in seen["loaded"])
    assert not re.search(r"\\(?:frac|sum|nabla|mathsf)|\$\$", seen["text"])


@pytest.fixture
def widths(browse, server):
    """What each page and its blocks of code need beside what a window of a width gives them."""

    def widths(width):
        root = Path(BUILT)
        pages = [f"/{path.relative_to(root)}" for path in sorted(root.rglob("*.html")) if "_modules" not in path.parts]
        found = browse(f"{server}/widths.html?{','.join([str(width), *pages])}")
        seen = json.loads(html.unescape(re.search(r"<pre>(.*)</pre>", found, re.DOTALL)[1]))
        assert [seen[page]["title"] != "" for page in pages] == [True] * len(pages)
        return seen

    return widths


@needs_pages
@needs_browser
def test_no_block_of_code_scrolls_sideways_on_a_laptop(widths):
    seen = widths(1280)
    assert sum(len(page["blocks"]) for page in seen.values()) > 100
    for name, page in seen.items():
        assert page["body"][1] <= page["body"][0], name
        assert not [block for block in page["blocks"] if block[1] > block[0]], name


@needs_pages
@needs_browser
def test_no_page_scrolls_sideways_on_a_telephone(widths):
    for name, page in widths(400).items():
        assert page["body"][1] <= page["body"][0], name


@needs_pages
@needs_browser
@pytest.mark.parametrize("way", ["folder", "server"])
def test_search_finds_a_function_and_a_word(way, browse, server):
    root = server if way == "server" else Path(BUILT).resolve().as_uri()
    assert 'href="api/dense.html#softgrad.log_softmax"' in browse(f"{root}/search.html?q=log_softmax")
    assert re.search(r'href="derivation\.html[^"]*"', browse(f"{root}/search.html?q=slip").split("search-results")[1])
    assert 'href="howto/after_the_fit.html' in browse(f"{root}/search.html?q=joblib")
    assert 'href="migrating.html' in browse(f"{root}/search.html?q=LogisticRegression")
    # what a page is the answer to comes first
    for words, page in {"label+smoothing": "api/cross_entropy", "p-value": "howto/after_the_fit"}.items():
        first = browse(f"{root}/search.html?q={words}").split("search-results")[1]
        assert re.search(r'href="([^"#?]*)', first)[1] == f"{page}.html"
