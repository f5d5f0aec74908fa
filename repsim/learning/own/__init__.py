"""Registration of the user's own rules, networks, data sets, losses, optimizers and schedules."""

from repsim.learning.own.learning_entries import register_rule

__all__ = ["register_rule"]
