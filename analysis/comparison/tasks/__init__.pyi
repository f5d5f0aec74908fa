"""Names that the package offers; each is imported on first use."""

from .analysis_cache import AnalysisCache as AnalysisCache
from .analysis_plan import AnalysisPlan as AnalysisPlan
from .plan import AnalysisTasks as AnalysisTasks
from .plan import plan_tasks as plan_tasks
from .source import Source as Source
