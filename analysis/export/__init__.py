"""Recorded activations, tables and dissimilarity matrices in the formats of other programs: one file per format."""

from analysis.export.formats import FORMATS, Format
from analysis.export.sources import ExportedAnalysis, ExportedRun, open_source

__all__ = ["FORMATS", "ExportedAnalysis", "ExportedRun", "Format", "open_source"]
