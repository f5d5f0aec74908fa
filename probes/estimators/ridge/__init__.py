"""Ridge probes of classes and of continuous targets, with exact leave-one-out errors from one eigendecomposition."""

from probes.estimators.ridge.classifier import RidgeProbe
from probes.estimators.ridge.leave_one_out import RidgePath, ridge_path
from probes.estimators.ridge.regressor import RegressionProbe

__all__ = ["RegressionProbe", "RidgePath", "RidgeProbe", "ridge_path"]
