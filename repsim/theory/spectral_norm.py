"""Lower and upper bounds of the spectral norm of a matrix that is given as a linear operator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.linalg import eigvalsh_tridiagonal
from torch import Tensor

__all__ = ["DOUBT", "spectral_norm"]

DOUBT = 1e-6  # probability, over random starts, that an upper bound is below the norm


def spectral_norm(gram: Callable[[Tensor], Tensor], like: Tensor, tolerance: float) -> tuple[float, float]:
    """Return a lower and an upper bound of ‖J‖₂, given u ↦ J Jᵀ u (or v ↦ Jᵀ J v), by the Lanczos method.

    The largest Ritz value λ̂ of k steps never exceeds the largest eigenvalue λ of the n × n matrix J Jᵀ. For a start
    uniform on the sphere it is at least λ / cosh²(arcosh(√(2n/π) / p) / (2k − 1)) with probability 1 − p, for all k at
    once and for every spectrum; p is ``DOUBT``. The number of steps is chosen so that the cosh is below 1 + tolerance.
    Fewer steps are made if they exhaust the Krylov space of the start. Both bounds then equal the norm up to rounding,
    unless the component of the start along the first eigenvector is below rounding (in float32, for matrices with few
    distinct eigenvalues, with a probability of about n · 1e-7). The lower bound is usually far more accurate than
    the upper bound guarantees.

    Power iteration has the same lower bound, and an upper bound that falls with 1/k instead of 1/k².

    Parameters
    ----------
    gram : callable
        Maps a vector (n,) to a vector (n,).
    like : Tensor, shape (n,)
        A vector of the type and device of those vectors; its values are not used.
    tolerance : float
        Largest relative distance of the bounds, above 0. k ≈ 7 / √tolerance vectors are stored.

    Returns
    -------
    lower, upper : float
        ``upper`` ≤ (1 + tolerance) ``lower``.

    Raises
    ------
    ArithmeticError
        If a product is not finite.

    Notes
    -----
    Let b₁ be the share of the start in the first eigenvector, and λ̂ < (1 − ε) λ. Then Σ (λᵢ − (1 − ε) λ) q(λᵢ)² bᵢ² < 0
    for every polynomial q of degree k − 1. For q(λ) = T(s) / s, where T is the Chebyshev polynomial of degree 2k − 1
    and s² = 1 − λ / (1 − ε) λ₁, b₁² < 1 / cosh²((2k − 1) artanh √ε) follows; and |b₁| < a has a probability of at most
    a √(2n/π).

    References
    ----------
    After Kuczyński, Woźniakowski (1992), Estimating the largest eigenvalue by the power and Lanczos algorithms with a
    random start.

    Examples
    --------
    >>> J = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    >>> lower, upper = spectral_norm(lambda u: J @ (J.T @ u), torch.zeros(3), tolerance=0.05)
    >>> round(lower, 4), round(upper, 4)
    (3.0, 3.0)
    """
    n = len(like)
    doubt = math.acosh(max(1.0, math.sqrt(2 * n / math.pi)) / DOUBT)
    n_steps = min(n, math.ceil((doubt / math.acosh(1 + tolerance) + 1) / 2))
    diagonal, off_diagonal, is_exhausted = _tridiagonalise(gram, like, n_steps)
    largest = float(eigvalsh_tridiagonal(diagonal, off_diagonal)[-1])
    lower = math.sqrt(max(0.0, largest))
    return lower, lower if is_exhausted else lower * math.cosh(doubt / (2 * len(diagonal) - 1))


def _tridiagonalise(
    gram: Callable[[Tensor], Tensor], like: Tensor, n_steps: int
) -> tuple[list[float], list[float], bool]:
    """Return the diagonal and off-diagonal of Qᵀ J Jᵀ Q, and whether Q spans the Krylov space of the start."""
    n, diagonal, off_diagonal = len(like), list[float](), list[float]()
    Q = like.new_empty(n_steps, n)
    start = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(like)
    w, size = start, start.norm()
    rounding = torch.finfo(like.dtype).eps * math.sqrt(n)
    for k in range(n_steps):
        Q[k] = w / size
        w, done = gram(Q[k]), Q[: k + 1]
        along = done @ w
        w = w - along @ done
        w = w - (done @ w) @ done  # a second time, because of cancellation
        size = w.norm()
        diagonal.append(float(along[k]))
        if not math.isfinite(diagonal[-1]):
            raise ArithmeticError(
                "A product with the Jacobian is not finite; the training has probably diverged. Use an earlier step."
            )
        if size <= rounding * max(diagonal):
            return diagonal, off_diagonal, True
        off_diagonal.append(float(size))
    return diagonal, off_diagonal[:-1], n_steps == n
