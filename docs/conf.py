"""The site: `make docs` builds it, offline, with warnings as errors. See "The site" in CONTRIBUTING.md."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
# In front of any other brainalign_jax: the site is of the clone that it lies in, in examples' processes too.
sys.path[:0] = [str(DOCS.parent), str(DOCS)]
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(DOCS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ["HF_HUB_OFFLINE"] = "1"
# Examples compile programs that run once: as in the tests, compiling is what takes the time.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import brainalign_jax  # noqa: E402

project = "brainalign_jax"
author = "brainalign_jax contributors"
copyright = "brainalign_jax contributors, Apache License 2.0"
version = release = brainalign_jax.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "docstrings",
]
exclude_patterns = ["_build", "examples/README.rst", "gallery/**/*.ipynb"]
nitpicky = True
# Types in signatures are Python's, NumPy's and JAX's, whose pages need the network.
nitpick_ignore_regex = [("py:(class|obj|exc|data)", ".*")]
# misc.highlighting_failure: a code block has … where users write theirs. space_in_filename: of the path,
# and a clone's folder may have a blank.
suppress_warnings = [
    "config.cache",
    "misc.highlighting_failure",
    "sphinx_gallery.space_in_filename",
]

# Pages are Markdown as GitHub shows it: headings have GitHub's anchors.
myst_heading_anchors = 4
myst_linkify_fuzzy_links = False

default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
toc_object_entries = False

html_theme = (
    "furo"  # one style sheet and one script, both in the site; dark, light and small screens
)
html_title = f"brainalign_jax {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
html_baseurl = ""

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "parallel": int(os.environ.get("DOCS_PROCESSES", "2")),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # that page loads its table from elsewhere
    "remove_config_comments": True,
    "backreferences_dir": None,
    "matplotlib_animations": False,
    "first_notebook_cell": "%matplotlib inline",
    "thumbnail_size": (400, 280),
    "copyfile_regex": "",
}


def _name_thumbnails(app, doctree) -> None:
    """The gallery's thumbnails have no text in their place: the example's name."""
    from docutils import nodes

    for image in doctree.findall(nodes.image):
        if not image.get("alt", "").strip():
            stem = Path(image["uri"]).stem.removeprefix("sphx_glr_").removesuffix("_thumb")
            image["alt"] = f"Figure of the example {stem.replace('_', ' ').removeprefix('plot ')}"


def setup(app) -> None:
    """Sphinx's."""
    app.connect("doctree-read", _name_thumbnails)
