"""What L-BFGS remembers of the curvature of many objectives, in compact form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

PAIRS = 30  # steps remembered: more than usual, since a pass over the data costs far more than a pair
LEAST_CURVATURE = 1e-10


class Memory:
    r"""The last steps s and changes of slope y of P objectives with q unknowns each.

    The inverse Hessian that they imply is applied by its compact representation, with
    :math:`R_{ij} = s_i^\top y_j` for :math:`i \le j`, :math:`D = \mathrm{diag}(s_i^\top y_i)` and
    :math:`u = R^{-1} S^\top g`,

    .. math:: H g = \gamma g + S R^{-\top} \left( (D + \gamma Y^\top Y) u - \gamma Y^\top g \right) - \gamma Y u .

    Parameters
    ----------
    n_problems, n_unknowns : int
        P and q.
    gamma : array, shape (P,)
        The inverse curvature to start with.
    like : Tensor
        Whose precision and device the pairs have.

    References
    ----------
    Byrd, Nocedal and Schnabel (1994). Representations of quasi-Newton matrices and their use in limited memory methods.
    Math. Program. 63, theorem 2.2.
    """

    def __init__(self, n_problems: int, n_unknowns: int, gamma: Array, like: Tensor) -> None:
        self._S, self._Y = like.new_zeros(2, n_problems, PAIRS, n_unknowns)
        self._sy = np.zeros((n_problems, PAIRS, PAIRS))  # s_i' y_j where i is not later than j
        self._yy = np.zeros((n_problems, PAIRS, PAIRS))
        self._gamma = gamma.copy()
        self._n = 0  # updates made

    def direction(self, g: Tensor) -> Tensor:
        """Return −H g, shape (P, q)."""
        gamma = self._gamma[:, np.newaxis]
        if not self._n:
            return g * _like(-gamma, g)
        order = self._in_order()
        S, Y = self._S[:, : len(order)], self._Y[:, : len(order)]
        Sg, Yg = (_on_cpu(torch.matmul(each, g[:, :, None])[:, :, 0])[:, order, np.newaxis] for each in (S, Y))
        R = np.triu(self._sy[:, order][:, :, order])
        YY = self._yy[:, order][:, :, order]
        diagonal = np.einsum("pii->pi", R)[:, :, np.newaxis]
        u = np.linalg.solve(R, Sg)
        of_S = np.linalg.solve(R.transpose(0, 2, 1), diagonal * u + gamma[..., np.newaxis] * (YY @ u - Yg))
        to_S, to_Y = np.empty((2, *of_S.shape[:2]))
        to_S[:, order], to_Y[:, order] = of_S[:, :, 0], -gamma * u[:, :, 0]
        combined = torch.matmul(_like(to_S, g)[:, None], S) + torch.matmul(_like(to_Y, g)[:, None], Y)
        return -(combined[:, 0] + g * _like(gamma, g))

    def update(self, s: Tensor, y: Tensor) -> None:
        """Remember a step and the change of slope along it, both (P, q); where the curvature is none, nothing."""
        place = self._n % PAIRS
        self._n += 1
        sy, yy, ss = (_on_cpu((a * b).sum(1)) for a, b in ((s, y), (y, y), (s, s)))
        curved = sy > LEAST_CURVATURE * np.sqrt(ss * yy)
        mask = torch.as_tensor(curved, device=s.device)[:, None]
        self._S[:, place], self._Y[:, place] = torch.where(mask, s, 0.0), torch.where(mask, y, 0.0)
        column = self._Y[:, place, :, None]
        self._sy[:, :, place] = _on_cpu(torch.matmul(self._S, column)[:, :, 0])
        self._yy[:, :, place] = self._yy[:, place, :] = _on_cpu(torch.matmul(self._Y, column)[:, :, 0])
        self._sy[:, place, place] = np.where(curved, sy, 1.0)  # what is not remembered has no part in any sum
        self._gamma = np.where(curved, sy / np.where(curved, yy, 1.0), self._gamma)

    def forget(self, which: NDArray[np.bool_]) -> None:
        """Start anew with some problems."""
        keep = torch.as_tensor(~which, device=self._S.device)[:, None, None]
        self._S, self._Y = self._S * keep, self._Y * keep
        self._yy[which], self._sy[which] = 0.0, np.eye(PAIRS)

    def only(self, which: NDArray[Any]) -> None:
        """Go on with some problems."""
        index = torch.as_tensor(which, device=self._S.device)
        self._S, self._Y = self._S[index], self._Y[index]
        self._sy, self._yy, self._gamma = self._sy[which], self._yy[which], self._gamma[which]

    def _in_order(self) -> NDArray[np.intp]:
        """Return the places of the pairs, the oldest first."""
        if self._n <= PAIRS:
            return np.arange(self._n)
        return (np.arange(PAIRS) + self._n) % PAIRS


def _like(values: Array, other: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=other.dtype, device=other.device)


def _on_cpu(values: Tensor) -> Array:
    return values.double().cpu().numpy()
