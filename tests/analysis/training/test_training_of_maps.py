"""Networks whose layers are maps, or sequences of patches, from images to the report."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import analyze_run, compare_runs, record_run, train_run
from analysis.config.recording import RecordingConfig
from checkpoints import Run
from repsim.learning import TrainingConfig

LAYERS = ["hidden.1", "hidden.2", "hidden.3"]
NAMES = ["conv", "residual", "transformer"]


@pytest.fixture(scope="module")
def of_maps(tmp_path_factory: pytest.TempPathFactory, tiny: TrainingConfig, few: RecordingConfig) -> Mapping[str, Path]:
    """A run of each network of maps, by a rule that is not backprop, on 8×8 digits."""
    folder, settings = tmp_path_factory.mktemp("maps"), replace(tiny, rule="synthetic-gradient@2", width=4)
    return {name: train_run(folder / name, replace(settings, network=name), few).path for name in NAMES}


@pytest.fixture
def images(tmp_path: Path) -> Callable[..., str]:
    """Save 90 images of three classes; one is brighter, one darker on the left."""

    def save(name: str, *shape: int, flat: bool = False) -> str:
        y = np.arange(90) % 3
        X = np.random.default_rng(0).random((90, *shape))
        X[..., : shape[-1] // 2] += np.array([0.0, 2.0, -2.0])[y].reshape(-1, *[1] * len(shape))
        np.savez(tmp_path / f"{name}.npz", X=X.reshape(90, -1) if flat else X, y=y)
        return str(tmp_path / f"{name}.npz")

    return save


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_recorded_as_rows_of_all_their_units(of_maps: Mapping[str, Path], name: str) -> None:
    run = Run.open(of_maps[name])
    assert run.config["data"]["shape"] == [1, 8, 8]
    shapes = {layer: values.shape for layer, values in run.last().activations.items()}
    assert shapes == dict.fromkeys(LAYERS, (320, 4 * 4 * 4))


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_maps_is_analyzed(of_maps: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    result = analyze_run(of_maps[name], output=tmp_path / "out")
    assert result.tables["probes"]["layer"].tolist() == LAYERS * 2
    assert result.tables["probes"]["d"].unique().tolist() == [64]
    assert (result.tables["probes"]["status"] == "ok").all()
    assert result.tables["gradients"]["boundary"].unique().tolist() == [1, 2, 3]
    assert (tmp_path / "out/figures/alignment.png").is_file()
    assert f"<td>{name}</td>" in (tmp_path / "out/report.html").read_text()


@pytest.mark.usefixtures("blank_figures")
def test_networks_of_all_kinds_are_compared(
    of_maps: Mapping[str, Path], runs: Mapping[str, Path], tmp_path: Path
) -> None:
    result = compare_runs([runs["backprop"], *of_maps.values()], output=tmp_path / "out")
    assert result.tables["rdm_similarity"]["view"].tolist() == [name for name in NAMES for _ in LAYERS]
    assert result.tables["rdm_similarity"]["layer"].tolist() == LAYERS * 3
    assert len(result.tables["similarity"]) == 12**2
    assert result.tables["gradients"]["view"].unique().tolist() == ["backprop", *NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_recording_a_network_of_maps_again_gives_equal_activations(
    of_maps: Mapping[str, Path], tmp_path: Path, name: str
) -> None:
    source, new = Run.open(of_maps[name]), record_run(of_maps[name], tmp_path / "new")
    for step in source.steps:
        for layer, values in source[step].activations.items():
            np.testing.assert_array_equal(new[step][layer][:], values[:])


@pytest.mark.parametrize("network", ["conv", "residual"])
@pytest.mark.parametrize(
    ("shape", "of_one"), [((9, 7), (1, 9, 7)), ((2, 9, 7), (2, 9, 7))], ids=["(n, h, w)", "(n, c, h, w)"]
)
def test_a_network_of_maps_trains_on_images_of_the_user(
    tmp_path: Path,
    images: Callable[..., str],
    few: RecordingConfig,
    network: str,
    shape: tuple[int, ...],
    of_one: tuple[int, ...],
) -> None:
    settings = TrainingConfig(
        data=images("mine", *shape),
        network=network,
        depth=2,
        width=4,
        epochs=20,
        batch_size=32,
        learning_rate=0.01,
    )
    run = train_run(tmp_path / "run", settings, few)
    assert tuple(run.config["data"]["shape"]) == of_one
    assert run.status["test_accuracy"] > 0.8


def test_a_perceptron_trains_on_images_as_on_their_flattened_rows(
    tmp_path: Path, images: Callable[..., str], few: RecordingConfig
) -> None:
    weights = []
    for name in ("images", "rows"):
        path = images(name, 2, 3, 4, flat=name == "rows")
        settings = TrainingConfig(data=path, depth=2, width=4, epochs=1, batch_size=32)
        weights.append(train_run(tmp_path / name, settings, few).last().weights())
    assert list(weights[0]) == list(weights[1])
    assert all(weights[0][name].equal(values) for name, values in weights[1].items())
