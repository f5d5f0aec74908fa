"""Recorded activations, tables and dissimilarity matrices in the formats of other programs: one small file a format."""

from analysis.export.formats import FORMATS, Format
from analysis.export.sources import Analysis, Recording, open_source

__all__ = ["FORMATS", "Analysis", "Format", "Recording", "open_source"]
