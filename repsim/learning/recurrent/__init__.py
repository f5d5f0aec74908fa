"""Training of recurrent networks: rules between windows of time steps, and the moment of the update."""

from repsim.learning.recurrent.window_rules import check_online, check_without_inputs, shared_estimator
from repsim.learning.recurrent.window_tape import WindowTape
from repsim.learning.recurrent.window_updates import update_after_windows

__all__ = ["WindowTape", "check_online", "check_without_inputs", "shared_estimator", "update_after_windows"]
