"""The core numbers of a comparison by hand: CKA of all pairs of layers, RDMs against the first ones, probes.

``python by_hand.py STEPS OUTPUT.npz RUN ...`` takes the last STEPS recorded steps of each run; results are in the order
of run, step and layer. `bench_comparison` times `repsim compare` against it; it imports nothing of this project.
"""

import sys
from pathlib import Path

import h5py
import numpy as np
from joblib import Parallel, delayed
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CS = 0.001, 0.01, 0.1


def read(run, n_steps):
    for step in sorted((Path(run) / "checkpoints").iterdir())[-n_steps:]:
        with h5py.File(step / "activations.h5") as file:
            yield [layer["data"][:].astype(float) for layer in file["layers"].values()]


def hsic(X, Y, x, y):  # unbiased (Song et al. 2012, equation 5), of centred layers and the squares of their rows' norms
    n = len(X)
    return np.linalg.norm(X.T @ Y) ** 2 + x.sum() * y.sum() / (n - 1) / (n - 2) - x @ y * n / (n - 2)


def probe(X, y, split):
    train, validation, test = (split == part for part in ("train", "validation", "test"))
    fits = [make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000)).fit(X[train], y[train]) for C in CS]
    return max(fits, key=lambda fit: fit.score(X[validation], y[validation])).score(X[test], y[test])


if __name__ == "__main__":
    n_steps, output, *runs = int(sys.argv[1]), *sys.argv[2:]
    views = [layers for run in runs for layers in read(run, n_steps)]
    with h5py.File(Path(runs[0]) / "stimuli.h5") as file:
        y, split = file["label"][:], file["split"].asstr()[:]

    held_out = [[X[split == "test"] for X in layers] for layers in views]
    centred = [X - X.mean(axis=0) for layers in held_out for X in layers]
    squares = [(X**2).sum(axis=1) for X in centred]
    own = [hsic(X, X, x, x) for X, x in zip(centred, squares, strict=True)]
    cka = np.eye(len(centred))
    for i in range(len(centred)):
        for j in range(i):
            found = hsic(centred[i], centred[j], squares[i], squares[j]) / np.sqrt(own[i] * own[j])
            cka[i, j] = cka[j, i] = found

    pairs = np.triu_indices(sum(split == "test"), 1)
    rdms = [[1 - np.corrcoef(X)[pairs] for X in layers] for layers in held_out]
    pearson, spearman = (
        [[correlate(A, B)[0] for A, B in zip(rdms[0], view, strict=True)] for view in rdms[1:]]
        for correlate in (pearsonr, spearmanr)
    )
    accuracy = Parallel(2)(delayed(probe)(X, y, split) for layers in views for X in layers)
    np.savez(output, cka=cka, pearson=pearson, spearman=spearman, accuracy=accuracy)
