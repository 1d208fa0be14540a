"""Fill the report templates; the only module that imports Jinja2 (extra `plots`).

Every value is escaped: by Jinja2's autoescape in HTML, by `escape_markdown` in Markdown.
"""

import re
from typing import Any

from glocal.errors import ArgumentError
from glocal.study.report.components import script, style

__all__ = ["escape_markdown", "render", "require_jinja2"]


def require_jinja2() -> None:
    """Check that Jinja2 is installed.

    Raises:
        ArgumentError: it is not.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise ArgumentError(
            'reports need the package Jinja2, which is missing: pip install "glocal[plots]"'
        ) from None


def render(template: str, **values: Any) -> str:
    """Return a template of this package filled with values.

    Args:
        template: file name in the folder `templates`; its ending selects the escaping.
        values: by the names that the template uses.

    Raises:
        ArgumentError: Jinja2 is not installed.
    """
    require_jinja2()
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        """Escape a value for Markdown unless a filter has marked it as safe."""
        return value if isinstance(value, Markup) else escape_markdown(str(value))

    html = template.endswith(".html")
    environment = Environment(
        loader=PackageLoader("glocal.study.report"),
        autoescape=html,
        finalize=None if html else finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["style"] = lambda name: Markup(style(name))
    environment.globals["script"] = lambda name: Markup(script(name))
    environment.filters["bold"] = lambda text: Markup(f"**{escape_markdown(text)}**")
    environment.filters["fenced"] = lambda text: Markup(_fenced(text))
    return environment.get_template(template).render(values)


def escape_markdown(text: str) -> str:
    r"""Return a text in one line with Markdown's special characters escaped.

    >>> print(escape_markdown("a_b|c <i>"))
    a\_b\|c \<i\>
    """
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _fenced(text: str) -> str:
    """Return a text as a code block, in a fence longer than any in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
