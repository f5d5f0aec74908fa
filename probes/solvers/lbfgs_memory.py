"""Memory of L-BFGS for many objectives: recent steps and changes of gradient, in compact form."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dtrtrs
from torch import Tensor

from probes.solvers.feature_products import dot, on_cpu

Array = NDArray[np.float64]

PAIRS = 30  # more than usual, since a pass over the data costs far more than a pair
LEAST_CURVATURE = 1e-10


class LbfgsMemory:
    r"""The last steps s and changes of gradient y of P objectives with q unknowns each.

    The inverse Hessian that they imply is applied by its compact representation, with
    :math:`R_{ij} = s_i^\top y_j` for :math:`i \le j`, :math:`D = \mathrm{diag}(s_i^\top y_i)` and
    :math:`u = R^{-1} S^\top g`,

    .. math:: H g = \gamma g + S R^{-\top} \left( (D + \gamma Y^\top Y) u - \gamma Y^\top g \right) - \gamma Y u .

    Parameters
    ----------
    gamma : array, shape (P,)
        The initial inverse curvature.
    like : Tensor, shape (P, q)
        A tensor of the precision and device that pairs are stored in.

    References
    ----------
    Byrd, Nocedal and Schnabel (1994). Representations of quasi-Newton matrices and their use in limited memory methods.
    Math. Program. 63, theorem 2.2.
    """

    def __init__(self, gamma: Array, like: Tensor) -> None:
        n_problems, n_unknowns = like.shape
        self._pairs = like.new_zeros(n_problems, 2 * PAIRS, n_unknowns)  # each s before its y, in a ring
        # Products of pairs, the oldest first: s_i' y_j for i <= j, and y_i' y_j.
        self._sy, self._yy = np.zeros((2, n_problems, PAIRS, PAIRS))
        self._gamma = gamma.copy()
        self._n = 0  # pairs seen

    def fill(self, S: Tensor, Y: Tensor) -> None:
        """Store m <= PAIRS steps and changes of gradient at once, both (P, m, q), the oldest first; zeros are no pair.

        The memory is empty before.
        """
        curved = self._are_curved(*(on_cpu(torch.linalg.vecdot(*pair)) for pair in ((S, Y), (S, S), (Y, Y))))
        kept = torch.as_tensor(curved, device=S.device)[:, :, None]
        S, Y = torch.where(kept, S, 0.0), torch.where(kept, Y, 0.0)
        self._n = m = S.shape[1]
        self._pairs[:, 0 : 2 * m : 2], self._pairs[:, 1 : 2 * m : 2] = S, Y
        self._sy[:, :m, :m], self._yy[:, :m, :m] = on_cpu(S @ Y.mT), on_cpu(Y @ Y.mT)
        diagonal = np.arange(m)
        for p in np.flatnonzero(curved.any(axis=1)):
            last = np.flatnonzero(curved[p])[-1]
            self._gamma[p] = self._sy[p, last, last] / self._yy[p, last, last]
        self._sy[:, diagonal, diagonal] += ~curved

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """The steps and the changes of gradient, both (P, m, q), the oldest first; left-out pairs are zero."""
        order = torch.as_tensor(self._order(), device=self._pairs.device)
        return self._pairs[:, 2 * order], self._pairs[:, 2 * order + 1]

    def pairs_of(self, p: int) -> tuple[Tensor, Tensor]:
        """Return the steps and the changes of gradient of one problem, both (m, q), the oldest first."""
        order = torch.as_tensor(self._order(), device=self._pairs.device)
        return self._pairs[p, 2 * order], self._pairs[p, 2 * order + 1]

    def remember(self, s: Tensor, y: Tensor) -> None:
        """Store a step and its change of gradient, both (P, q), except for problems without positive curvature."""
        place, last = self._n % PAIRS, min(self._n, PAIRS - 1)
        self._n += 1
        self._pairs[:, 2 * place], self._pairs[:, 2 * place + 1] = s, y
        if self._n > PAIRS:
            self._sy[:, :-1, :-1], self._yy[:, :-1, :-1] = self._sy[:, 1:, 1:].copy(), self._yy[:, 1:, 1:].copy()
        Sy, Yy = self._products(y)
        self._sy[:, : last + 1, last] = Sy
        self._yy[:, : last + 1, last] = self._yy[:, last, : last + 1] = Yy
        sy, yy, ss = Sy[:, last], Yy[:, last], on_cpu(dot(s, s))
        curved = self._are_curved(sy, ss, yy)
        self._gamma = np.where(curved, sy / np.where(curved, yy, 1.0), self._gamma)
        if not curved.all():
            self._leave_out(~curved, place, last)

    def direction(self, g: Tensor) -> Tensor:
        """Return −H g, shape (P, q)."""
        gamma = _like(self._gamma[:, np.newaxis], g)
        if not self._n:
            return -gamma * g
        order = self._order()
        shares = np.empty((len(g), len(order), 2))
        for p, (Sg, Yg) in enumerate(zip(*self._products(g), strict=True)):
            shares[p, order] = np.column_stack(self._shares(p, Sg, Yg))
        combined = torch.matmul(_like(shares.reshape(len(g), 1, -1), g), self._used())[:, 0]
        return combined.addcmul_(g, -gamma)

    @staticmethod
    def _are_curved(sy: Array, ss: Array, yy: Array) -> NDArray[np.bool_]:
        return sy > LEAST_CURVATURE * np.sqrt(ss * yy)

    def _shares(self, p: int, Sg: Array, Yg: Array) -> tuple[Array, Array]:
        """Return the coefficients of the steps and of the changes of gradient in the direction of one problem."""
        m = len(Sg)
        R, YY, gamma = self._sy[p, :m, :m], self._yy[p, :m, :m], self._gamma[p]
        u = _solved(R, Sg)
        return -_solved(R, R.diagonal() * u + gamma * (YY @ u - Yg), transposed=True), gamma * u

    def _products(self, v: Tensor) -> Array:
        """Return the products of v (P, q) with steps and with changes of gradient, the oldest first: (2, P, m)."""
        products = on_cpu(torch.matmul(self._used(), v[:, :, None])).reshape(len(v), -1, 2)
        return products[:, self._order()].transpose(2, 0, 1)

    def _used(self) -> Tensor:
        return self._pairs[:, : 2 * min(self._n, PAIRS)]

    def _order(self) -> NDArray[np.intp]:
        """Return the places of the pairs, the oldest first."""
        m = min(self._n, PAIRS)
        return (np.arange(m) + self._n) % m

    def _leave_out(self, which: NDArray[np.bool_], place: int, last: int) -> None:
        """Exclude the last pair of some problems from all sums."""
        self._pairs[torch.as_tensor(which, device=self._pairs.device), 2 * place : 2 * place + 2] = 0.0
        self._sy[which, :, last] = 0.0
        self._sy[which, last, last] = 1.0
        self._yy[which, :, last] = self._yy[which, last, :] = 0.0

    def forget(self, which: NDArray[np.bool_]) -> None:
        """Drop all pairs of some problems."""
        self._pairs[torch.as_tensor(which, device=self._pairs.device)] = 0.0
        self._yy[which], self._sy[which] = 0.0, np.eye(PAIRS)

    def only(self, which: NDArray[Any]) -> None:
        """Keep only the problems at the given positions."""
        self._pairs = self._pairs[torch.as_tensor(which, device=self._pairs.device)]
        self._sy, self._yy, self._gamma = self._sy[which], self._yy[which], self._gamma[which]


def _solved(R: Array, b: Array, *, transposed: bool = False) -> Array:
    """Solve R x = b, or R' x = b, where R is upper triangular."""
    x: Array = dtrtrs(R, b, trans=int(transposed))[0]  # entries below the diagonal are ignored
    return x


def _like(values: Array, other: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=other.dtype, device=other.device)
