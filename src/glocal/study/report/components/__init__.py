"""Style and scripts that the report and the page of `glocal serve` share.

Each script is an ES module without imports, so that `script` can put it into a page as it is.
"""

import re
from pathlib import Path

__all__ = ["COMPONENTS", "script", "style"]

COMPONENTS = Path(__file__).parent


def style(name: str) -> str:
    """Return a style sheet."""
    return (COMPONENTS / f"{name}.css").read_text(encoding="utf-8")


def script(name: str) -> str:
    """Return a module to stand in a script element: its functions without `export`."""
    text = (COMPONENTS / f"{name}.js").read_text(encoding="utf-8")
    return re.sub(r"^export ", "", text, flags=re.MULTILINE)
