"""Linear-quadratic control, whose optimal policy, values and value gradients are known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, sqrt

import scipy.linalg
import torch
from torch import Tensor

from repsim.learning.checks import check_positive, check_range

__all__ = ["LinearQuadratic", "Riccati"]


@dataclass(frozen=True, eq=False)
class Riccati:
    """Optimal stable policy of a linear-quadratic problem.

    If a growing mode has no cost in Q, an unstable policy that lets it grow may have a lower cost.

    Attributes
    ----------
    P : Tensor, shape (n_states, n_states)
        Matrix of the value V*(x) = -xᵀPx, whose gradient is -2Px.
    K : Tensor, shape (n_controls, n_states)
        Gain of the policy u = -Kx.
    """

    P: Tensor
    K: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearQuadratic:
    """Linear dynamics x' = Ax + Bu with the reward r = -(xᵀQx + uᵀRu), without noise.

    Initial states are drawn from N(0, I).

    Attributes
    ----------
    A : Tensor of float64, shape (n_states, n_states)
    B : Tensor of float64, shape (n_states, n_controls)
    Q : Tensor of float64, shape (n_states, n_states)
        Symmetric and positive semidefinite.
    R : Tensor of float64, shape (n_controls, n_controls)
        Symmetric and positive definite.
    gamma : float
        Discount γ of one step, above 0, at most 1.

    Raises
    ------
    ValueError
        If a matrix has another type or shape, is not finite, or is not (semi)definite; or if gamma is out of range.

    Examples
    --------
    >>> import torch
    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> problem = LinearQuadratic(A=one, B=one, Q=one, R=one, gamma=1.0)
    >>> problem.optimum.P.item()  # the golden ratio
    1.618033988749...
    """

    A: Tensor
    B: Tensor
    Q: Tensor
    R: Tensor
    gamma: float

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("A", "B", "Q", "R"):
            _check_matrix(name, getattr(self, name))
        n, m = self.B.shape
        for name, shape in (("A", (n, n)), ("Q", (n, n)), ("R", (m, m))):
            _check_shape(name, getattr(self, name), shape, self.B)
        if _lowest_eigenvalue("Q", self.Q) < -1e-12 * float(self.Q.abs().max()):
            raise ValueError("Q has a negative eigenvalue; expected a positive semidefinite matrix.")
        if _lowest_eigenvalue("R", self.R) <= 0:
            raise ValueError("R is not positive definite; expected a matrix whose eigenvalues are all above 0.")
        check_positive("gamma", self.gamma)
        check_range("gamma", self.gamma, 0, 1)

    @property
    def n_states(self) -> int:
        """Dimension of a state."""
        return self.B.shape[0]

    @property
    def n_controls(self) -> int:
        """Dimension of a control."""
        return self.B.shape[1]

    @property
    def n_features(self) -> int:
        """Number of features of a state, which are the state itself."""
        return self.n_states

    def features(self, x: Tensor) -> Tensor:
        """Return the states themselves."""
        return x

    def dynamics(self, x: Tensor, u: Tensor) -> Tensor:
        """Return Ax + Bu, shape (..., n_states)."""
        return x @ self.A.T + u @ self.B.T

    def reward(self, x: Tensor, u: Tensor) -> Tensor:
        """Return -(xᵀQx + uᵀRu), shape (...)."""
        return -((x @ self.Q * x).sum(-1) + (u @ self.R * u).sum(-1))

    def draw_states(self, n: int, generator: torch.Generator) -> Tensor:
        """Return n states from N(0, I), shape (n, n_states)."""
        return torch.randn(n, self.n_states, dtype=torch.float64, generator=generator)

    @cached_property
    def optimum(self) -> Riccati:
        """Solution of the Riccati equation P = Q + γAᵀPA - γ²AᵀPB(R + γBᵀPB)⁻¹BᵀPA.

        Raises
        ------
        ValueError
            If the equation has no stabilising solution.
        """
        A, B = (sqrt(self.gamma) * each.numpy() for each in (self.A, self.B))
        try:
            P = torch.from_numpy(scipy.linalg.solve_discrete_are(A, B, self.Q.numpy(), self.R.numpy()))
        except scipy.linalg.LinAlgError as error:
            raise ValueError(
                "The Riccati equation has no stabilising solution; expected every mode with √γ|eigenvalue of A| ≥ 1 to "
                "be controllable through B, and those with exactly 1 to have a cost in Q. Change A, B or Q, or lower "
                "gamma."
            ) from error
        return Riccati(
            P, self.gamma * torch.linalg.solve(self.R + self.gamma * self.B.T @ P @ self.B, self.B.T @ P @ self.A)
        )

    def is_stable(self, gain: Tensor) -> bool:
        """Return whether the policy u = -Kx has √γ(A - BK) with all eigenvalues inside the unit circle."""
        return bool(torch.linalg.eigvals(self._closed_loop(gain)).abs().max() < 1)

    def value_matrix(self, gain: Tensor) -> Tensor:
        """Return the matrix of a linear policy's value V(x) = -xᵀPx; the value gradient is ∂V/∂x = -2Px.

        P solves the Lyapunov equation P = Q + KᵀRK + γ(A - BK)ᵀP(A - BK).

        Parameters
        ----------
        gain : Tensor, shape (n_controls, n_states)
            K, of the policy u = -Kx.

        Returns
        -------
        Tensor, shape (n_states, n_states)

        Raises
        ------
        ValueError
            If the policy is not stable.
        """
        if not self.is_stable(gain):
            raise ValueError(
                "The gain does not stabilise the system: √γ(A - BK) has an eigenvalue of modulus 1 or more, so the "
                "policy has no finite value. Use a stabilising gain, such as that of `optimum`."
            )
        K = gain.detach()
        stage = (self.Q + K.T @ self.R @ K).numpy()
        return torch.from_numpy(scipy.linalg.solve_discrete_lyapunov(self._closed_loop(gain).T.numpy(), stage))

    def value_gradient(self, gain: Tensor, x: Tensor) -> Tensor:
        """Return the exact ∂V/∂x = -2Px of the policy u = -Kx at states x, shape (..., n_states)."""
        return -2 * x @ self.value_matrix(gain)

    def cost(self, gain: Tensor, covariance: Tensor | None = None) -> float:
        """Return the expected discounted cost E[-V(x₀)] = tr(PΣ) of a linear policy.

        Parameters
        ----------
        gain : Tensor, shape (n_controls, n_states)
            K, of the policy u = -Kx.
        covariance : Tensor, shape (n_states, n_states), optional
            Σ = E[x₀x₀ᵀ] of the initial states; by default the identity.

        Returns
        -------
        float
            0 or more; infinite for every unstable policy, even if the growing mode has no cost.
        """
        if not self.is_stable(gain):
            return inf
        P = self.value_matrix(gain)
        return float(P.trace() if covariance is None else (P * covariance).sum())

    def _closed_loop(self, gain: Tensor) -> Tensor:
        return sqrt(self.gamma) * (self.A - self.B @ gain.detach())


def _check_matrix(name: str, value: object) -> None:
    if not isinstance(value, Tensor) or value.dtype != torch.float64 or value.ndim != 2 or value.numel() == 0:
        given = f"a {value.dtype} tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
        raise ValueError(f"{name} is {given}; expected a matrix of torch.float64. Create it with dtype=torch.float64.")
    if not value.isfinite().all():
        raise ValueError(f"{name} holds values that are not finite; expected finite numbers.")


def _check_shape(name: str, value: Tensor, shape: tuple[int, int], B: Tensor) -> None:
    if value.shape != shape:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} and B {tuple(B.shape)}; expected shape {shape} "
            f"of {name}, as B is (n_states, n_controls)."
        )


def _lowest_eigenvalue(name: str, value: Tensor) -> float:
    if not torch.allclose(value, value.T, rtol=1e-12, atol=0):
        raise ValueError(f"{name} is not symmetric; expected a symmetric matrix. Use ({name} + {name}.T) / 2.")
    return float(torch.linalg.eigvalsh(value).min())
