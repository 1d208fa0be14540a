"""Sphinx builds the documentation with this: `make docs`. It needs no network."""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "extensions"))
os.environ.setdefault("COLUMNS", "100")  # width of tables that the gallery prints
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait take no time from others

project = "glocal"
author = "The glocal authors"
project_copyright = "2026, the glocal authors"
version = release = version_of("glocal")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "command_reference",
    "repository_pages",
]
exclude_patterns = ["extensions", "benchmarks/*.json", "gallery/*.ipynb", "gallery/*.py"]
suppress_warnings = [
    "config.cache",  # options that are functions or tables of Python
]

smartquotes = False  # they would make a dash of --option

# Markdown
highlight_language = "text"  # of blocks that name none: commands
myst_enable_extensions = ["colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# Docstrings: single backticks name objects of Python, or are code
default_role = "py:obj"
add_module_names = False
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source"]
templates_path = ["templates"]

# Every example runs while the site is built; one that fails ends the build.
sphinx_gallery_conf = {
    "examples_dirs": ["../examples/gallery"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "remove_config_comments": True,
    "min_reported_time": 1e9,  # times are those of one machine
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
    "image_scrapers": ("matplotlib",),
    "capture_repr": (),
    "reset_modules": ("matplotlib", "gallery_style.apply"),
    "plot_gallery": True,
}

# Pages
html_theme = "furo"
html_title = "glocal"
html_static_path = ["static"]
html_css_files = ["glocal.css"]
html_logo = "images/logo.svg"
html_favicon = "images/logo.svg"
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1d6fb8", "color-brand-content": "#1d6fb8"},
    "dark_css_variables": {"color-brand-primary": "#6cb6ff", "color-brand-content": "#6cb6ff"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
