"""An evaluation to read: tables, a Markdown file, a page with pictures."""

from glocal.report.files import write_report
from glocal.report.markdown import markdown
from glocal.report.page import page

__all__ = ["markdown", "page", "write_report"]
