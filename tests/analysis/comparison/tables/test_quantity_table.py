from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis import AnalysisConfig, analyze_run
from checkpoints import Capture, Run, Stimuli
from repsim.similarity import linear_cka, participation_ratio


@pytest.fixture
def run(runs: Mapping[str, Path]) -> Run:
    return Run.open(runs["backprop"])


def test_numbers_are_those_of_the_weights_and_activations(run: Run, tmp_path: Path) -> None:
    table = analyze_run(run.path, config=AnalysisConfig(steps="first,last"), output=tmp_path / "out").tables[
        "layer_quantities"
    ]
    rows = np.flatnonzero(run.stimuli.split == "test")
    last = list(run.last().activations)[-1]
    for row in table.itertuples():
        checkpoint, first = run[row.step], run[0]
        name = f"network.{row.layer}.affine.weight"
        norms = [float(each.weights()[name].double().norm()) for each in (checkpoint, first)]
        assert row.weight_norm == pytest.approx(norms[0])
        assert row.weight_growth == pytest.approx(norms[0] / norms[1])
        X, Y = (checkpoint.activations[layer][rows].astype(float) for layer in (row.layer, last))
        assert row.participation_ratio == pytest.approx(participation_ratio(X))
        assert row.similarity_to_last == pytest.approx(linear_cka(X, Y), abs=1e-6)
    untrained = table[table["step"] == 0]
    np.testing.assert_allclose(untrained["weight_growth"], 1)
    assert len(table) == 2 * len(run.last().activations)


def test_recordings_without_weights_have_no_norms(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(90, 6))
    stimuli = Stimuli.of(range(90), np.arange(90) % 3, np.repeat(["train", "validation", "test"], 30), X)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)).double()
    with Run.create(tmp_path / "with", {}, stimuli) as recorded:
        recorded.checkpoint(1, model, capture=Capture(model))
    with Run.create(tmp_path / "without", {}, stimuli) as recorded:
        recorded.checkpoint(1, model, capture=Capture(model), weights=None)
    found = {name: analyze_run(tmp_path / name).tables["layer_quantities"] for name in ("with", "without")}
    assert found["without"]["weight_norm"].isna().all()
    norms = found["with"].set_index("layer")["weight_norm"]
    assert norms["0"] == pytest.approx(float(model[0].weight.detach().norm()))
    assert np.isnan(norms["1"])
    assert norms["2"] == pytest.approx(float(model[2].weight.detach().norm()))
    assert found["with"]["weight_growth"].isna().all()  # no step 0
