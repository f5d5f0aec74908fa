"""Layers that allow no result: their cells are empty and named once; everything else is computed."""

import html
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import Tensor, nn

from analysis import AnalysisConfig, compare_runs
from analysis.comparison.tasks.pairs import compare_layers
from analysis.comparison.undefined import attempt
from analysis.export.exporting import export
from checkpoints import Capture, Damaged, Run, Stimuli
from repsim.similarity import MEASURES, pairwise

N, D = 60, 6
FAULTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of a layer's activations and of the rows of one stimulus
    "nan": lambda h, one: h * torch.nan,
    "one nan": lambda h, one: torch.where(one[:, None], torch.nan, h),
    "infinite": lambda h, one: torch.where(torch.arange(h.shape[1]) == 2, torch.inf, h),
    "zero": lambda h, one: h * 0,
    "constant": lambda h, one: h * 0 + 0.3,
}


class Faulty(nn.Module):
    """Random maps of the input, each with the fault of its name, or none."""

    def __init__(self, layers: Mapping[str, str | None], width: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = dict(layers)
        self.outputs = nn.ModuleDict({name: nn.Identity() for name in layers})
        self.weights = {name: torch.randn(D, width, generator=generator) for name in layers}

    def forward(self, X: Tensor) -> Tensor:
        for name, fault in self.layers.items():
            h = X @ self.weights[name]
            self.outputs[name](h if fault is None else FAULTS[fault](h, X[:, 0] > 5))
        return X


def recorded(
    path: Path, layers: Mapping[str, str | None], config: Mapping[str, Any] | None = None, width: int = 5
) -> Path:
    rng = np.random.default_rng(1)
    labels, split = np.arange(N) % 2, np.array(["train", "validation", "test"])[np.arange(N) // 2 % 3]
    inputs = rng.normal(size=(N, D)).clip(-3, 3) + labels[:, None]
    inputs[np.flatnonzero(split == "test")[3], 0] = 9.0  # the one stimulus
    stimuli = Stimuli.of([f"s{k:02d}" for k in range(N)], labels, split, inputs.astype(np.float32))
    model = Faulty(layers, width)
    capture = Capture(model, ["outputs.*"])
    with Run.create(path, dict(config or {}), stimuli) as run:
        run.checkpoint(3, model, capture=capture)
    return path


def compared(paths: list[Path], output: Path, **options: Any) -> tuple[Any, list[str]]:
    with pytest.warns(RuntimeWarning) as caught:
        result = compare_runs(paths, output=output, config=AnalysisConfig(**options))
    return result, [str(each.message) for each in caught]


@pytest.mark.parametrize(("fault", "place"), [*zip(FAULTS, [0, 1, 2, 0, 1], strict=True), ("nan", 2)])
def test_an_undefined_layer_empties_only_its_own_cells(
    blank_figures: None, tmp_path: Path, fault: str, place: int
) -> None:
    names = ["a", "b", "c"]
    healthy = recorded(tmp_path / "r0", dict.fromkeys(names))
    faulty = recorded(tmp_path / "r1", {name: fault if k == place else None for k, name in enumerate(names)})
    result, said = compared([healthy, faulty], tmp_path / "o", measures=("cka", "procrustes"))
    bad = f"outputs.{names[place]}"
    (message,) = said
    assert message.startswith(f"r1, step 3, layer '{bad}' has no results. ")

    is_bad = (result.tables["probes"]["view"] == "r1") & (result.tables["probes"]["layer"] == bad)
    assert_array_equal(result.tables["probes"]["accuracy"].isna(), is_bad)
    assert_array_equal(result.tables["class_structure"]["class_structure"].isna(), is_bad)
    table = result.tables["similarity"]
    touched = sum((table[f"view_{s}"] == "r1") & (table[f"layer_{s}"] == bad) for s in "ab") > 0
    for measure in ("cka", "procrustes"):
        assert_array_equal(table[measure].isna(), touched)
    of_rdms = result.tables["rdm_similarity"]
    assert_array_equal(of_rdms["pearson"].isna(), of_rdms["layer"] == bad)
    (row,) = result.tables["undefined"].to_dict("records")
    assert (row["view"], row["step"], row["layer"], row["depth"]) == ("r1", 3, bad, place + 1)
    assert row["results"] == "rdm, class_structure, rdm_similarity, cka, procrustes, probes"

    page = html.unescape((tmp_path / "o" / "report.html").read_text())
    assert message in page
    with h5py.File(tmp_path / "o" / "rdm.h5") as file:
        assert np.isnan(file["0001"][bad][()]).all()
        ((layer, reason),) = json.loads(file["0001"][bad].attrs["undefined"])
        assert (layer, reason) == (bad, row["reason"])
        assert "undefined" not in file["0000"][bad].attrs


def test_the_values_of_other_layers_are_as_without_the_bad_one(blank_figures: None, tmp_path: Path) -> None:
    healthy = recorded(tmp_path / "r0", {"a": None, "b": None})
    with_bad = recorded(tmp_path / "r1", {"a": None, "b": None, "c": "nan"})
    result, _ = compared([healthy, with_bad], tmp_path / "o")
    sound = AnalysisConfig(layers=("outputs.a", "outputs.b"))
    alone = compare_runs([healthy, with_bad], config=sound, output=tmp_path / "p")
    both = result.tables["similarity"][(result.tables["similarity"][["layer_a", "layer_b"]] != "outputs.c").all(axis=1)]
    np.testing.assert_allclose(both["cka"], alone.tables["similarity"]["cka"], rtol=1e-12)
    kept = result.tables["probes"][result.tables["probes"]["layer"] != "outputs.c"]
    np.testing.assert_allclose(kept["log_loss"], alone.tables["probes"]["log_loss"], rtol=1e-6)


def test_the_reference_is_named_where_it_is_at_fault(blank_figures: None, tmp_path: Path) -> None:
    paths = [recorded(tmp_path / "r0", {"a": "nan", "b": None}), recorded(tmp_path / "r1", {"a": None, "b": None})]
    result, said = compared(paths, tmp_path / "o")
    assert [message.partition(" has")[0] for message in said] == ["r0, step 3, layer 'outputs.a'"]
    assert result.tables["rdm_similarity"]["pearson"].isna().tolist() == [True, False]


def test_a_failed_task_is_kept_and_its_warning_repeated(blank_figures: None, tmp_path: Path) -> None:
    paths = [recorded(tmp_path / "r0", {"a": None, "b": None}), recorded(tmp_path / "r1", {"a": None, "b": "nan"})]
    _, said = compared(paths, tmp_path / "o")
    tables = {path.name: path.read_bytes() for path in (tmp_path / "o").glob("*.csv")}
    stored = {path: path.stat().st_mtime_ns for path in (tmp_path / "o" / "cache").glob("*.safetensors")}
    assert compared(paths, tmp_path / "o")[1] == said
    (tmp_path / "o" / "analysis.json").unlink()  # so that all is assembled again, from the results in the cache
    assert compared(paths, tmp_path / "o")[1] == said
    assert {path.name: path.read_bytes() for path in (tmp_path / "o").glob("*.csv")} == tables
    assert {path: path.stat().st_mtime_ns for path in stored} == stored


def test_an_analysis_without_any_defined_layer_is_refused(tmp_path: Path) -> None:
    paths = [recorded(tmp_path / f"r{k}", {"a": "nan", "b": "zero"}) for k in range(2)]
    message = (
        r"^No layer can be analysed: all 4 are undefined\. The first is layer 'outputs\.a' of .*r0 at step 3: Layer"
    )
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            compare_runs(paths, output=tmp_path / "o")
    assert not (tmp_path / "o" / "report.html").exists()


def test_one_of_two_runs_may_be_undefined_in_every_layer(tmp_path: Path) -> None:
    paths = [recorded(tmp_path / "r0", {"a": "nan", "b": "zero"}), recorded(tmp_path / "r1", {"a": None, "b": None})]
    result, said = compared(paths, tmp_path / "o")
    assert len(said) == 2
    assert (tmp_path / "o" / "figures" / "rdm_grid.png").is_file()
    assert result.tables["probes"]["accuracy"].notna().tolist() == [False, False, True, True]
    assert "The first layer that reaches 90 % is not known for r0: " in " ".join(result.summary())


def test_a_layer_too_narrow_for_the_distance_keeps_its_other_results(blank_figures: None, tmp_path: Path) -> None:
    paths = [recorded(tmp_path / f"r{k}", {"a": None}, width=1) for k in range(2)]
    result, said = compared(paths, tmp_path / "o")
    assert "has no RDM, class structure or RDM similarity. Layer 'outputs.a' has 1 feature;" in said[0]
    assert result.tables["similarity"]["cka"].notna().all()
    assert result.tables["probes"]["accuracy"].notna().all()


def test_an_analysis_with_a_bad_layer_is_exported(blank_figures: None, tmp_path: Path) -> None:
    paths = [recorded(tmp_path / "r0", {"a": None, "b": None}), recorded(tmp_path / "r1", {"a": None, "b": "nan"})]
    compared(paths, tmp_path / "o")
    for kind, name in {"csv": "c", "npz": "a.npz", "matlab": "a.mat", "rsatoolbox": "a.h5"}.items():
        export(tmp_path / "o", format=kind, output=tmp_path / name)
        assert (tmp_path / name).exists(), kind


def test_the_mean_over_seeds_is_unknown_if_a_seed_has_no_value(blank_figures: None, tmp_path: Path) -> None:
    config = {"recording": {}, "data": dict.fromkeys(("n_train", "n_validation", "n_test"), 20)}
    paths = [
        recorded(
            tmp_path / f"seed-{seed}",
            {"a": None, "b": "nan" if seed == 1 else None},
            {**config, "training": {"seed": seed, "rule": "backprop"}},
        )
        for seed in range(3)
    ]
    result, said = compared(paths, tmp_path / "o")
    assert len(said) == 1
    bands = result.tables["probe_bands"].set_index("layer")
    assert np.isfinite(bands.loc["outputs.a", "mean"])
    assert np.isnan(bands.loc["outputs.b", "mean"])
    assert (bands.loc["outputs.b", "status"], bands.loc["outputs.b", "message"]) == ("failed", "no value for seed 1")


@pytest.mark.filterwarnings("always")
def test_the_command_warns_once_and_succeeds(repsim: Callable[..., Any], blank_figures: None, tmp_path: Path) -> None:
    paths = [recorded(tmp_path / "r0", {"a": None, "b": None}), recorded(tmp_path / "r1", {"a": None, "b": "nan"})]
    said = repsim("compare", *paths, "--output", tmp_path / "o", "--jobs", 1, "--quiet")
    assert said.code == 0
    assert said.err.count("r1, step 3, layer 'outputs.b' has no results.") == said.err.count("warning:") == 1
    assert "Results are not defined for outputs.b of r1; undefined.csv lists them" in said.out


# Parts


@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_every_measure_leaves_out_what_it_refuses(measure: str) -> None:
    rng = np.random.default_rng(0)
    layers = {name: rng.normal(size=(12, 4)) for name in "abc"}
    good = pairwise(layers, measure=measure).values
    bad = {"a": layers["a"], "x": np.full((12, 4), np.nan), "b": layers["b"], "c": layers["c"]}
    for sides in ([bad], [layers, bad], [bad, layers]):
        found = compare_layers(sides, measure)
        rows, columns = ([k for k, name in enumerate(side) if name != "x"] for side in (sides[0], sides[-1]))
        np.testing.assert_allclose(found.values[np.ix_(rows, columns)], good, atol=1e-12)
        assert np.isnan(found.values).sum() == found.values.size - 9
        assert {(each.layer, each.result) for each in found.undefined} == {("x", measure)}
        assert "12 in row" not in found.undefined[0].reason
        assert found.warnings == []


def test_single_pairs_that_are_refused_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {name: np.random.default_rng(k).normal(size=(9, 3)) for k, name in enumerate("ab")}

    def choosy(X: Mapping[str, Any], Y: Mapping[str, Any] | None = None, *, measure: str) -> Any:
        if len(X) > 1 or (Y is not None and X["X"] is layers["a"] and Y["Y"] is layers["b"]):
            raise ValueError("Not these.")
        return pairwise(X, Y, measure=measure)

    monkeypatch.setattr("analysis.comparison.tasks.pairs.pairwise", choosy)
    found = compare_layers([layers, layers], "cka")
    assert np.isnan(found.values).tolist() == [[False, True], [False, False]]
    assert (found.undefined, found.warnings) == ([], ["cka of a and b is not defined: Not these."])


@pytest.mark.parametrize("error", [Damaged("torn"), OSError("gone"), MemoryError("full"), TypeError("bug")])
def test_errors_of_the_machine_or_the_program_are_raised(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        attempt(fail)


def test_errors_of_the_numbers_become_a_reason() -> None:
    found = attempt(lambda: np.linalg.inv(np.zeros((2, 2))))
    assert (found.value, found.reason) == (None, "Singular matrix")
    assert attempt(lambda: 1 // 0).reason == "integer division or modulo by zero"


def test_a_table_of_undefined_results_reads_back(blank_figures: None, tmp_path: Path) -> None:
    paths = [recorded(tmp_path / "r0", {"a": None, "b": None}), recorded(tmp_path / "r1", {"a": None, "b": "nan"})]
    result, _ = compared(paths, tmp_path / "o")
    read = pd.read_csv(tmp_path / "o" / "undefined.csv")
    assert read["reason"].tolist() == result.tables["undefined"]["reason"].tolist()
