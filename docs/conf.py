"""The documentation site: ``make docs`` builds it into build/docs."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # pages take tables from the code; docs/site holds how

import tessera  # noqa: E402  (found through the line above)

project = "Tessera"
author = "The Tessera authors"
copyright = "The Tessera authors, Apache-2.0"
version = release = tessera.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx_copybutton",
    "docs.site.pages",
]
exclude_patterns = ["site", "images"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4  # pages link to each other's headings, as on GitHub

napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"  # the docstrings say what is returned
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autodoc_preserve_defaults = True
doctest_global_setup = "import tessera"

copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

smartquotes = False  # -- is the beginning of an option

html_theme = "furo"
html_title = f"Tessera {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
