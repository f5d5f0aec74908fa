"""Global minimum of the loss of linear and deep linear networks."""

from __future__ import annotations

import torch
from torch import Tensor

from repsim.learning.checks import check_integer

__all__ = ["least_squares_loss"]


def least_squares_loss(X: Tensor, Y: Tensor, *, rank: int | None = None) -> float:
    """Return the minimal mean squared error of a (deep) linear network, Y ≈ X Wᵀ + b with W of at most a given rank.

    With Ŷ the least squares fit of the centred Y on the centred X, it is
    1/N (‖Y − Ŷ‖² + Σ_{j > rank} σ_j(Ŷ)²), summed over outputs like the loss "mse".

    Parameters
    ----------
    X : Tensor, shape (N, n_features)
    Y : Tensor, shape (N, n_outputs)
        Regression targets, or one-hot classes.
    rank : int, optional
        Smallest width of the network, 0 or more; by default unlimited.

    Raises
    ------
    ValueError
        If X and Y are not matrices with equally many rows, or the rank is not a whole number of 0 or more.

    References
    ----------
    Baldi and Hornik (1989), Neural networks and principal component analysis.

    Examples
    --------
    >>> import torch
    >>> X = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> [round(least_squares_loss(X, X * torch.tensor([3.0, 2.0]), rank=r), 9) for r in (0, 1, 2)]
    [13.0, 4.0, 0.0]
    """
    if X.ndim != 2 or Y.ndim != 2 or len(X) != len(Y):
        raise ValueError(
            f"X has shape {tuple(X.shape)} and Y {tuple(Y.shape)}; expected (N, n_features) and (N, n_outputs). "
            "Pass classes as one-hot rows."
        )
    if rank is not None:
        check_integer("rank", rank, 0)
    X, Y = X.double() - X.double().mean(dim=0), Y.double() - Y.double().mean(dim=0)
    fitted = X @ (torch.linalg.pinv(X) @ Y)
    lost = torch.linalg.svdvals(fitted)[len(Y) if rank is None else rank :]
    return float((Y - fitted).square().sum() + lost.square().sum()) / len(Y)
