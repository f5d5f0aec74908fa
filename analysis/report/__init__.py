"""Report of a comparison: one interactive HTML page that works offline."""

from analysis.report.page import write_report

__all__ = ["write_report"]
