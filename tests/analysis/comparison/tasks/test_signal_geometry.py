"""Recorded teaching signals against oracles in float64, computed from the recorded arrays."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis import train_run
from analysis.comparison.stimulus_matching import Matching, StimulusFile, stimulus_file
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks import AnalysisTasks
from analysis.comparison.tasks.signal_geometry import compare_signals
from analysis.comparison.tasks.source import Source
from analysis.comparison.view import View, views_of_run
from analysis.config.recording import RecordingConfig
from checkpoints import Run
from checkpoints.storage.regular_files import sha256
from repsim.learning import TrainingConfig

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    training = TrainingConfig(
        data="digits", depth=3, width=8, epochs=2, batch_size=200, learning_rate=0.01, rule="feedback-alignment@1,2"
    )
    recording = RecordingConfig(n_train=20, n_validation=10, n_test=30, steps="5,8,last", record_signals=True)
    return train_run(tmp_path_factory.mktemp("geometry") / "run", training, recording)


def hsic(K: Floats, L: Floats) -> float:
    """Return the unbiased HSIC of two Gram matrices (Song et al. 2012, eq. 5)."""
    n = len(K)
    K, L = (each * (1 - np.eye(n)) for each in (K, L))
    one = np.ones(n)
    rest = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    return float(np.trace(K @ L) + rest) / (n * (n - 3))


def cka(X: Floats, Y: Floats) -> float:
    K, L = X @ X.T, Y @ Y.T
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def rdm_correlation(X: Floats, Y: Floats) -> float:
    """Return the correlation over pairs of stimuli none of which has a constant pattern."""
    known = (np.ptp(X, axis=1) > 0) & (np.ptp(Y, axis=1) > 0)
    upper = np.triu_indices(known.sum(), 1)
    a, b = (1 - np.corrcoef(each[known])[upper] for each in (X, Y))
    return float(np.corrcoef(a, b)[0, 1])


def mean_cosine(X: Floats, Y: Floats) -> float:
    cosines = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(X, Y, strict=True) if x.any() and y.any()]
    return float(np.mean(cosines))


def test_geometry_is_that_of_the_recorded_arrays(run: Run, computed: Callable[..., AnalysisTasks]) -> None:
    table = TABLES["signals"].build(computed(views_of_run(run.path, "5,8")), {})
    held_out = run.stimuli.split == "test"
    assert table[["step", "boundary"]].to_numpy().tolist() == [[5, 1], [5, 2], [8, 1], [8, 2]]
    for row in table.to_dict("records"):
        now, later = run[row["step"]], run[{5: 8, 8: 12}[row["step"]]]
        layer = f"hidden.{row['boundary']}"
        g, t = (now.gradients[f"{kind}/{layer}"][held_out].astype(float) for kind in ("chosen", "true"))
        change = later.activations[layer][held_out].astype(float) - now.activations[layer][held_out]
        expected = {
            "cka": cka(g, t),
            "rdm_correlation": rdm_correlation(g, t),
            "change_cka": cka(g, change),
            "change_rdm_correlation": rdm_correlation(g, change),
            "change_cosine": mean_cosine(-g, change),
            "true_change_cka": cka(t, change),
            "true_change_rdm_correlation": rdm_correlation(t, change),
            "true_change_cosine": mean_cosine(-t, change),
        }
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-8)
        assert row["message"] == ""


def test_gradients_of_other_names_are_missed(
    run: Run, computed: Callable[..., AnalysisTasks], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = (t for t in computed(views_of_run(run.path, "8")).by_table["signals"] if t.name == "signal_geometry")
    gradients: Mapping[str, object] = {f"true/hidden.{k}": run[8].gradients[f"true/hidden.{k}"] for k in (1, 2)}
    monkeypatch.setattr("checkpoints.Checkpoint.gradients", gradients)
    for k, row in enumerate(compare_signals(tmp_path, **task.inputs).values["rows"], start=1):
        assert row["message"] == f"chosen/hidden.{k} is not in gradients.h5."
        assert set(row) == {"message", "true_change_cka", "true_change_rdm_correlation", "true_change_cosine"}


def test_matched_rows_are_the_same_rows_of_gradients_and_activations(run: Run, tmp_path: Path) -> None:
    """Stimuli in another order give the same numbers, as every array follows them."""
    stimuli = run.stimuli
    turned = replace(stimuli, **{name: getattr(stimuli, name)[::-1] for name in ("ids", "labels", "split", "digests")})
    turned.write(tmp_path / "stimuli.h5")
    files = (StimulusFile(str(tmp_path / "stimuli.h5"), sha256(tmp_path / "stimuli.h5")), stimulus_file(run))
    inputs = {"boundaries": [1, 2], "gradients_sha256": run[5].manifest["gradients.h5"]["sha256"]}
    rows = []
    for matching in (None, Matching("ids", files)):
        now, later = (Source.of(View("a", run, step, matching=matching)) for step in (5, 8))
        rows.append(compare_signals(tmp_path, sources=(now,), later=later, **inputs).values["rows"])
    for straight, reversed_ in zip(*rows, strict=True):
        assert reversed_ == {name: pytest.approx(value, abs=1e-6) for name, value in straight.items()}
