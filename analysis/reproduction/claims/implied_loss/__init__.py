"""E6: the loss that a synthetic gradient implies, beside the true one, for one unit and inside a network."""

from analysis.reproduction.claims.implied_loss.experiment import IMPLIED_LOSS

__all__ = ["IMPLIED_LOSS"]
