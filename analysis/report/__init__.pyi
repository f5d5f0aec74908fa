"""Names that the package offers; each is imported on first use."""

from .page import write_report as write_report
