"""Line search: steps that are made only where they lower the loss, for gradients with errors."""

from repsim.learning.line_search.line_search import LineSearch, SearchedStep, largest_error_ratio
from repsim.learning.line_search.trials import Trials, refuse_unsearchable

__all__ = ["LineSearch", "SearchedStep", "Trials", "largest_error_ratio", "refuse_unsearchable"]
