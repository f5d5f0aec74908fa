"""Space of the examples: the same probe with fewer unknowns, where features are far more than examples."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.features import row_blocks
from probes.solvers import Fit
from probes.solvers.certificate import certify
from probes.solvers.fit import fit_of

# The decomposition pays from twice as many features as examples on, and up to so many examples.
WIDE, MOST_EXAMPLES = 2, 5000
# Eigenvalues of the Gram matrix below this, relative to the largest, are rounding.
RANK = 1e-12


def pays(X: Any, n_fits: int) -> bool:
    """Return whether decomposing the Gram matrix costs less than it saves in `n_fits` fits.

    Examples
    --------
    >>> pays(np.empty((10, 20)), 3), pays(np.empty((10, 20)), 1), pays(np.empty((20, 10)), 3)
    (True, False, False)
    """
    n, d = X.shape
    return n_fits > 1 and WIDE * n <= d and n <= MOST_EXAMPLES


class ExampleSpace:
    r"""Features (n, d) as coordinates (n, r) in the space that the examples span.

    With :math:`X X^\top = U \Lambda U^\top` the coordinates are :math:`U \Lambda^{1/2}`. The optimal W lies in that
    space, so its coefficients there have the same logits and the same norm (the representer theorem).

    `X`, in the constructor an array (n, d) or an object whose slices are such arrays, is afterwards the coordinates.

    References
    ----------
    Hastie and Tibshirani (2004). Efficient quadratic regularization for expression arrays. Biostatistics 5.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(4, 9))
    >>> Z = ExampleSpace(X).X
    >>> Z.shape, bool(np.allclose(Z @ Z.T, X @ X.T))
    ((4, 4), True)
    """

    def __init__(self, X: Any) -> None:
        n = X.shape[0]
        gram = np.empty((n, n))
        for rows, block in row_blocks(X):
            for columns, other in row_blocks(X):
                gram[rows, columns] = block @ other.T
        values, vectors = np.linalg.eigh(gram)
        spanned = values > RANK * max(values[-1], 0.0)
        self._full = X
        self._vectors, self._lengths = vectors[:, spanned], np.sqrt(values[spanned])
        self.X = self._vectors * self._lengths

    def reduced(self, fit: Fit) -> Fit:
        """Return a fit of the features as a fit of the coordinates; components that no example has are lost."""
        logits = np.concatenate([block @ fit.coef.T for _, block in row_blocks(self._full)])  # (n, R)
        return replace(fit, coef=(self._vectors.T @ logits).T / self._lengths)

    def expanded(self, fit: Fit, y: NDArray[np.intp], C: float, *, tol: float) -> Fit:
        """Return a fit of the coordinates as a fit of the features, with its certificate there."""
        duals = (fit.coef / self._lengths) @ self._vectors.T  # (R, n)
        coef = np.zeros((len(fit.coef), self._full.shape[1]))
        for rows, block in row_blocks(self._full):
            coef += duals[:, rows] @ block
        proof = certify(self._full, y, C, coef, fit.intercept)
        return fit_of(coef, proof, n_iter=fit.n_iter, tol=tol)
