"""Similarity measures, matrices and inference against other packages, and against slow twins of what they do.

Both sides of a row give the same numbers, which is checked before they are timed. Where a row says so, the other side
does a part of the work (20 of 1,000 bootstrap samples, one of 20 minibatches), and its time is multiplied.
"""

from __future__ import annotations

import math
import time
import tracemalloc
import warnings
from itertools import combinations_with_replacement

import numpy as np
from harness import Ratio, ratio
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from repsim.similarity import (
    angular_procrustes,
    compare_rdms,
    evaluate_models,
    linear_cka,
    mean_cca,
    minibatch_cka,
    pairwise,
    rdm,
)

Layers = dict[str, np.ndarray]


def run() -> list[Ratio]:
    rng = np.random.default_rng(0)
    layers = {str(i): rng.standard_normal((5000, 256)) for i in range(20)}
    return [
        *_small(rng),
        *_bootstrap(rng),
        *_cka(layers),
        _minibatches(layers),
        *_aligned(layers),
        *_rdm(rng),
        _spearman(rng),
    ]


def _small(rng: np.random.Generator) -> list[Ratio]:
    layers = {str(i): rng.standard_normal((1000, 128)) for i in range(20)}
    one = layers["0"]
    np.testing.assert_allclose(rdm(one), pdist(one, "correlation"), atol=1e-10)
    return [
        ratio(
            "unbiased CKA, all pairs of 20 layers, 1,000 x 128",
            lambda: pairwise(layers),
            "a double loop of linear_cka",
            lambda: [linear_cka(X, Y) for X in layers.values() for Y in layers.values()],
            repeats=5,
        ),
        ratio("correlation RDM, 1,000 x 128", lambda: rdm(one), "scipy pdist", lambda: pdist(one, "correlation")),
        ratio(
            "squared Euclidean RDM, 1,000 x 128",
            lambda: rdm(one, method="sqeuclidean"),
            "scipy pdist",
            lambda: pdist(one, "sqeuclidean"),
        ),
    ]


def _bootstrap(rng: np.random.Generator) -> list[Ratio]:
    """1,000 samples of 200 stimuli, 20 models, 5 data RDMs; rsatoolbox has 20 samples to do, times 50."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import rsatoolbox

    X = rng.standard_normal((200, 30))
    models = {f"model {k}": rdm(X + rng.standard_normal(X.shape) * k / 4, "euclidean") for k in range(20)}
    data = {f"data {k}": rdm(X + rng.standard_normal(X.shape), "euclidean") for k in range(5)}
    theirs = rsatoolbox.rdm.RDMs(np.stack(list(data.values())))
    fixed = [rsatoolbox.model.ModelFixed(name, model) for name, model in models.items()]
    rows = []
    for method, name, target in (("pearson", "corr", "<= 0.01"), ("spearman", "spearman", "<= 0.05")):

        def ours(method: str = method) -> object:
            return evaluate_models(models, data, method=method, n_samples=1000)

        def other(name: str = name) -> object:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return rsatoolbox.inference.eval_bootstrap_pattern(fixed, theirs, method=name, N=20)

        np.testing.assert_allclose(
            evaluate_models(models, data, method=method, over="none").means,
            rsatoolbox.inference.eval_fixed(fixed, theirs, method=name).get_means(),
            atol=1e-10,
        )
        what = f"bootstrap over 200 stimuli, {method}, 20 models x 5 data, 1,000 samples"
        rows.append(_scaled(ratio(what, ours, "rsatoolbox, 20 samples x 50", other, repeats=3, target=target), 50))
    return rows


def _scaled(row: Ratio, times: float) -> Ratio:
    """Divide by how much more work the other side has left."""
    return Ratio(row.work, row.against, [value / times for value in row.values], row.target)


def _cka(layers: Layers) -> list[Ratio]:
    arrays = list(layers.values())
    np.testing.assert_allclose(pairwise(layers, measure="cka_biased").values, _double_loop(arrays), atol=1e-9)
    stacked = np.concatenate(arrays, axis=1)
    left, right = np.ascontiguousarray(stacked[:, :2560].T), np.ascontiguousarray(stacked[:, : 256 * 21 // 2])
    # 210 pairs of 256 x 256 are 2560 x 5376 numbers: as one product, and half of it twice.
    one_product = lambda: (left @ right, left @ right)  # noqa: E731
    what = "unbiased CKA, all pairs of 20 layers, 5,000 x 256"
    return [
        ratio(
            what,
            lambda: pairwise(layers),
            "numpy double loop (biased)",
            lambda: _double_loop(arrays),
            repeats=3,
            target="<= 0.2",
        ),
        ratio(what, lambda: pairwise(layers), "one product of the same flops", one_product, repeats=5, target="<= 1.5"),
        ratio("that one product", one_product, "numpy double loop (biased)", lambda: _double_loop(arrays), repeats=3),
    ]


def _double_loop(arrays: list[np.ndarray]) -> np.ndarray:
    """Biased CKA as it is usually written: three products for every ordered pair."""

    def cka(X: np.ndarray, Y: np.ndarray) -> float:
        X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
        cross = np.linalg.norm(X.T @ Y) ** 2
        return float(cross / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y)))

    return np.array([[cka(X, Y) for Y in arrays] for X in arrays])


def _minibatches(layers: Layers) -> Ratio:
    def batches() -> object:
        return ({name: X[k : k + 250] for name, X in layers.items()} for k in range(0, 5000, 250))

    def one_batch() -> np.ndarray:
        return _loop_over_pairs([X[:250] for X in layers.values()])

    np.testing.assert_allclose(
        minibatch_cka([{name: X[:250] for name, X in layers.items()}]).values, one_batch(), atol=1e-9
    )
    row = ratio(
        "minibatch unbiased CKA, the same, batches of 250",
        lambda: minibatch_cka(batches()),
        "a loop over pairs, one batch x 20",
        one_batch,
        repeats=5,
        target="<= 0.1",
    )
    return _scaled(row, 20)


def _loop_over_pairs(arrays: list[np.ndarray]) -> np.ndarray:
    """Song's estimator as torch_cka evaluates it: both Gram matrices and three HSIC for every ordered pair."""
    values = np.empty((len(arrays), len(arrays)))
    for i, X in enumerate(arrays):
        K = X @ X.T
        np.fill_diagonal(K, 0.0)
        own = _song(K, K)
        for j, Y in enumerate(arrays):
            L = Y @ Y.T
            np.fill_diagonal(L, 0.0)
            values[i, j] = _song(K, L) / math.sqrt(own * _song(L, L))
    return values


