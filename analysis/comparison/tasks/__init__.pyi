"""Names that the package offers; each is imported on first use."""

from .analysis_cache import AnalysisCache as AnalysisCache
from .analysis_tasks import AnalysisTasks as AnalysisTasks
from .source import Source as Source
