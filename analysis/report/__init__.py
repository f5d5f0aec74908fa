"""The report of an analysis: one interactive HTML page that holds all it needs."""

from analysis.report.writing import write_report

__all__ = ["write_report"]