def _song(K: np.ndarray, L: np.ndarray) -> float:
    n, ones = len(K), np.ones((len(K), 1))
    product = K @ L
    sums = (ones.T @ K @ ones) * (ones.T @ L @ ones) / ((n - 1) * (n - 2))
    return ((np.trace(product) + sums - ones.T @ product @ ones * 2 / (n - 2)) / (n * (n - 3))).item()


def _aligned(layers: Layers) -> list[Ratio]:
    """Procrustes and mean CCA: one call, against fitting and scoring both representations anew for every pair."""
    rows = []
    pairs = list(combinations_with_replacement(layers.values(), 2))
    for name, function, alpha in (("angular_procrustes", angular_procrustes, 1), ("mean_cca", mean_cca, 0)):
        X, Y = list(layers.values())[:2]
        value = function(X, Y)
        np.testing.assert_allclose(value if alpha else math.acos(value), _fit_and_score(X, Y, alpha), atol=1e-9)
        rows.append(
            ratio(
                f"{name}, all pairs of 20 layers, 5,000 x 256",
                lambda name=name: pairwise(layers, measure=name),
                "each pair anew, as netrep fits and scores it",
                lambda alpha=alpha: [_fit_and_score(X, Y, alpha) for X, Y in pairs],
                repeats=3,
                target="<= 0.33",
            )
        )
    return rows


def _fit_and_score(X: np.ndarray, Y: np.ndarray, alpha: int) -> float:
    """Angle in radians, in netrep's steps: find the maps with centred data, then centre anew, map, and correlate."""
    offsets = X.mean(axis=0), Y.mean(axis=0)
    (x, to_x), (y, to_y) = (_whitened(Z - offset, alpha) for Z, offset in zip((X, Y), offsets, strict=True))
    U, _, V = np.linalg.svd(x.T @ y)
    to_x, to_y = to_x @ U, to_y @ V.T
    x, y = ((Z - offset) @ to for Z, offset, to in zip((X, Y), offsets, (to_x, to_y), strict=True))
    return math.acos(min(1.0, np.vdot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y))))


def _whitened(Z: np.ndarray, alpha: int) -> tuple[np.ndarray, np.ndarray]:
    """Return centred data without (alpha 1) or with (0) unit covariance, and the map to that."""
    if alpha:
        return Z, np.eye(Z.shape[1])
    values, vectors = np.linalg.eigh(Z.T @ Z)
    to = (vectors / np.sqrt(values)) @ vectors.T
    return Z @ to, to


def _rdm(rng: np.random.Generator) -> list[Ratio]:
    X = rng.standard_normal((10_000, 512)).astype(np.float32)
    np.testing.assert_allclose(rdm(X[:500]), pdist(X[:500].astype(np.float64), "correlation"), atol=1e-6)
    what = "correlation RDM, 10,000 x 512, float32"
    tracemalloc.start()
    D = rdm(X)
    peak = tracemalloc.get_traced_memory()[1] / D.nbytes
    tracemalloc.stop()
    del D
    return [
        ratio(what, lambda: rdm(X), "scipy pdist", lambda: pdist(X, "correlation"), repeats=1, target="<= 0.125"),
        ratio(what, lambda: rdm(X), "the bare product X Xᵀ", lambda: X @ X.T, repeats=7, target="<= 1.5"),
        Ratio(f"{what}: peak memory", "the result", [peak], "<= 1.5"),
    ]


def _spearman(rng: np.random.Generator) -> Ratio:
    """Two RDMs as comparisons keep them; neither side may use a second thread."""
    X, Y = (rng.standard_normal((4000, 128)) for _ in range(2))
    A, B = (rdm(Z).astype(np.float32) for Z in (X, X + Y))
    np.testing.assert_allclose(compare_rdms(A, B, "spearman"), spearmanr(A, B).statistic, atol=1e-6)
    with threadpool_limits(1):
        return ratio(
            "Spearman correlation of two RDMs of 4,000 stimuli, float32, 1 thread",
            lambda: compare_rdms(A, B, "spearman"),
            "scipy.stats.spearmanr",
            lambda: spearmanr(A, B),
            repeats=3,
            target="<= 0.4",
        )


if __name__ == "__main__":
    started = time.perf_counter()
    for row in run():
        print(f"{row.work}: {row.median:.3g} x {row.against} ({row.target})", flush=True)
    print(f"{time.perf_counter() - started:.0f} s")
