from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch import nn

from analysis.comparison.tasks import AnalysisTasks
from analysis.comparison.tasks.rdm_file import read_rdm, write_rdms
from analysis.comparison.view import View
from analysis.export.sources import ExportedAnalysis, open_source
from checkpoints import Capture, Run, Stimuli
from repsim import rdm

Computed = Callable[..., AnalysisTasks]


def rdm_file(tmp_path: Path, views: list[View], computed: Computed, method: str = "euclidean") -> Path:
    write_rdms(tmp_path / "rdm.h5", computed(views, distance=method))
    return tmp_path / "rdm.h5"


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_rdms_are_those_of_the_test_stimuli(
    related: Callable[..., list[View]], computed: Computed, tmp_path: Path, method: str
) -> None:
    views = related(2, 2)
    path = rdm_file(tmp_path, views, computed, method)
    for index, view in enumerate(views):
        for layer, values in view.activations.items():
            expected = rdm(values[view.rows("test")], method).astype(np.float32)
            np.testing.assert_array_equal(read_rdm(path, index, layer), expected, strict=True)


def test_any_hdf5_reader_finds_the_documented_layout(
    related: Callable[..., list[View]], computed: Computed, tmp_path: Path
) -> None:
    views = related(2, 1)
    stimuli, rows = views[0].run.stimuli, views[0].rows("test")
    with h5py.File(rdm_file(tmp_path, views, computed)) as file:
        assert dict(file.attrs) == {"format": "repsim-rdms", "format_version": 1, "method": "euclidean"}
        assert sorted(file) == ["0000", "0001", "keys", "label", "stimulus_id"]
        assert np.char.decode(file["stimulus_id"][()], "utf-8").tolist() == stimuli.ids[rows].tolist()
        assert file["label"][()].tolist() == stimuli.labels[rows].tolist()
        assert {name: list(file[name]) for name in ("0000", "0001")} == {
            "0000": ["hidden.1", "hidden.2"],
            "0001": ["hidden.1"],
        }
        assert dict(file["0001"].attrs) == {"view": "v1", "step": 7}
        assert file["0000"]["hidden.1"].shape == (len(rows) * (len(rows) - 1) // 2,)


@pytest.mark.parametrize(
    "names",
    [("a", "a/b"), ("/a", "a"), ("a/b", "a%2Fb"), ("%", "50%25"), ("a//b", "a/b")],
    ids=["beside its folder", "leading slash", "escape", "per cent", "equal paths"],
)
def test_layers_whose_names_look_like_paths_keep_their_own_matrices(
    computed: Computed, tmp_path: Path, names: tuple[str, str]
) -> None:
    rng = np.random.default_rng(0)
    stimuli = Stimuli.of([f"s{k}" for k in range(6)], [0, 0, 0, 1, 1, 1], ["test"] * 6, rng.normal(size=(6, 4)))
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(4, 4))
    capture = Capture(model)
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(7, model, capture=capture)
    view = View("v", Run.open(tmp_path / "run"), 7)
    assert set(names) <= set(view.listed)
    path = rdm_file(tmp_path, [view], computed)
    for name in names:
        np.testing.assert_array_equal(read_rdm(path, 0, name), rdm(view.listed[name][:], "euclidean").astype("f4"))
    analysis = open_source(tmp_path)
    assert isinstance(analysis, ExportedAnalysis)
    assert set(analysis.views[0].layers) == set(view.listed)
    for matrix in analysis.matrices:
        np.testing.assert_array_equal(analysis.rdm(matrix), read_rdm(path, 0, matrix.layer))
