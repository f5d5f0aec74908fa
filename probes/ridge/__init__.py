"""Ridge probes, of classes and of continuous targets: one eigendecomposition gives every penalty its exact error."""

from probes.ridge.classifier import RidgeProbe
from probes.ridge.path import RidgePath, ridge_path
from probes.ridge.regressor import RegressionProbe

__all__ = ["RegressionProbe", "RidgePath", "RidgeProbe", "ridge_path"]
