"""What is exported reads, with other programs, as exactly what was recorded or found."""

import csv
import importlib.util
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import mat73
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from analysis import train_run
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tasks.rdm_file import read_rdm
from analysis.comparison.view import View
from analysis.config.recording import RecordingConfig
from analysis.export import FORMATS, ExportedAnalysis, ExportedRun, Format, matlab, open_source, sources, xarray_zarr
from analysis.export.exporting import export
from checkpoints import Capture, Damaged, Run, Stimuli
from repsim import rdm
from repsim.learning import TrainingConfig

IDS = ["plain", "Größe, ‘x’", '"quoted"\nline', "日本", "=1+1", "NA"]
LABELS, SPLIT = [0, 0, 1, 1, 2, 2], ["train", "test", "validation", "test", "test", "train"]
LAYERS = ["a/b", "Ä $x$", "wide"]
WITH_MATRICES = [name for name in FORMATS if name != "tensorboard"]
SUFFIX = {name: (each.suffixes or ("",))[0] for name, each in FORMATS.items()}


class Odd(nn.Module):
    """Layers whose names are no file names; their values are far from round."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({"a/b": nn.Linear(4, 3), "Ä $x$": nn.Linear(4, 1), "wide": nn.Linear(4, 40)})
        for k, parameter in enumerate(self.parameters()):
            parameter.data = torch.sin(torch.arange(parameter.numel()) * 1.7 + k).reshape(parameter.shape) * 1e-3**k

    def forward(self, X: Tensor) -> Tensor:
        return torch.cat([part(X) for part in self.parts.values()], dim=1)


@pytest.fixture(scope="module", params=["float32", "float16", "float64"])
def odd_run(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    path = tmp_path_factory.mktemp("odd") / "run"
    model = Odd().double() if request.param == "float64" else Odd()
    inputs = np.random.default_rng(0).normal(size=(6, 4)) ** 3
    stimuli = Stimuli.of(IDS, LABELS, SPLIT, inputs)
    capture = Capture(model, ["parts.*"], dtype=request.param)
    with Run.create(path, {}, stimuli) as run:
        run.checkpoint(0, model, capture=capture)
        model.parts["wide"].bias.data[0] = 0.5
        run.checkpoint(12, model, capture=capture)
    return path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of more than a few numbers come in several blocks."""
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 400)
    monkeypatch.setattr(matlab, "_ROWS", 4)
    monkeypatch.setattr(matlab, "_COLUMNS", 7)


@pytest.fixture
def analysis(tmp_path: Path) -> Path:
    """An analysis of two networks, with two tables."""
    folder = tmp_path / "analysis"
    folder.mkdir()
    generator = np.random.default_rng(1)
    X = generator.normal(size=(7, 3))
    matrices = [generator.normal(size=(3, d)) for d in (5, 4)]
    with h5py.File(folder / "rdm.h5", "x") as file:
        file.attrs.update({"format": "repsim-rdms", "format_version": 1, "method": "euclidean"})
        file["stimulus_id"], file["label"] = np.array([f"s00{k}" for k in range(7)], dtype="S"), [0, 0, 1, 1, 1, 2, 2]
        for view, label in enumerate(["007", "ß"]):
            group = file.create_group(f"{view:04d}")
            group.attrs["view"], group.attrs["step"] = label, 7 + view
            for k, matrix in enumerate(matrices, start=1):
                group[f"hidden.{k}"] = rdm(X @ matrix + view, "euclidean").astype(np.float32)
        file["keys/same"] = group["hidden.1"]  # a matrix may lie in the file by other names too
    probes = {
        "view": ["007", "ß"],
        "layer": ["hidden.1", "hidden.2"],
        "accuracy": [1 / 3, np.nan],
        "converged": [True, False],
        "message": [None, None],
    }
    pd.DataFrame(probes).to_csv(folder / "probes.csv", index=False)
    pd.DataFrame(columns=["epoch", "loss"]).to_csv(folder / "training.csv", index=False)
    return folder


def recorded(path: Path) -> dict[int, dict[str, NDArray[Any]]]:
    run = Run.open(path)
    return {step: {name: layer[:] for name, layer in run[step].activations.items()} for step in run.recorded_steps}


def same_bits(values: NDArray[Any], expected: NDArray[Any]) -> bool:
    return values.dtype == expected.dtype and values.shape == expected.shape and values.tobytes() == expected.tobytes()


# Runs


def test_arrays_hold_every_bit_without_pickle(odd_run: Path, tmp_path: Path) -> None:
    export(odd_run, tmp_path / "all.npz", format="npz", steps="all")
    with np.load(tmp_path / "all.npz", allow_pickle=False) as arrays:
        assert arrays["stimulus_id"].tolist() == IDS
        assert arrays["label"].tolist() == LABELS
        assert arrays["split"].tolist() == SPLIT
        assert arrays["step"].tolist() == [0, 12]
        assert arrays["layer"].tolist() == [f"parts.{name}" for name in LAYERS]
        for step, layers in recorded(odd_run).items():
            for name, values in layers.items():
                assert same_bits(arrays[f"{step}/{name}"], values)
        assert len(arrays.files) == 5 + 6


def test_csv_reads_back_as_the_same_numbers(odd_run: Path, tmp_path: Path) -> None:
    files = export(odd_run, tmp_path / "all", format="csv", steps="all")
    index = pd.read_csv(tmp_path / "all" / "layers.csv")
    assert index["file"][0] == "step_00000000/01_parts.a_b.csv"
    assert len(files) == 7
    for row in index.itertuples():
        expected = recorded(odd_run)[row.step][row.layer]
        assert (row.d, row.dtype) == (expected.shape[1], expected.dtype)
        with (tmp_path / "all" / row.file).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header[:4] == ["stimulus_id", "label", "split", "feature_0"]
        assert [cells[0] for cells in rows] == IDS
        assert [int(cells[1]) for cells in rows] == LABELS
        assert [cells[2] for cells in rows] == SPLIT
        values = np.array([[expected.dtype.type(cell) for cell in cells[3:]] for cells in rows])
        assert same_bits(values, expected)


