"""Line search: steps that are made only where they lower the loss, for gradients with errors."""

from repsim.learning.line_search.line_search import LineSearch, SearchedStep, largest_error_ratio
from repsim.learning.line_search.trial_losses import TrialLosses, refuse_unsearchable

__all__ = ["LineSearch", "SearchedStep", "TrialLosses", "largest_error_ratio", "refuse_unsearchable"]
