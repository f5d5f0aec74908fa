"""E6: the loss that a synthetic gradient implies, beside the true one, for one unit and inside a network."""

from analysis.experiments.implied_loss.experiment import IMPLIED_LOSS

__all__ = ["IMPLIED_LOSS"]
