"""Similarity of 20 layers of 128 units on 1,000 stimuli against the obvious ways to compute the same numbers."""

from __future__ import annotations

import numpy as np
from harness import Ratio, ratio
from scipy.spatial.distance import pdist

from repsim.similarity import linear_cka, pairwise, rdm

N, D, L = 1000, 128, 20


def run() -> list[Ratio]:
    rng = np.random.default_rng(0)
    layers = {str(i): rng.standard_normal((N, D)) for i in range(L)}
    one = layers["0"]
    np.testing.assert_allclose(rdm(one), pdist(one, "correlation"), atol=1e-10)
    return [
        ratio(
            "unbiased linear CKA, all pairs at once",
            lambda: pairwise(layers),
            "a double loop over pairs, one call each",
            lambda: [linear_cka(X, Y) for X in layers.values() for Y in layers.values()],
            repeats=5,
        ),
        ratio("correlation RDM", lambda: rdm(one), "scipy pdist", lambda: pdist(one, "correlation")),
        ratio(
            "squared euclidean RDM",
            lambda: rdm(one, method="sqeuclidean"),
            "scipy pdist",
            lambda: pdist(one, "sqeuclidean"),
        ),
    ]
