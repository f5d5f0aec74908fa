"""E2: whether linear and deep linear models on artificial data end with synthetic gradients where backprop does."""

from analysis.reproduction.claims.artificial.experiment import ARTIFICIAL_DATA

__all__ = ["ARTIFICIAL_DATA"]
