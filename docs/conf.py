"""Sphinx: how the site under docs/_build/html is made; `make docs` builds it.

What is read is on this disk, and so is what the pages need: no inventories of other projects, no fonts or scripts from
elsewhere. What Sphinx cannot do by itself is in `_ext`: equations, links and what our docstrings take for granted.
"""

import os
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "Agg"
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

import repsim  # noqa: E402

project, author, copyright = "repsim", "The repsim developers", "The repsim developers"  # noqa: A001
release = version = repsim.__version__
language = "en"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
    "docstrings",
    "links",
    "mathml",
]
root_doc = "index"
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "sg_execution_times.rst", "gallery/*.ipynb", "gallery/*.py"]
templates_path = ["_templates"]
default_role = "py:obj"
rst_prolog = ".. currentmodule:: repsim\n"

# Docstrings

autosummary_ignore_module_all = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Pages in Markdown

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Examples

PACKAGES = ("repsim", "probes", "checkpoints", "analysis")
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "backreferences_dir": "gallery/backreferences",
    "doc_module": PACKAGES,
    "reference_url": dict.fromkeys(PACKAGES),
    "abort_on_example_error": True,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 10_000,
    "write_computation_times": False,
    "plot_gallery": "True",
    "remove_config_comments": True,
}

# The site

html_theme = "pydata_sphinx_theme"
html_title = "repsim"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_context = {"default_mode": "auto"}
html_theme_options = {
    "logo": {"text": "repsim"},
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 1,
    "collapse_navigation": True,
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": {"**": ["page-toc"], "measures": [], "rules": []},  # whose tables need the width
}
html_sidebars = {"index": [], "start": [], "citing": []}
html_math_renderer = "mathml"
