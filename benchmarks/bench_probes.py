"""Probes of 20 layers, 4,000 x 256, ten classes, against scikit-learn at equal certified gap.

The layers are those of a 20 x 256 batch-norm relu network after six epochs on mnist5k. Each side is driven until the
certificate of this package says that the relative duality gap is 1e-6 or less; scikit-learn's tolerance is the largest
power of ten that gets there, found beforehand and not timed. Along the path scikit-learn takes every C there; ours
takes the C that it selects, which is the same one. The standardisation of the layers is part of neither side.
Checkpoints are ten updates apart, of layer 10: updates 100 to 190, while the network still learns fast, and 310 to 400.
The default grid of C is extended where the best value lies at its edge, which the same values given as numbers are not:
hardly ever on the layers of the network, and for all of eight layers of 1,000 x 128 whose classes are separable.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from harness import Ratio, ratio
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from probes import ProbeConfig, probe_layers
from probes.features import standardisation
from probes.scores import log_loss
from probes.solvers import Fit, LogisticProblem, lbfgs, lbfgs_layers
from probes.solvers.certificate import certify
from probes.solvers.path import CS as DEFAULT
from probes.solvers.path import fit_paths
from probes.solvers.solver_settings import SolverSettings
from repsim.learning import TrainingConfig, build_learner, build_optimizer, load_dataset, train

GAP, CS, C = 1e-6, tuple(10.0 ** np.linspace(-3, 1, 10)), 0.1
EARLY, LATE, SIX_EPOCHS = range(100, 200, 10), range(310, 410, 10), 6 * 32
TOLERANCES = tuple(10.0**-k for k in range(4, 12))
Layers = list[np.ndarray]


def run() -> list[Ratio]:
    layers, held_out, y, y_held_out, early, late = _layers()
    together = partial(_ours, layers, y)
    reach = [_tolerance(X, y, C) for X in layers]
    workers = Parallel(2)
    with workers as warm:
        warm(delayed(abs)(k) for k in range(2))  # start-up
        results = [
            ratio(
                "20 probes at C = 0.1",
                together,
                "joblib.Parallel(2), scikit-learn lbfgs, workers started",
                lambda: warm(delayed(_theirs)(X, y, C, tol) for X, tol in zip(layers, reach, strict=True)),
                repeats=3,
                target="<= 0.33",
            )
        ]
    results += [
        ratio(
            "20 probes at C = 0.1",
            together,
            "the same, starting its workers",
            lambda: _started_anew(layers, y, reach),
            repeats=3,
            target="<= 0.33",
        ),
        ratio(
            "20 probes at C = 0.1, on 1 thread",
            _on_one_thread(together),
            "20 probes at C = 0.1, a layer after the other",
            _on_one_thread(lambda: [lbfgs(X, y, C, tol=GAP) for X in layers]),
            repeats=3,
        ),
        ratio(
            "2 layers, path of 10 C with selection",
            lambda: _paths(layers[9::10], held_out[9::10], y, y_held_out),
            "scikit-learn lbfgs, warm along the path",
            _their_path(layers[9::10], held_out[9::10], y, y_held_out),
            repeats=1,
            target="<= 0.2",
        ),
        *(
            ratio(
                f"10 checkpoints of a layer, each from the one before, {when}",
                lambda steps=steps: _over_steps(steps, y, warm=True),
                "each anew",
                lambda steps=steps: _over_steps(steps, y, warm=False),
                repeats=5,
                target="<= 0.77",
            )
            for when, steps in (("early", early), ("late", late))
        ),
        *(
            ratio(
                f"{len(each)} probes with the default grid of C, {what}",
                partial(probe_layers, each, labels, split=split),
                "the same grid, given",
                partial(probe_layers, each, labels, split=split, config=ProbeConfig(Cs=DEFAULT)),
                repeats=3,
            )
            for what, (each, labels, split) in {
                "network": _recorded(layers[4::5], y),
                "separable classes": _separable(),
            }.items()
        ),
    ]
    return results


def _layers() -> tuple[Layers, Layers, np.ndarray, np.ndarray, Layers, Layers]:
    """Return standardised layers of training and held-out stimuli after six epochs, labels, and a layer at steps."""
    dataset = load_dataset("mnist5k")
    order = np.random.default_rng(0).permutation(len(dataset.y))
    X, y = torch.from_numpy(dataset.X[order]), torch.from_numpy(dataset.y[order])
    config = TrainingConfig(depth=20, width=256, epochs=13)
    learner = build_learner(config, X.shape[1], 10)
    optimizer = build_optimizer(learner, config)
    n_train, at = 4000, dict[int, np.ndarray]()
    layers: Layers = []
    for step in train(learner, optimizer, X[:n_train], y[:n_train], config):
        if step.step in {*EARLY, *LATE, SIX_EPOCHS}:
            found = _activations(learner.network, X)
            layers = found if step.step == SIX_EPOCHS else layers
            at[step.step] = found[9][:n_train]
    scales = [standardisation(Z[:n_train]) for Z in layers]
    scaled = [(Z - mean) / scale for Z, (mean, scale) in zip(layers, scales, strict=True)]
    early, late = ([_scaled(at[step]) for step in steps] for steps in (EARLY, LATE))
    parts = [Z[:n_train] for Z in scaled], [Z[n_train:] for Z in scaled]
    return (*parts, y[:n_train].numpy(), y[n_train:].numpy(), early, late)


def _recorded(layers: Layers, y: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    split = np.resize(["train", "train", "validation", "test"], len(y))
    return {f"hidden.{k}": X for k, X in enumerate(layers, start=1)}, y, split


def _separable() -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y, means = rng.integers(10, size=1000), rng.normal(size=(10, 128))
    layers = {f"noise {k}": means[y] + 0.3 * k * rng.normal(size=(1000, 128)) for k in range(1, 9)}
    return layers, y, np.resize(["train", "train", "validation", "test"], 1000)


def _scaled(Z: np.ndarray) -> np.ndarray:
    mean, scale = standardisation(Z)
    return (Z - mean) / scale


def _activations(network: torch.nn.Module, X: torch.Tensor) -> Layers:
    network.eval()
    found, h = [], X
    with torch.no_grad():
        for segment in network.segments[:-1]:
            h = segment(h)
            found.append(h.numpy().astype(np.float64))
    network.train()
    return found


def _ours(layers: Layers, y: np.ndarray) -> list[Fit]:
    fits = lbfgs_layers(layers, [LogisticProblem(y=y, C=C)] * len(layers), tol=GAP)
    assert all(fit.converged for fit in fits)
    return fits


def _on_one_thread(work: Callable[[], object]) -> Callable[[], object]:
    def limited() -> object:
        with threadpool_limits(1):
            return work()

    return limited


def _theirs(X: np.ndarray, y: np.ndarray, C: float, tol: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=C, tol=tol, max_iter=20_000).fit(X, y)


def _started_anew(layers: Layers, y: np.ndarray, reach: list[float]) -> None:
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)
    Parallel(2)(delayed(_theirs)(X, y, C, tol) for X, tol in zip(layers, reach, strict=True))


def _tolerance(X: np.ndarray, y: np.ndarray, C: float) -> float:
    """Return the largest tolerance at which scikit-learn reaches the gap."""
    for tol in TOLERANCES:
        model = _theirs(X, y, C, tol)
        proof = certify(X, y, C, model.coef_, model.intercept_)
        if proof.gap <= GAP * proof.objective:
            return tol
    raise RuntimeError("scikit-learn does not reach the gap at any tolerance.")


def _paths(layers: Layers, held_out: Layers, y: np.ndarray, y_held_out: np.ndarray) -> list[float]:
    judges = [lambda fit, Z=Z: log_loss(fit.logits(Z), y_held_out) for Z in held_out]
    paths = fit_paths(layers, y, CS, judges, starts=[None] * len(layers), settings=SolverSettings(tol=GAP))
    assert all(path.fit.converged for path in paths)
    return [path.Cs[path.best] for path in paths]


def _their_path(layers: Layers, held_out: Layers, y: np.ndarray, y_held_out: np.ndarray) -> Callable[[], list[float]]:
    """Return the fits of every C, each to the gap, from the one before, as LogisticRegressionCV makes them."""
    reach = [[_tolerance(X, y, each) for each in CS] for X in layers]

    def path() -> list[float]:
        chosen = []
        for X, Z, tols in zip(layers, held_out, reach, strict=True):
            model, losses = LogisticRegression(max_iter=20_000, warm_start=True), []
            for each, tol in zip(CS, tols, strict=True):
                model.set_params(C=each, tol=tol).fit(X, y)
                losses.append(log_loss(model.decision_function(Z), y_held_out))
            chosen.append(CS[int(np.argmin(losses))])
        return chosen

    assert path() == _paths(layers, held_out, y, y_held_out)
    return path


def _over_steps(steps: Layers, y: np.ndarray, *, warm: bool) -> int:
    fit, n_iter = None, 0
    for X in steps:
        fit = lbfgs(X, y, C, tol=GAP, start=fit if warm else None)
        n_iter += fit.n_iter
    return n_iter


if __name__ == "__main__":
    for row in run():
        spread = f"({min(row.values):.3g} to {max(row.values):.3g})"
        print(f"{row.work} | {row.against} | {row.median:.3g} {spread} {row.target}", flush=True)
