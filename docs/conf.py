"""How the documentation is built: ``python -m nox -s docs``. No page needs the network."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

import softgrad  # noqa: E402

project = "softgrad"
author = "softgrad developers"
copyright = "the softgrad developers"
version = release = softgrad.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "_mathml",
    "_generate",
    "_words",
]
exclude_patterns = ["_generated/*.md", "_static/*.md"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = False
numpydoc_show_class_members = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"

nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!softgrad).*")]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "softgrad"
html_static_path = ["_static"]
html_css_files = ["softgrad.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5d6b", "color-brand-content": "#0b5d6b"},
    "dark_css_variables": {"color-brand-primary": "#7fd1de", "color-brand-content": "#7fd1de"},
}