def test_parquet_holds_every_bit(odd_run: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    export(odd_run, tmp_path / "all", format="parquet", steps="all")
    index = pd.read_parquet(tmp_path / "all" / "layers.parquet")
    for row in index.itertuples():
        expected = recorded(odd_run)[row.step][row.layer]
        table = pq.read_table(tmp_path / "all" / row.file)
        assert table["stimulus_id"].to_pylist() == IDS
        assert (table["label"].to_pylist(), table["split"].to_pylist()) == (LABELS, SPLIT)
        assert same_bits(np.stack(table["activation"].to_pandas().to_numpy()), expected)
    assert pq.read_metadata(tmp_path / "all" / index["file"].iloc[-1]).num_row_groups > 1


def test_matlab_variables_are_those_recorded(odd_run: Path, tmp_path: Path) -> None:
    export(odd_run, tmp_path / "all.mat", format="matlab", steps="all")
    variables = mat73.loadmat(tmp_path / "all.mat")
    assert np.ravel(variables["stimulus_id"]).tolist() == IDS
    assert np.ravel(variables["split"]).tolist() == SPLIT
    assert np.ravel(variables["layer"]).tolist() == [f"parts.{name}" for name in LAYERS]
    assert variables["label"].tolist() == LABELS
    assert variables["label"].dtype == np.int64
    assert variables["step"].tolist() == [0, 12]
    for column, layers in enumerate(recorded(odd_run).values()):
        for row, expected in enumerate(layers.values()):
            values = variables["activations"][row][column]
            stored = np.float32 if expected.dtype == np.float16 else expected.dtype
            assert same_bits(values.reshape(expected.shape), expected.astype(stored))


def test_a_mat_file_is_laid_out_as_matlab_does(odd_run: Path, tmp_path: Path) -> None:
    (path,) = export(odd_run, tmp_path / "last.mat", format="matlab")
    head = path.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file, ")
    assert head[:116] == head[:116].rstrip().ljust(116)
    assert head[116:124] == bytes(8)
    assert struct.unpack("<H2s", head[124:128]) == (0x0200, b"IM")
    assert head[512:] == b"\x89HDF\r\n\x1a\n"
    with h5py.File(path) as file:
        assert file.userblock_size == 512
        cells = file["activations"]
        assert cells.shape == (1, 3)  # a column of three cells
        assert cells.attrs["MATLAB_class"] == b"cell"
        wide = file[cells[0, 2]]
        assert wide.shape == (40, 6)  # which MATLAB sees as 6 x 40
        assert wide.attrs["MATLAB_class"] in (b"single", b"double")
        assert wide.attrs["H5PATH"] == b"/#refs#"
        kind = wide.attrs.get_id("MATLAB_class").get_type()
        assert (kind.get_size(), kind.get_strpad()) == (6, h5py.h5t.STR_NULLTERM)
        word = file[file["stimulus_id"][0, 3]]
        assert (word.attrs["MATLAB_class"], word.attrs["MATLAB_int_decode"]) == (b"char", 2)
        assert word[:, 0].astype("<u2").tobytes().decode("utf-16-le") == "日本"


ABOUT: dict[str, list[Any]] = {
    "class": ["cat", "cat", "dog", "dog", "eel", "eel"],
    "group": ["g1", "g2", "g3", "g2", "g4", "g1"],
    "target.mood": ["calm", "NA", "a,b", "calm", "", "sad"],
    "target.speed": [0.1, 1 / 3, -2.0, 1e-300, 0.0, 5.5],
    "target.size": [1, 2, 3, 4, 5, -6],
}


@pytest.fixture
def described_run(tmp_path: Path) -> Path:
    """A run whose stimuli have class names, groups and targets."""
    model = Odd()
    targets = {name.removeprefix("target."): values for name, values in ABOUT.items() if name.startswith("target.")}
    split = ["train", "test", "validation", "test", "test", "train"]
    stimuli = Stimuli.of(IDS, ABOUT["class"], split, np.ones((6, 4)), targets=targets, groups=ABOUT["group"])
    with Run.create(tmp_path / "described", {}, stimuli) as run:
        run.checkpoint(0, model, capture=Capture(model, ["parts.a/b"]))
    return tmp_path / "described"


@pytest.mark.parametrize("name", ["csv", "parquet", "npz", "matlab", "xarray-zarr"])
def test_class_names_groups_and_targets_are_exported(described_run: Path, tmp_path: Path, name: str) -> None:
    files = export(described_run, tmp_path / f"all{SUFFIX[name]}", format=name)
    found: dict[str, list[Any]]
    if name == "npz":
        with np.load(files[0], allow_pickle=False) as arrays:
            found = {column: arrays[column].tolist() for column in ABOUT}
    elif name == "xarray-zarr":
        found = {column: opened_store(tmp_path / "all")[column].values.tolist() for column in ABOUT}
    elif name == "matlab":
        variables = mat73.loadmat(files[0])
        found = {column: np.ravel(variables[column.replace(".", "_")]).tolist() for column in ABOUT}
        found["target.mood"] = [text or "" for text in found["target.mood"]]
    else:
        (path,) = (each for each in files if "step_" in str(each))
        frame = pd.read_parquet(path) if name == "parquet" else pd.read_csv(path, keep_default_na=False)
        found = {column: frame[column].tolist() for column in ABOUT}
    assert found == ABOUT


def test_targets_whose_names_are_one_in_matlab_are_numbered(tmp_path: Path) -> None:
    model = Odd()
    targets = {name: np.arange(6) + k for k, name in enumerate(["a b", "a_b", "a.b", "x" * 70, "x" * 80])}
    stimuli = Stimuli.of(IDS, np.zeros(6, dtype=int), ["test"] * 6, np.ones((6, 4)), targets=targets)
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(0, model, capture=Capture(model, ["parts.a/b"]))
    variables = mat73.loadmat(export(tmp_path / "run", tmp_path / "run.mat", format="matlab")[0])
    names = ["target_a_b", "target_a_b_2", "target_a_b_3", "target_" + "x" * 56, "target_" + "x" * 50 + "_2"]
    assert [np.ravel(variables[name])[0] for name in names] == [0, 1, 2, 3, 4]


def test_steps_and_layers_are_chosen_as_elsewhere(odd_run: Path, tmp_path: Path) -> None:
    export(odd_run, tmp_path / "one.npz", format="npz", layers=["parts.w*"])
    with np.load(tmp_path / "one.npz") as arrays:
        assert [name for name in arrays.files if "/" in name] == ["12/parts.wide"]
    found = open_source(odd_run, "first", ["parts.a/b", "**.wide"])
    assert [(each.step, each.depth, each.layer.name) for each in found.layers] == [
        (0, 1, "parts.a/b"),
        (0, 3, "parts.wide"),
    ]


def test_a_layer_that_one_step_lacks_is_an_empty_cell(tmp_path: Path) -> None:
    model, stimuli = Odd(), Stimuli.of(IDS, LABELS, SPLIT, np.eye(6, 4))
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        for step, name in enumerate(["parts.wide", "parts.a/b"]):
            capture = Capture(model, [name])
            run.checkpoint(step, model, capture=capture)
    (path,) = export(tmp_path / "run", tmp_path / "x.mat", format="matlab", steps="all")
    with h5py.File(path) as file:
        empty = file[file["activations"][1, 0]]
        assert (empty[()].tolist(), empty.attrs["MATLAB_empty"]) == ([0, 0], 1)
    assert np.shape(mat73.loadmat(path)["activations"][0][0]) == (6, 40)


@pytest.mark.parametrize("name", ["csv", "parquet", "npz", "matlab", "xarray-zarr", "tensorboard"])
def test_a_layer_is_never_read_whole(odd_run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def watched(layer: Any, multiple: int = 1) -> Any:
        for rows, block in sources.blocks(layer, multiple):
            seen.append((layer.shape[0], len(block)))
            yield rows, block

    module = {"csv": "csv_folder", "parquet": "parquet_folder", "xarray-zarr": "xarray_zarr"}.get(name, name)
    monkeypatch.setattr(f"analysis.export.{module}.blocks", watched)
    export(odd_run, tmp_path / f"x{SUFFIX[name]}", format=name, layers=["parts.wide"])
    assert len(seen) > 1
    assert all(height < n for n, height in seen)


# Stores of Zarr


def opened_store(folder: Path, group: str | None = None) -> Any:
    xarray = pytest.importorskip("xarray")
    return xarray.open_zarr(folder, group=group, chunks=None).load()


def test_a_store_holds_every_bit_with_names(odd_run: Path, tmp_path: Path) -> None:
    export(odd_run, tmp_path / "all.zarr", format="xarray-zarr", steps="all")
    found = opened_store(tmp_path / "all.zarr")
    assert set(found.coords) == {"stimulus", "label", "split", "step", "run"}
    assert found["stimulus"].values.tolist() == IDS
    assert (found["label"].values.tolist(), found["split"].values.tolist()) == (LABELS, SPLIT)
    assert (found["step"].values.tolist(), str(found["run"].values)) == ([0, 12], str(odd_run))
    assert len(found.data_vars) == 3
    for step, layers in recorded(odd_run).items():
        for name, values in layers.items():
            variable = found["activations." + name.replace("/", "%2F")]
            assert variable.dims[:2] == ("step", "stimulus")
            assert (variable.attrs["layer"], variable.attrs["reduction"]) == (name, "flatten")
            assert same_bits(variable.sel(step=step).values, values)


def test_a_layer_is_several_chunks_of_a_store(odd_run: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    export(odd_run, tmp_path / "all.zarr", format="xarray-zarr")
    wide = zarr.open_group(tmp_path / "all.zarr", mode="r")["activations.parts.wide"]
    assert wide.chunks[0] == 1
    assert wide.chunks[1] < 6


def test_a_layer_that_one_step_lacks_is_nan_in_a_store(tmp_path: Path) -> None:
    model, stimuli = Odd(), Stimuli.of(IDS, LABELS, SPLIT, np.eye(6, 4))
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        for step, name in enumerate(["parts.wide", "parts.a/b"]):
            run.checkpoint(step, model, capture=Capture(model, [name]))
    export(tmp_path / "run", tmp_path / "x", format="xarray-zarr", steps="all")
    wide = opened_store(tmp_path / "x")["activations.parts.wide"]
    assert np.isnan(wide.sel(step=1)).all()
    assert same_bits(wide.sel(step=0).values, recorded(tmp_path / "run")[0]["parts.wide"])


def test_a_layer_of_two_widths_is_no_variable_of_a_store(tmp_path: Path) -> None:
    model, stimuli = Odd(), Stimuli.of(IDS, LABELS, SPLIT, np.eye(6, 4))
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(0, model, capture=Capture(model, ["parts.wide"]))
        model.parts["wide"] = nn.Linear(4, 5)
        run.checkpoint(3, model, capture=Capture(model, ["parts.wide"]))
    words = r"'parts\.wide' has 40 features at step 0 and 5 at step 3, .* Export these steps one by one, with --steps"
    with pytest.raises(ValueError, match=words):
        export(tmp_path / "run", tmp_path / "x", format="xarray-zarr", steps="all")
    assert not (tmp_path / "x").exists()
    export(tmp_path / "run", tmp_path / "x", format="xarray-zarr", steps="3")


def test_matrices_and_tables_of_an_analysis_are_a_store(
    analysis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xarray_zarr, "_PAIRS", 10)
    with h5py.File(analysis / "rdm.h5", "a") as file:
        del file["0001/hidden.1"]
    export(analysis, tmp_path / "x", format="xarray-zarr")
    found = opened_store(tmp_path / "x")
    assert (found["rdm"].dims, found.attrs["distance"]) == (("view", "layer", "pair"), "euclidean")
    assert np.isnan(found["rdm"].sel(view="ß", layer="hidden.1")).all()
    expected = read_rdm(analysis / "rdm.h5", 1, "hidden.2")
    assert same_bits(found["rdm"].sel(view="ß", layer="hidden.2").values, expected)
    assert (found["step"].values.tolist(), found["stimulus"].values[6]) == ([7, 8], "s006")
    i, j = np.triu_indices(7, 1)
    assert found["stimulus_a"].values.tolist() == i.tolist()
    assert found["stimulus_b"].values.tolist() == j.tolist()
    probes = opened_store(tmp_path / "x", "tables/probes")
    assert set(probes.coords) == {"view", "layer"}
    assert probes["accuracy"].values.tolist()[0] == 1 / 3
    assert np.isnan(probes["accuracy"].values[1])
    assert (probes["converged"].dtype, probes["view"].values.tolist()) == (bool, ["007", "ß"])
    assert opened_store(tmp_path / "x", "tables/training").sizes == {"row": 0}


def test_a_comparison_is_a_store_of_the_same_numbers(comparison: ComparisonResult, tmp_path: Path) -> None:
    export(comparison.tables.folder, tmp_path / "x", format="xarray-zarr")
    found = opened_store(tmp_path / "x")
    assert found["run"].values.tolist() == [str(view.run.path) for view in comparison.tables.views]
    for k, view in enumerate(comparison.tables.views):
        for layer in view.activations:
            values = found["rdm"].sel(view=view.label, layer=layer).values
            assert same_bits(values, comparison.tables.rdm(k, layer))
    tables = open_source(comparison.tables.folder).tables()
    for name, table in ((name, tables[name]) for name in ("probes", "similarity", "undefined")):
        store = opened_store(tmp_path / "x", f"tables/{name}")
        for column in table:
            expected = table[column]
            if expected.dtype.kind in "ifb":
                np.testing.assert_array_equal(store[column].values, expected.to_numpy())
            else:
                assert store[column].values.tolist() == expected.fillna("").astype(str).tolist()


# Large tables


def test_blocks_of_a_table_have_the_dtypes_of_all_its_rows(
    analysis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = {
        "view": ["007"] * 5,
        "whole": [1, 2, 3, 4, 5],
        "late_fraction": [1, 2, 3, 4, 0.1],
        "late_gap": [1, 2, 3, 4, None],
        "late_text": [None, None, None, None, "x"],
        "text_after_numbers": ["01", "2", "3", "4", "five"],
        "truth": [True, False, True, True, False],
        "late_truth": [None, None, None, True, False],
        "nothing": [None] * 5,
    }
    pd.DataFrame(columns).to_csv(analysis / "large.csv", index=False)
    monkeypatch.setattr(sources, "_TABLE_ROWS", 2)
    pq = pytest.importorskip("pyarrow.parquet")
    export(analysis, tmp_path / "parquet", format="parquet")
    table = pq.read_table(tmp_path / "parquet" / "large.parquet")
    assert pq.read_metadata(tmp_path / "parquet" / "large.parquet").num_row_groups == 3
    types = {name: str(table.schema.field(name).type).removeprefix("large_") for name in columns}
    assert types == {
        "view": "string",
        "whole": "int64",
        "late_fraction": "double",
        "late_gap": "double",
        "late_text": "string",
        "text_after_numbers": "string",
        "truth": "bool",
        "late_truth": "bool",
        "nothing": "double",
    }
    assert {name: table[name].to_pylist() for name in columns} == columns
    export(analysis, tmp_path / "zarr", format="xarray-zarr")
    store = opened_store(tmp_path / "zarr", "tables/large")
    assert store["whole"].values.tolist() == columns["whole"]
    assert store["text_after_numbers"].values.tolist() == columns["text_after_numbers"]
    np.testing.assert_array_equal(store["late_truth"].values, [np.nan, np.nan, np.nan, 1, 0])
    assert store["late_text"].values.tolist() == ["", "", "", "", "x"]


# TensorBoard


def scalars_of(folder: Path) -> dict[str, dict[int, float]]:
    """Return the scalars that TensorBoard reads in a folder, by tag and step."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: {each.step: each.value for each in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_what_a_run_logged(signals_run: Run, tmp_path: Path) -> None:
    export(signals_run.path, tmp_path / "logs", format="tensorboard")
    found, records = scalars_of(tmp_path / "logs"), signals_run.metrics()
    assert found["loss"] == {record["step"]: np.float32(record["loss"]) for record in records}
    validated = {r["step"]: np.float32(r["validation_loss"]) for r in records if "validation_loss" in r}
    assert found["validation_loss"] == validated
    cosines = {
        record["step"]: np.float32(record["gradients"]["1"]["cosine"])
        for record in records
        if record.get("gradients", {}).get("1", {}).get("cosine") is not None
    }
    assert cosines
    assert found["gradients/1/cosine"] == cosines


def test_nested_numbers_have_the_tag_of_their_path(tmp_path: Path) -> None:
    stimuli = Stimuli.of(IDS, LABELS, SPLIT, np.eye(6, 4))
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.log({"step": 3, "rates": [0.5, {"bias": 1}], "text": "x", "is_last": True, "nothing": None})
    export(tmp_path / "run", tmp_path / "logs", format="tensorboard")
    assert scalars_of(tmp_path / "logs") == {"rates/0": {3: 0.5}, "rates/1/bias": {3: 1.0}, "is_last": {3: 1.0}}
    assert [path.name for path in (tmp_path / "logs").iterdir() if "tfevents" not in path.name] == []


def test_a_run_of_nothing_is_no_run_for_tensorboard(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {}, Stimuli.of(IDS, LABELS, SPLIT, np.eye(6, 4))).close()
    with pytest.raises(ValueError, match="has neither logged nor recorded anything; there is nothing to export"):
        export(tmp_path / "run", tmp_path / "logs", format="tensorboard")
    with pytest.raises(FileNotFoundError, match="has no checkpoint with activations yet"):
        export(tmp_path / "run", tmp_path / "logs", format="tensorboard", steps="last")
    assert not (tmp_path / "logs").exists()


def test_the_projector_reads_the_layers(odd_run: Path, tmp_path: Path) -> None:
    plugin = pytest.importorskip("tensorboard.plugins.projector.projector_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    export(odd_run, tmp_path / "logs", format="tensorboard", steps="all")
    text = (tmp_path / "logs" / "projector_config.pbtxt").read_text()
    embeddings = text_format.Parse(text, plugin.ProjectorConfig()).embeddings
    layers = [(f"{name}, step {step}", values) for step, by in recorded(odd_run).items() for name, values in by.items()]
    assert [each.tensor_name for each in embeddings] == [name for name, _ in layers]
    for each, (_, values) in zip(embeddings, layers, strict=True):
        with (tmp_path / "logs" / each.tensor_path).open() as file:
            found = [[values.dtype.type(cell) for cell in line.split("\t")] for line in file]
        assert same_bits(np.array(found), values)
    stimuli = (tmp_path / "logs" / embeddings[0].metadata_path).read_text().splitlines()
    assert stimuli[0] == "stimulus_id\tlabel\tsplit"
    assert stimuli[3] == '"quoted" line\t1\tvalidation'
    assert len(stimuli) == 7


def test_tensorboard_reads_the_tables_of_a_comparison(comparison: ComparisonResult, tmp_path: Path) -> None:
    export(comparison.tables.folder, tmp_path / "logs", format="tensorboard")
    tables = comparison.tables
    view = tables.views[1]
    found = scalars_of(tmp_path / "logs" / "synthetic")
    probes = tables["probes"].query("view == @view.label and layer == 'hidden.2'")
    assert found["probes.accuracy/hidden.2"] == {view.step: np.float32(probes["accuracy"].iloc[0])}
    similarity = tables["similarity"].query("view_a == 'backprop' and view_b == 'synthetic'")
    similarity = similarity.query("layer_a == 'hidden.2' and layer_b == 'hidden.2'")
    assert found["similarity.cka/hidden.2"] == {view.step: np.float32(similarity["cka"].iloc[0])}
    training = tables["training"].query("view == 'synthetic'")
    assert found["training.loss"] == dict(zip(training["epoch"], np.float32(training["loss"]), strict=True))
    angles = tables["gradients"].query("view == 'synthetic' and boundary == 2").dropna(subset="angle")
    assert found["gradients.angle/2"] == dict(zip(angles["step"], np.float32(angles["angle"]), strict=True))
    assert not any(tag.startswith("similarity") for tag in scalars_of(tmp_path / "logs" / "backprop"))
    folders = {path.parent.relative_to(tmp_path / "logs").as_posix() for path in (tmp_path / "logs").rglob("events*")}
    assert {"backprop", "synthetic"} < folders
    assert len(folders) == 3


def steps_of(analysis: Path, labels: list[str], steps: list[int]) -> None:
    """Give an analysis these views, with a table of probes and one of similarities of all pairs of one layer."""
    with h5py.File(analysis / "rdm.h5", "a") as file:
        for view, (label, step) in enumerate(zip(labels, steps, strict=True)):
            group = file.require_group(f"{view:04d}")
            group.attrs["view"], group.attrs["step"] = label, step
    n = len(labels)
    probes = {"view": labels, "layer": ["x"] * n, "target": ["label", "mood"] * n, "accuracy": [0.5, 1.5]}
    pd.DataFrame({name: values[:n] for name, values in probes.items() if name != "accuracy"}).assign(
        accuracy=np.arange(n) + 0.5
    ).to_csv(analysis / "probes.csv", index=False)
    pairs = [(a, b) for a in range(n) for b in range(n)]
    similarity = {
        "view_a": [labels[a] for a, _ in pairs],
        "layer_a": "x",
        "view_b": [labels[b] for _, b in pairs],
        "layer_b": "x",
        "gap": [a + b / 10 + 0.01 for a, b in pairs],  # asymmetric
    }
    pd.DataFrame(similarity).to_csv(analysis / "similarity.csv", index=False)


def test_networks_at_several_steps_are_curves(analysis: Path, tmp_path: Path) -> None:
    """Each is compared with the first network at the same step; the first with its first step."""
    steps_of(analysis, ["a, step 0", "a, step 5", "b/c, step 5", "b/c, step 6"], [0, 5, 5, 6])
    export(analysis, tmp_path / "logs", format="tensorboard")
    a, b = scalars_of(tmp_path / "logs" / "a"), scalars_of(tmp_path / "logs" / "b" / "c")
    assert a["similarity.gap/x"] == {5: np.float32(0.11)}
    assert b["similarity.gap/x"] == {5: np.float32(1.21), 6: np.float32(0.31)}
    assert (a["probes.accuracy/x"], a["probes.accuracy/x/mood"]) == ({0: 0.5}, {5: 1.5})


def test_steps_of_one_run_are_one_curve_with_its_name(analysis: Path, tmp_path: Path) -> None:
    steps_of(analysis, ["untrained", "step 5"], [0, 5])
    export(analysis, tmp_path / "logs", format="tensorboard")
    assert scalars_of(tmp_path / "logs" / "run")["similarity.gap/x"] == {5: np.float32(0.11)}
    outcome = {"format": "repsim-analysis", "format_version": 1, "fingerprint": "", "summary": [], "warnings": []}
    views = [{"label": label, "run": "/data/mine"} for label in ("untrained", "step 5")]
    (analysis / "analysis.json").write_text(json.dumps({**outcome, "files": {}, "views": views}))
    export(analysis, tmp_path / "named", format="tensorboard")
    assert set(scalars_of(tmp_path / "named" / "mine")) == {
        *("similarity.gap/x", "probes.accuracy/x", "probes.accuracy/x/mood")
    }


def test_networks_with_names_that_are_no_folders_get_some(analysis: Path, tmp_path: Path) -> None:
    steps_of(analysis, ["../x", "._/x", "/"], [1, 1, 1])
    export(analysis, tmp_path / "logs", format="tensorboard")
    folders = {path.parent.relative_to(tmp_path / "logs").as_posix() for path in (tmp_path / "logs").rglob("events*")}
    assert folders == {"_/x", "_/x_2", "_/_"}
    assert [path.name for path in tmp_path.iterdir() if "tfevents" in path.name] == []


def test_an_analysis_without_numbers_by_step_is_refused(analysis: Path, tmp_path: Path) -> None:
    (analysis / "probes.csv").unlink()
    with pytest.raises(ValueError, match=r"The tables in .* hold no numbers by step; there is nothing to export\."):
        export(analysis, tmp_path / "logs", format="tensorboard")
    assert not (tmp_path / "logs").exists()


# Gradients


@pytest.fixture(scope="module")
def signals_run(tmp_path_factory: pytest.TempPathFactory, tiny: TrainingConfig) -> Run:
    """Record the teaching signals of a rule at two steps."""
    recording = RecordingConfig(steps="2,last", n_train=4, n_validation=3, n_test=5, record_signals=True)
    training = replace(tiny, epochs=1, rule="synthetic-gradient@1")
    return train_run(tmp_path_factory.mktemp("signals") / "run", training, recording)


def gradients_of(run: Run) -> dict[int, dict[str, NDArray[Any]]]:
    return {step: {name: layer[:] for name, layer in run[step].gradients.items()} for step in run.recorded_steps}


def test_gradients_are_exported_in_place_of_activations(signals_run: Run, tmp_path: Path) -> None:
    export(signals_run.path, tmp_path / "a.npz", format="npz", steps="all", gradients=True)
    export(signals_run.path, tmp_path / "a.mat", format="matlab", steps="all", gradients=True)
    export(signals_run.path, tmp_path / "csv", format="csv", steps="all", gradients=True)
    index = pd.read_csv(tmp_path / "csv" / "layers.csv").set_index(["step", "layer"])["file"]
    cells = mat73.loadmat(tmp_path / "a.mat")["gradients"]
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        for column, (step, layers) in enumerate(gradients_of(signals_run).items()):
            assert list(layers) == [f"{kind}/hidden.{k}" for kind in ("chosen", "true") for k in (1, 2, 3)]
            for row, (name, values) in enumerate(layers.items()):
                assert same_bits(arrays[f"{step}/{name}"], values)
                assert same_bits(cells[row][column].reshape(values.shape), values)
                table = pd.read_csv(tmp_path / "csv" / index[step, name], dtype={"stimulus_id": str})
                assert same_bits(table.filter(like="feature_").to_numpy(np.float32), values)


def test_gradients_are_variables_of_their_name_in_a_store(signals_run: Run, tmp_path: Path) -> None:
    export(signals_run.path, tmp_path / "x", format="xarray-zarr", layers=["chosen/hidden.1"], gradients=True)
    (name,) = opened_store(tmp_path / "x").data_vars
    assert name == "gradients.chosen%2Fhidden.1"
    expected = signals_run.last().gradients["chosen/hidden.1"][:]
    assert same_bits(opened_store(tmp_path / "x")[name].values[0], expected)


def test_gradients_have_a_column_of_their_name_in_parquet(signals_run: Run, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    files = export(signals_run.path, tmp_path / "a", format="parquet", layers=["chosen/hidden.1"], gradients=True)
    table = pq.read_table(next(path for path in files if path.stem != "layers"))
    assert table.column_names == ["stimulus_id", "label", "split", "gradient"]
    expected = signals_run.last().gradients["chosen/hidden.1"][:]
    assert same_bits(np.stack(table["gradient"].to_pandas().to_numpy()), expected)


def test_gradients_that_were_not_recorded_are_refused(
    odd_run: Path, analysis: Path, tmp_path: Path, repsim: Callable[..., Any]
) -> None:
    for source, message in (
        (odd_run, "was recorded without gradients. Train with --record-signals"),
        (analysis, "is an analysis, and --gradients belongs to a run. Leave it out, or give a run."),
    ):
        said = repsim("export", source, "--format", "npz", "--gradients", "--output", tmp_path / "x.npz")
        assert said.code == 2
        assert message in " ".join(said.err.split())
        assert not (tmp_path / "x.npz").exists()


# Analyses


def test_rsatoolbox_reads_the_matrices(analysis: Path, tmp_path: Path) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    (path,) = export(analysis, tmp_path / "rdms.h5", format="rsatoolbox")
    rdms = rsatoolbox.rdm.load_rdm(str(path))
    assert (rdms.n_rdm, rdms.n_cond, rdms.dissimilarity_measure) == (4, 7, "euclidean")
    assert list(rdms.rdm_descriptors["layer"]) == ["hidden.1", "hidden.2"] * 2
    assert list(rdms.rdm_descriptors["view"]) == ["007", "007", "ß", "ß"]
    assert list(rdms.rdm_descriptors["step"]) == [7, 7, 8, 8]
    assert list(rdms.pattern_descriptors["stimulus_id"]) == [f"s00{k}" for k in range(7)]
    assert list(rdms.pattern_descriptors["label"]) == [0, 0, 1, 1, 1, 2, 2]
    expected = [read_rdm(analysis / "rdm.h5", view, f"hidden.{k}") for view in (0, 1) for k in (1, 2)]
    assert same_bits(rdms.dissimilarities, np.stack(expected))
    chosen = rdms.subset("view", "ß").subset_pattern("label", [1, 2])
    assert (chosen.n_rdm, chosen.n_cond) == (2, 5)


def test_a_comparison_is_read_as_it_was_written(comparison: ComparisonResult, tmp_path: Path) -> None:
    """By another program, and with a name that is hostile and not ASCII."""
    rsatoolbox = pytest.importorskip("rsatoolbox")
    found = open_source(comparison.tables.folder)
    assert [view.label for view in found.views] == [view.label for view in comparison.tables.views]
    assert [list(view.layers) for view in found.views] == [list(view.activations) for view in comparison.tables.views]
    (path,) = export(comparison.tables.folder, tmp_path / "rdms.h5", format="rsatoolbox")
    rdms = rsatoolbox.rdm.load_rdm(str(path))
    assert list(rdms.rdm_descriptors["view"]) == [
        view.label for view in comparison.tables.views for _ in view.activations
    ]
    places = [(k, layer) for k, view in enumerate(comparison.tables.views) for layer in view.activations]
    assert same_bits(rdms.dissimilarities, np.stack([comparison.tables.rdm(*place) for place in places]))
    tables = found.tables()
    assert set(tables) == set(comparison.tables)
    assert tables["similarity"]["cka"].tolist() == comparison.tables["similarity"]["cka"].tolist()


def test_ids_of_any_letters_and_number_reach_rsatoolbox(analysis: Path, tmp_path: Path) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    n, ids = 5000, [f"größe {k}" for k in range(5000)]
    with h5py.File(analysis / "rdm.h5", "a") as file:
        for name in ("stimulus_id", "label", "0001", "0000/hidden.1", "0000/hidden.2"):
            del file[name]
        file["stimulus_id"], file["label"] = np.char.encode(ids, "utf-8"), np.zeros(n, dtype=np.int64)
        file.create_dataset("0000/x", (n * (n - 1) // 2,), "f4")
    (path,) = export(analysis, tmp_path / "rdms.h5", format="rsatoolbox")
    assert list(rsatoolbox.rdm.load_rdm(str(path)).pattern_descriptors["stimulus_id"]) == ids


def test_a_file_of_matrices_is_laid_out_as_rsatoolbox_does(analysis: Path, tmp_path: Path) -> None:
    rsatoolbox = pytest.importorskip("rsatoolbox")
    (path,) = export(analysis, tmp_path / "ours.h5", format="rsatoolbox")
    rdms = rsatoolbox.rdm.load_rdm(str(path))
    rdms.rdm_descriptors["view"] = ["a", "a", "b", "b"]  # rsatoolbox cannot write other letters
    rdms.save(str(tmp_path / "theirs.h5"))
    again = rsatoolbox.rdm.load_rdm(str(tmp_path / "theirs.h5"))
    assert same_bits(again.dissimilarities, rdms.dissimilarities)
    with h5py.File(path) as ours, h5py.File(tmp_path / "theirs.h5") as theirs:
        assert set(ours) == set(theirs)
        assert set(ours["pattern_descriptors"]) == set(theirs["pattern_descriptors"])
        assert ours.attrs["dissimilarity_measure"] == theirs.attrs["dissimilarity_measure"]


def test_matrices_of_an_analysis_are_arrays(analysis: Path, tmp_path: Path) -> None:
    (path,) = export(analysis, tmp_path / "rdms.npz", format="npz")
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["view"].tolist() == ["007", "ß"]
        assert (arrays["step"].tolist(), str(arrays["distance"])) == ([7, 8], "euclidean")
        assert same_bits(arrays["0001/hidden.2"], read_rdm(analysis / "rdm.h5", 1, "hidden.2"))


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_matrices_of_an_analysis_are_tables_of_pairs(analysis: Path, tmp_path: Path, name: str) -> None:
    export(analysis, tmp_path / "out", format=name)
    read = {"csv": lambda path: pd.read_csv(path, dtype={"view": str, "distance": str}), "parquet": pd.read_parquet}[
        name
    ]
    index = read(tmp_path / "out" / f"rdms.{name}")
    assert index[["view", "layer", "depth"]].to_numpy().tolist() == [
        [view, f"hidden.{k}", k] for view in ("007", "ß") for k in (1, 2)
    ]
    pairs = read(tmp_path / "out" / index["file"].iloc[3])
    i, j = np.triu_indices(7, 1)
    assert pairs["stimulus_a"].tolist() == [f"s00{k}" for k in i]
    assert pairs["stimulus_b"].tolist() == [f"s00{k}" for k in j]
    assert pairs["label_b"].tolist() == np.array([0, 0, 1, 1, 1, 2, 2])[j].tolist()
    distances = np.array([np.float32(value) for value in pairs["distance"]])
    assert same_bits(distances, read_rdm(analysis / "rdm.h5", 1, "hidden.2"))


def test_tables_are_copied_or_keep_their_types(analysis: Path, tmp_path: Path) -> None:
    export(analysis, tmp_path / "text", format="csv")
    assert (tmp_path / "text" / "probes.csv").read_bytes() == (analysis / "probes.csv").read_bytes()
    pytest.importorskip("pyarrow")
    export(analysis, tmp_path / "typed", format="parquet")
    probes = pd.read_parquet(tmp_path / "typed" / "probes.parquet")
    assert probes["view"].tolist() == ["007", "ß"]
    assert probes["accuracy"].iloc[0] == 1 / 3
    assert np.isnan(probes["accuracy"].iloc[1])
    assert probes["converged"].dtype == bool
    assert probes["message"].isna().all()
    assert list(pd.read_parquet(tmp_path / "typed" / "training.parquet")) == ["epoch", "loss"]


def test_matlab_gets_tables_as_structs_and_matrices_as_rows(analysis: Path, tmp_path: Path) -> None:
    (path,) = export(analysis, tmp_path / "analysis.mat", format="matlab")
    variables = mat73.loadmat(path)
    assert np.ravel(variables["rdm_view"]).tolist() == ["007", "007", "ß", "ß"]
    assert np.ravel(variables["rdm_layer"]).tolist() == ["hidden.1", "hidden.2"] * 2
    assert variables["distance"] == "euclidean"
    assert same_bits(np.asarray(variables["rdm"][3]).ravel(), read_rdm(analysis / "rdm.h5", 1, "hidden.2"))
    probes = variables["probes"]
    assert np.ravel(probes["view"]).tolist() == ["007", "ß"]
    assert probes["accuracy"][0] == 1 / 3
    assert probes["converged"].tolist() == [True, False]
    with h5py.File(path) as file:
        assert file[file["rdm"][0, 0]].shape == (21, 1)  # a row of 21 in MATLAB, as pdist returns
        assert [b"".join(field).decode() for field in file["probes"].attrs["MATLAB_fields"]] == [
            *("view", "layer", "accuracy", "converged", "message")
        ]
        assert file["probes/converged"].attrs["MATLAB_class"] == b"logical"
        assert file["training/loss"][()].tolist() == [0, 1]
        assert file["training/loss"].attrs["MATLAB_empty"] == 1


def test_layers_come_in_the_order_of_the_network(analysis: Path) -> None:
    with h5py.File(analysis / "rdm.h5", "a") as file:
        for name in ("hidden.10", "conv", "a%2Fb"):
            file["0000"][name] = file["0000/hidden.1"][()]
    assert open_source(analysis).views[0].layers == ("a/b", "conv", "hidden.1", "hidden.2", "hidden.10")
    order = ["conv", "hidden.1", "hidden.2", "hidden.10", "a/b"]
    table = pd.DataFrame({"view": "007", "layer": order, "depth": range(1, 6)})
    table.to_csv(analysis / "class_structure.csv", index=False)
    assert open_source(analysis).views[0].layers == tuple(order)


def test_a_layer_in_groups_of_its_own_is_refused(analysis: Path) -> None:
    with h5py.File(analysis / "rdm.h5", "a") as file:
        file["0000/a/b"] = file["0000/hidden.1"][()]
    with pytest.raises(Damaged, match="has the group 'a' in place of a matrix"):
        open_source(analysis)


# Formats from outside the package


def write_shapes(run: ExportedRun, path: Path, done: Callable[[str], None]) -> None:
    path.write_text(json.dumps({each.layer.name: each.layer.shape for each in run.layers}))
    for each in run.layers:
        done(each.layer.name)


def write_labels(analysis: ExportedAnalysis, path: Path, done: Callable[[str], None]) -> None:
    path.write_text(json.dumps([matrix.view.label for matrix in analysis.matrices]))


def test_an_entry_adds_a_format(
    odd_run: Path, analysis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repsim: Callable[..., Any]
) -> None:
    shapes = Format(what="shapes", suffixes=(".json",), write_recording=write_shapes, write_analysis=write_labels)
    monkeypatch.setitem(FORMATS, "shapes", shapes)
    (path,) = export(odd_run, tmp_path / "run.json", format="shapes")
    assert json.loads(path.read_text()) == {"parts.a/b": [6, 3], "parts.Ä $x$": [6, 1], "parts.wide": [6, 40]}
    said = repsim("export", analysis, "--format", "shapes", "--output", tmp_path / "analysis.json")
    assert (said.code, json.loads((tmp_path / "analysis.json").read_text())) == (0, ["007", "007", "ß", "ß"])


# Mistakes


def test_the_command_says_what_it_wrote(repsim: Callable[..., Any], runs: Mapping[str, Path], tmp_path: Path) -> None:
    code, out, err = repsim("export", runs["backprop"], "--format", "npz", "--output", tmp_path / "a.npz")
    size = (tmp_path / "a.npz").stat().st_size / 1000
    assert (code, out) == (0, f"Wrote {tmp_path}/a.npz: 1 file, {size:.3g} kB.\n")
    assert err.startswith("export (npz): 3/3 in ")
    code, out, _ = repsim(
        "export", runs["backprop"], "--format=csv", "--json", "--steps=all", "--output", tmp_path / "new" / "a"
    )
    written = json.loads(out)
    assert written["format"] == "csv"
    assert len(written["files"]) == 7
    assert written["bytes"] == sum(Path(path).stat().st_size for path in written["files"])


MISTAKES = {
    "unknown format": ("run", "excel", "x", "Unknown format 'excel'. Choose one of: csv, parquet, npz,"),
    "no source": ("missing", "csv", "x", "There is neither a run nor an analysis at missing."),
    "a file": ("file", "csv", "x", "file is a file; expected the directory of a run."),
    "neither": (".", "csv", "x", ". is neither a run (it has no run.json) nor an analysis (it has no rdm.h5)."),
    "RDMs of a run": ("run", "rsatoolbox", "x.h5", "and run is a run. Make them with: repsim analyze run; then export"),
    "existing file": ("run", "npz", "old.npz", "old.npz exists already, and nothing is overwritten. Choose another"),
    "existing folder": ("run", "csv", "run", "run exists already, and nothing is overwritten."),
    "in a file": ("run", "csv", "file/x", "file is a file; file/x cannot be made inside it."),
    "wrong ending": ("run", "matlab", "x.txt", "x.txt should end in .mat, by which matlab files are known."),
    "no RDMs": ("torn", "csv", "x", "torn/rdm.h5 cannot be read ("),
    "other HDF5": ("foreign", "csv", "x", "foreign/rdm.h5 is not a file of dissimilarity matrices of format"),
    "short RDM": ("short", "npz", "x.npz", "The RDM of 'hidden.1' in short/rdm.h5 has shape (3,); there are 7"),
    "no table": ("no-table", "parquet", "x", "no-table/probes.csv is not a table of comma-separated values ("),
    "nothing recorded": ("empty", "csv", "x", "empty has no checkpoint with activations yet."),
    "damaged": ("damaged", "csv", "x", "activations.h5 has changed since it was committed"),
}  # fmt: skip
OPTIONS = {
    "unrecorded step": ("run", ["--steps", "3"], "'3' is not a recorded step. Use first, last, all or any of: 7."),
    "unknown layer": ("run", ["--layer", "conv*"], "No layer matches 'conv*'. Similar names: hidden.1."),
    "unknown input": ("run", ["--layer", "hidden.1:input"], "No layer matches 'hidden.1:input'. Similar names: "),
    "steps of an analysis": ("analysis", ["--steps", "all"], "analysis is an analysis, and --steps belongs to a run."),
    "layers of one": ("analysis", ["--layer", "x"], "analysis is an analysis, and --layers belongs to a run."),
}


@pytest.fixture
def workplace(analysis: Path, known_view: Callable[..., View], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, analyses and files of all kinds."""
    folder = analysis.parent
    monkeypatch.chdir(folder)
    for name in ("run", "damaged"):
        known_view(name, np.eye(4, 3), [0, 0, 1, 1], [np.eye(3)])
    damaged = next((folder / "damaged").rglob("activations.h5"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    Run.create(folder / "empty", {}, Stimuli.of(IDS, LABELS, SPLIT, np.eye(6))).close()
    (folder / "file").write_text("mine")
    (folder / "old.npz").write_text("mine")
    for name in ("torn", "foreign", "short", "no-table"):
        (folder / name).mkdir()
        (folder / name / "rdm.h5").write_bytes((analysis / "rdm.h5").read_bytes()[: 900 if name == "torn" else None])
    (folder / "no-table" / "probes.csv").write_bytes(b"")
    with h5py.File(folder / "foreign" / "rdm.h5", "a") as file:
        file.attrs["format_version"] = 2
    with h5py.File(folder / "short" / "rdm.h5", "a") as file:
        del file["0000/hidden.1"]
        file["0000/hidden.1"] = np.zeros(3, dtype=np.float32)
    return folder


def listing(folder: Path) -> set[tuple[str, int]]:
    return {(str(path), path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_reported_in_one_sentence_and_writes_nothing(
    repsim: Callable[..., tuple[int, str, str]], workplace: Path, mistake: str
) -> None:
    source, format_name, output, words = MISTAKES[mistake]
    refuses(repsim, workplace, [source, "--format", format_name, "--output", output], words)


@pytest.mark.parametrize("mistake", OPTIONS)
def test_an_unknown_step_or_layer_is_reported_in_one_sentence(
    repsim: Callable[..., tuple[int, str, str]], workplace: Path, mistake: str
) -> None:
    source, options, words = OPTIONS[mistake]
    refuses(repsim, workplace, [source, "--format", "npz", "--output", "x.npz", *options], words)


def refuses(call: Callable[..., tuple[int, str, str]], folder: Path, arguments: list[str], words: str) -> None:
    before = listing(folder)
    code, out, err = call("export", *arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert (err.count("\n"), err.startswith("repsim: ")) == (1, True)
    assert listing(folder) == before


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("parquet", "pyarrow", "parquet"), ("xarray-zarr", "zarr", "zarr"), ("tensorboard", "tensorboard", "tensorboard")],
)
def test_a_missing_package_is_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    words = f"The format {name} needs the package {package}, which is not installed. Install it with: pip install"
    with pytest.raises(ValueError, match=rf"{words} 'repsim-sg\[{extra}\]'"):
        export("run", "x", format=name)


def test_the_help_lists_every_format(repsim: Callable[..., Any]) -> None:
    said = " ".join(repsim("export", "--help").out.replace("│", " ").split())
    listed = said.partition("File format: ")[2].partition(". ")[0]
    assert all(name in listed for name in FORMATS)


@pytest.mark.parametrize("name", WITH_MATRICES)
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_export_of_an_analysis_leaves_nothing(
    analysis: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    """A file is there whole or not at all; the error of a disk names it."""
    reads = sources.ExportedAnalysis.rdm

    def failing(self: Any, matrix: Any) -> Any:
        if matrix.view.key == "0001":
            raise error
        return reads(self, matrix)

    monkeypatch.setattr(sources.ExportedAnalysis, "rdm", failing)
    before = listing(workplace)
    with pytest.raises(type(error)) as caught:
        export(analysis, f"x{SUFFIX[name]}", format=name)
    if isinstance(error, OSError):
        assert (caught.value.errno, caught.value.filename) == (28, f"x{SUFFIX[name]}")
    assert listing(workplace) == before


@pytest.mark.parametrize("name", ["csv", "parquet", "npz", "matlab", "xarray-zarr", "tensorboard"])
def test_a_failed_export_of_a_run_leaves_nothing(workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def failing(layer: Any, rows: int) -> Any:
        yield layer[:1]
        raise Damaged("gone")

    monkeypatch.setattr("checkpoints.activations.Layer.blocks", failing)
    before = listing(workplace)
    with pytest.raises(Damaged, match="gone"):
        export("run", f"x{SUFFIX[name]}", format=name)
    assert listing(workplace) == before


@pytest.mark.parametrize("name", WITH_MATRICES)
def test_a_file_created_during_an_export_is_not_overwritten(
    analysis: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    reads, path = sources.ExportedAnalysis.rdm, Path(f"x{SUFFIX[name]}")

    def read(self: Any, matrix: Any) -> Any:
        path.write_text("theirs")
        return reads(self, matrix)

    monkeypatch.setattr(sources.ExportedAnalysis, "rdm", read)
    with pytest.raises(FileExistsError, match="exists already"):
        export(analysis, path, format=name)
    assert path.read_text() == "theirs"
    assert not list(workplace.glob(".tmp-*"))


@pytest.mark.parametrize(
    ("name", "expected"), [("probes", "probes"), ("2nd", "x2nd"), ("_a b", "x_a_b"), ("é", "x_"), ("a" * 70, "a" * 63)]
)
def test_names_of_matlab_are_identifiers(name: str, expected: str) -> None:
    assert matlab.identifier(name) == expected
