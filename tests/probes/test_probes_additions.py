"""A solver, a baseline and a probe from outside the package are used like its own."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from analysis import AnalysisConfig, analyze_run
from checkpoints import Capture, Run, Stimuli
from probes import BASELINES, SOLVERS, LogisticProbe, NetworkLayers, ProbeConfig, baselines, probe_layers
from probes.solvers.certificate import certify
from probes.solvers.fit import Fit, fit_of
from probes.table.columns import COLUMNS, ProbeColumn
from probes.table.probed_layer import ProbedLayer

N = 90
LABELS = np.arange(N) % 3
SPLIT = np.resize(["train", "train", "validation", "test"], N)
X = np.random.default_rng(0).normal(size=(N, 5)) + LABELS[:, np.newaxis]


def bfgs_of_scipy(
    X: NDArray, y: NDArray, C: float, *, sample_weight: Any, start: Any, tol: float, max_iter: int, device: str
) -> Fit:
    """Minimise the objective of three or more classes by the BFGS of scipy."""
    Y, s = np.eye(y.max() + 1)[y], np.ones(len(y)) if sample_weight is None else sample_weight

    def objective(flat: NDArray) -> tuple[float, NDArray]:
        W, b = np.split(flat.reshape(Y.shape[1], -1), [X.shape[1]], axis=1)
        logits = X @ W.T + b.T
        residuals = C * s[:, np.newaxis] * (softmax(logits, axis=1) - Y)
        value = -C * s @ np.sum(Y * log_softmax(logits, axis=1), axis=1) + 0.5 * np.sum(W**2)
        return value, np.column_stack([residuals.T @ X + W, residuals.sum(axis=0)]).ravel()

    found = minimize(objective, np.zeros(Y.shape[1] * (X.shape[1] + 1)), jac=True, options={"gtol": tol / 100})
    W, b = np.split(found.x.reshape(Y.shape[1], -1), [X.shape[1]], axis=1)
    return fit_of(W, certify(X, y, C, W, b[:, 0], sample_weight), n_iter=int(found.nit), tol=tol)


def test_a_solver_from_outside_finds_the_same_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOLVERS, "scipy", bfgs_of_scipy)
    theirs, ours = (
        probe_layers({"h": X}, LABELS, split=SPLIT, config=ProbeConfig(Cs=[0.1, 1.0], solver=solver)).iloc[0]
        for solver in ("scipy", "newton")
    )
    assert theirs["converged"]
    for column in ("C", "accuracy", "log_loss", "validation_log_loss"):
        assert theirs[column] == pytest.approx(ours[column], rel=1e-3), column
    probe = LogisticProbe(solver="scipy").fit(X, LABELS)
    np.testing.assert_allclose(probe.coef_, LogisticProbe(solver="newton").fit(X, LABELS).coef_, atol=1e-2)


def test_a_baseline_from_outside_has_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def squares(inputs: Any, widths: Iterable[int], *, seed: int) -> dict[str, NDArray]:
        return {f"first {width} squares": inputs[:, :width] ** 2 for width in widths}

    monkeypatch.setitem(BASELINES, "squares", squares)
    networks = [NetworkLayers(layers={"h": X[:, :3]}, network="mlp")]
    table = probe_layers([*networks, *baselines(X, networks)], LABELS, split=SPLIT)
    assert table["network"].tolist() == ["mlp", "raw input", "random projection", "squares"]
    alone = probe_layers({"first 3 squares": X[:, :3] ** 2}, LABELS, split=SPLIT)
    pd.testing.assert_frame_equal(
        table[3:].drop(columns="network").reset_index(drop=True), alone.drop(columns="network"), check_exact=True
    )


# A probe of another kind


def discriminant_accuracy(probed: ProbedLayer) -> float:
    """Return the test accuracy of a classifier of scikit-learn."""
    probe = LinearDiscriminantAnalysis().fit(probed.features["train"], probed.labels("train"))
    return float(probe.score(probed.features["test"], probed.labels("test")))


DISCRIMINANT = ProbeColumn(
    dtype="float64", meaning="test accuracy of linear discriminants", compute=discriminant_accuracy
)


def test_a_classifier_of_scikit_learn_is_a_column_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, "discriminant_accuracy", DISCRIMINANT)
    layers = {"h": X, "nan": np.full((N, 2), np.nan)}
    found = probe_layers(layers, LABELS, split=SPLIT)["discriminant_accuracy"]
    train, test = SPLIT == "train", SPLIT == "test"
    assert found[0] == LinearDiscriminantAnalysis().fit(X[train], LABELS[train]).score(X[test], LABELS[test])
    assert np.isnan(found[1])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(5, 6), torch.nn.Tanh())
    stimuli = Stimuli.of([f"image {k}" for k in range(N)], LABELS, SPLIT, X.astype(np.float32))
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(0, network, capture=Capture(network, layers=["0", "1"]))
    return tmp_path / "run"


def test_a_new_or_changed_column_alone_makes_a_finished_analysis_stale(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the probes are computed again, and the analysis is the earlier one when the column is gone."""

    def analyzed() -> tuple[pd.DataFrame, set[str]]:
        before = {path.name: path.stat().st_mtime_ns for path in (run / "analysis/cache").rglob("*-*")}
        table = analyze_run(run, config=AnalysisConfig(layers=("0", "1"))).tables["probes"]
        after = {path.name: path.stat().st_mtime_ns for path in (run / "analysis/cache").rglob("*-*") if path.is_file()}
        return table, {name.partition("-")[0] for name, time in after.items() if before.get(name) != time}

    plain, computed = analyzed()
    assert "probes" in computed
    assert analyzed()[1] == set()
    with monkeypatch.context() as patched:
        patched.setitem(COLUMNS, "discriminant_accuracy", DISCRIMINANT)
        table, computed = analyzed()
        assert table["discriminant_accuracy"].gt(0.5).all()
        assert computed == {"probes"}
        halved: Callable[[ProbedLayer], float] = lambda probed: discriminant_accuracy(probed) / 2  # noqa: E731
        changed = ProbeColumn(**{**vars(DISCRIMINANT), "version": 2, "compute": halved})
        patched.setitem(COLUMNS, "discriminant_accuracy", changed)
        halves = analyzed()[0]["discriminant_accuracy"]
        np.testing.assert_array_equal(halves, table["discriminant_accuracy"] / 2)
    pd.testing.assert_frame_equal(analyzed()[0], plain)
