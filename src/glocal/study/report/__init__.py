"""An evaluation to read: tables, a Markdown file, a page with pictures."""

from glocal.study.report.files import write_report
from glocal.study.report.markdown import markdown
from glocal.study.report.page import page

__all__ = ["markdown", "page", "write_report"]
