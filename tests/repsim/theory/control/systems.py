"""Linear systems with quadratic costs, for tests of control."""

import torch
from torch import Tensor

from repsim.theory.control import LinearQuadratic


def matrix(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


INTEGRATOR = LinearQuadratic(
    A=matrix([[1.0, 0.1], [0.0, 1.0]]),
    B=matrix([[0.0], [0.1]]),
    Q=matrix([[1, 0], [0, 1]]),
    R=matrix([[0.1]]),
    gamma=0.95,
)
UNSTABLE = LinearQuadratic(  # the largest eigenvalue of A is 1.12
    A=matrix([[1.05, 0.2, 0, 0], [0, 0.95, 0.1, 0], [0, 0, 1, 0.2], [0.1, 0, -0.1, 1]]),
    B=matrix([[0, 0], [0.4, 0], [0, 0.1], [0, 0.4]]),
    Q=torch.diag(torch.tensor([1.0, 0.1, 1.0, 0.0], dtype=torch.float64)),
    R=matrix([[0.2, 0.05], [0.05, 0.3]]),
    gamma=0.98,
)
