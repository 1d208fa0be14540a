"""Reports of an evaluation: tables, a Markdown file, an HTML page with pictures."""

from glocal.study.report.files import write_report
from glocal.study.report.markdown import markdown
from glocal.study.report.page import page
from glocal.study.report.render import require_jinja2

__all__ = ["markdown", "page", "require_jinja2", "write_report"]
