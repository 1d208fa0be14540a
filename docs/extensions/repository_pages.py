"""Pages of the repository outside of docs/, as pages of the site, and links that lead there.

Links in Markdown are those of the repository, so that they work in a checkout too. On the site a
link to a page below leads to that page; Sphinx offers any other file for download.
"""

import os
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
COPIES = DOCS / "generated" / "repository"

PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "examples/LICENSES.md",
    "experiments/architectures/README.md",
    "experiments/default_model/README.md",
    "experiments/default_model/photographs.md",
    "experiments/maxim/README.md",
    "experiments/photograph_model/README.md",
    "experiments/replication/README.md",
    "integrations/comfyui/README.md",
    "src/glocal/weights/nafnet-motion-blur.md",
)
README = ROOT / "README.md"  # the front page of the repository; index.md is that of the site

_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def copy_of(page: str) -> Path:
    """Where the copy of a page lies."""
    return COPIES / page


def with_links(text: str, source: Path, target: Path) -> str:
    """The text of `source` with links as they are in `target`."""

    def replace(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        linked = (source.parent / path).resolve()
        if linked.is_dir() and (linked / "README.md").is_file():
            linked /= "README.md"
        if linked == README:
            linked, anchor = DOCS / "index.md", ""
        if linked.is_relative_to(ROOT) and str(linked.relative_to(ROOT)) in PAGES:
            linked = copy_of(str(linked.relative_to(ROOT)))
        return f"]({Path(os.path.relpath(linked, target.parent)).as_posix()}{anchor})"

    return _LINK.sub(replace, text)


def write_pages(app: Any) -> None:
    """Copy the pages, where they changed."""
    for page in PAGES:
        source, target = ROOT / page, copy_of(page)
        text = with_links(source.read_text(), source, target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_text() != text:
            target.write_text(text)


def read_page(app: Any, name: str, content: list[str]) -> None:
    """Mend the links of a page in docs/."""
    path = Path(app.env.doc2path(name))
    if path.suffix == ".md" and not path.is_relative_to(COPIES):
        content[0] = with_links(content[0], path, path)


def setup(app: Any) -> dict[str, Any]:
    """Copy pages before Sphinx looks for them."""
    app.connect("builder-inited", write_pages)
    app.connect("source-read", read_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
