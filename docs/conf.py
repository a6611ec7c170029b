"""The documentation site, built by Sphinx: `make docs` writes build/docs/html/index.html.

Sphinx, not MkDocs: the docstrings are numpydoc with roles and formulas, which Sphinx reads as they
stand.
Nothing is loaded from the network, and every page works from a folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "docs" / "_extensions"), str(ROOT)]

import itk_ncr  # noqa: E402

project = "itk_ncr"
copyright = "the itk_ncr authors, Apache-2.0"
release = itk_ncr.__version__

extensions = [
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx.ext.viewcode",
    "myst_nb",
    "sphinx_gallery.gen_gallery",
    "sphinx_design",
    "sphinx_copybutton",
    "mathml",
    "reference",
    "notebooks",
]
exclude_patterns = [
    "_extensions",
    "reproduction/work",
    "notebooks/data",
    "gallery/*.ipynb",
    "gallery/*.json",
    "gallery/*.py",
]
suppress_warnings = [
    "config.cache",  # the settings of the gallery hold a function
]

# Docstrings: numpydoc; types as they are written, without their modules.
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = False  # it fails where a signature is made from settings
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
viewcode_line_numbers = True

# Guides: Markdown that also reads well where it lies. Headings can be linked to.
myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 240
nb_merge_streams = True

# Where the scripts of the gallery write to, instead of into the source.
_scratch = tempfile.TemporaryDirectory(prefix="itk-ncr-gallery-")


def _arguments(_conf: dict, script_vars: dict) -> list[str]:
    """The arguments of a script of the gallery: where to write."""
    name = Path(script_vars["src_file"]).stem
    return [str(Path(_scratch.name) / (f"{name}.png" if name.startswith("draw_") else name))]


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"[\\/](?!cohort)\w+\.py$",  # what is executed
    "ignore_pattern": r"(^|[\\/])(phantom|pictures)\.py$",
    "nested_sections": False,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "image_srcset": [],
    "thumbnail_size": (320, 220),
    "reset_argv": _arguments,
    "abort_on_example_error": True,
    "remove_config_comments": True,
}

html_theme = "furo"
html_title = f"itk_ncr {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
templates_path: list[str] = []
pygments_style = "friendly"
