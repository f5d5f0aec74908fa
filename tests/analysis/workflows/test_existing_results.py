import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from analysis import AnalysisConfig, analyze_run, compare_runs
from analysis.config.analysis import AnalysisConfig as Config
from checkpoints import Run

LAST = AnalysisConfig(steps="last", Cs=(1.0,))

pytestmark = pytest.mark.usefixtures("blank_figures")


@pytest.fixture
def compared(runs: Mapping[str, Path], tmp_path: Path) -> tuple[list[Path], Path]:
    paths = [runs["backprop"], runs["synthetic"]]
    compare_runs(paths, config=LAST, output=tmp_path / "out")
    return paths, tmp_path / "out"


def stored(folder: Path) -> dict[str, object]:
    return json.loads((folder / "analysis.json").read_text())


def test_the_same_comparison_is_read_again(compared: tuple[list[Path], Path]) -> None:
    paths, folder = compared
    before = (folder / "analysis.json").stat().st_mtime_ns
    for exists in ("error", "resume", "replace"):
        compare_runs(paths, config=LAST, output=folder, exists=exists)
    compare_runs(paths, config=Config(Cs=(1.0,)), output=folder)  # the last step is the default
    assert (folder / "analysis.json").stat().st_mtime_ns == before


def test_a_mistake_is_named_before_another_comparison_in_the_folder(compared: tuple[list[Path], Path]) -> None:
    paths, folder = compared
    with pytest.raises(ValueError, match=r"^Unknown measure 'ckka'\."):
        compare_runs(paths, config=AnalysisConfig(measures=("ckka",)), output=folder)


def test_another_comparison_in_the_folder_is_left_alone_or_replaced(compared: tuple[list[Path], Path]) -> None:
    paths, folder = compared
    (folder / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = AnalysisConfig(steps="last", Cs=(1.0,), distance="cosine")
    expected = (
        r'out holds another analysis or comparison \(distance "correlation" there, "cosine" here\)\. Choose another '
        r"folder with --output, or give --exists replace to remove it first \(in Python exists='replace'\)\.$"
    )
    for exists in ("error", "resume"):
        with pytest.raises(FileExistsError, match=expected):
            compare_runs(paths, config=other, output=folder, exists=exists)
    with pytest.raises(
        FileExistsError, match=r"holds another analysis or comparison \(of the runs .*backprop, .*synth"
    ):
        compare_runs(paths[::-1], config=LAST, output=folder)
    with pytest.raises(FileExistsError, match="holds another analysis or comparison"):
        analyze_run(paths[0], config=LAST, output=folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    earlier = compare_runs(paths, config=LAST, output=folder)
    in_memory = earlier.tables["similarity"]
    compare_runs(paths, config=other, output=folder, exists="replace")
    assert stored(folder)["config"]["distance"] == "cosine"  # type: ignore[index]
    assert (folder / "notes.txt").read_text() == "mine"
    assert earlier.tables["similarity"] is in_memory
    for read in (
        lambda: earlier.tables["probes"],
        lambda: earlier.plot("rdm_grid"),
        lambda: earlier.tables.rdm(0, "hidden.1"),
        earlier._repr_html_,
    ):
        with pytest.raises(ValueError, match=r"out holds other results by now than those of this object\. Compare or"):
            read()


def test_wrong_arguments_are_named(compared: tuple[list[Path], Path]) -> None:
    paths, folder = compared
    with pytest.raises(ValueError, match=r"^paths is '.*'; expected a list of two or more runs"):
        compare_runs(str(paths[0]))
    with pytest.raises(ValueError, match=r"^Unknown exists 'overwrite'"):
        compare_runs(paths, config=LAST, output=folder, exists="overwrite")
    with pytest.raises(FileNotFoundError, match=r"no run at .*\*\. Patterns are not expanded here; use glob\.glob\."):
        compare_runs([f"{paths[0]}*", paths[1]])


def test_a_comparison_of_runs_that_changed_is_made_again(copied: Callable[[str], Path], tmp_path: Path) -> None:
    paths = [copied("backprop"), copied("synthetic")]
    compare_runs(paths, config=LAST, output=tmp_path / "out")
    moved = [path.rename(path.with_name(f"{path.name}-moved")) for path in paths]
    with (moved[0] / "metrics.jsonl").open("a") as log:
        log.write('{"step": 39, "epoch": 3, "loss": 1.0, "accuracy": 0.5}\n')
    compare_runs(moved, config=LAST, output=tmp_path / "out")
    runs = [path for path, _ in stored(tmp_path / "out")["request"]["runs"]]  # type: ignore[index]
    assert runs == list(map(str, moved))


@pytest.mark.parametrize("name", ["report.html", "figures/probe_accuracy.png"])
def test_a_file_of_the_user_is_not_overwritten(runs: Mapping[str, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    for exists in ("error", "replace"):
        with pytest.raises(FileExistsError, match=f"{name} was not written by an analysis, and would be overwritten"):
            analyze_run(runs["backprop"], config=LAST, output=tmp_path, exists=exists)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [Path(name).name]


def test_the_analysis_of_a_run_in_its_own_folder_follows_the_settings(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    analyze_run(path, config=LAST)
    analyze_run(path, config=AnalysisConfig(steps="last", Cs=(1.0,), distance="cosine"))
    assert stored(path / "analysis")["config"]["distance"] == "cosine"  # type: ignore[index]
    assert Run.open(path).verify("size")
    with pytest.raises(ValueError, match="error, resume, replace"):
        analyze_run(path, config=LAST, exists="no")
