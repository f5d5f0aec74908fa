import importlib
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis import ExecutionConfig, analyze_run, compare_runs, demo
from analysis.comparison.analysis_plan import read_outcome
from analysis.comparison.figures import draw_figures
from analysis.comparison.result import ComparisonResult
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.tasks import AnalysisCache
from analysis.config.analysis import AnalysisConfig
from analysis.config.recording import RecordingConfig
from analysis.workflows import assemble
from analysis.workflows.analyze import plan_run, tasks_of_plan
from checkpoints import Damaged
from repsim.learning import TrainingConfig

NAMES = ("class_structure", "similarity", "rdm_similarity", "training", "gradients", "signals")
NAMES += ("probes", "probe_bands", "probe_differences", "first_layers", "layer_quantities", "undefined")
OF_ARMS = ("arms", "attribution", "similarity_tests")  # which are empty without arms of three seeds
NAMES += OF_ARMS
FIGURES = {"probe_accuracy", "rdm_grid", "cka", "class_structure", "layer_quantities", "training"}
OF_BACKPROP = {f"{name}.csv" for name in NAMES} | {"rdm.h5", "report.html", "analysis.json"}
OF_BACKPROP |= {f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "pdf")}
OF_ANOTHER_RULE = OF_BACKPROP | {
    f"figures/{name}.{kind}" for name in ("alignment", "signals") for kind in ("png", "pdf")
}

LAST = AnalysisConfig(steps="last")

pytestmark = pytest.mark.usefixtures("blank_figures")


def listing(folder: Path) -> set[str]:
    """Return the files of a folder, without the cached results of tasks."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in files if "cache/" not in name}


def refuse(*_: object, **__: object) -> None:
    raise RuntimeError("no ink")


def test_an_analysis_is_written_into_its_run(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    before = listing(path)
    result = analyze_run(path)
    assert result.tables.folder == path / "analysis"
    assert listing(path) - before == {f"analysis/{name}" for name in OF_BACKPROP}
    assert [view.label for view in result.tables.views] == ["untrained", "step 38"]
    assert "<title>Analysis of backprop</title>" in (path / "analysis" / "report.html").read_text()


def test_a_comparison_is_written_into_the_given_folder(comparison: ComparisonResult, runs: Mapping[str, Path]) -> None:
    assert listing(comparison.tables.folder) == OF_ANOTHER_RULE
    for name, table in comparison.tables.items():
        assert len(pd.read_csv(comparison.tables.folder / f"{name}.csv")) == len(table)
        is_empty = name in (
            *OF_ARMS,
            "probe_differences",
            "undefined",
        )  # of which one seed, and sound layers, have none
        assert (len(table) == 0) == is_empty
    assert sorted(comparison.tables["probes"]["view"].unique()) == sorted(runs)
    assert all(set(listing(path)) == set(listing(runs["backprop"])) for path in runs.values())


def test_a_comparison_is_written_beside_the_first_run(copied: Callable[[str], Path]) -> None:
    paths = [copied("synthetic"), copied("backprop")]
    assert compare_runs(paths).tables.folder == paths[0].parent / "comparison"
    assert listing(paths[0].parent / "comparison") == OF_ANOTHER_RULE


def test_a_comparison_is_named_as_its_first_run_is(
    copied: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, first = copied("synthetic"), copied("backprop")
    monkeypatch.setattr("analysis.workflows.comparisons.carry_out", lambda plans, *_: [plan.folder for plan in plans])
    for place, path, folder in [
        (tmp_path, first.relative_to(tmp_path), Path("copies/comparison")),
        (first.parent, first.name, Path("comparison")),
        (tmp_path, first, first.parent / "comparison"),
        (first, ".", first.parent / "comparison"),
        (first / "checkpoints", "..", first.parent / "comparison"),
    ]:
        monkeypatch.chdir(place)
        assert compare_runs([path, other]) == folder


def test_the_given_distance_is_used(copied: Callable[[str], Path]) -> None:
    result = analyze_run(copied("backprop"), config=AnalysisConfig(steps="last", distance="sqeuclidean"))
    assert result.tables["class_structure"]["class_structure"].max() > 2  # no correlation distance is as large


def test_an_earlier_analysis_is_replaced_and_other_files_are_left_alone(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    folder = path / "analysis"
    (folder / "figures").mkdir(parents=True)
    for name in ("notes.txt", "figures/mine.png"):
        (folder / name).write_text("mine")
    analyze_run(path)
    analyze_run(path, config=LAST)
    assert listing(folder) == OF_BACKPROP | {"notes.txt", "figures/mine.png"}
    assert (folder / "notes.txt").read_text() == (folder / "figures/mine.png").read_text() == "mine"
    assert set(pd.read_csv(folder / "probes.csv")["step"]) == {38}


def test_files_that_an_earlier_analysis_wrote_and_this_one_does_not_are_removed(
    copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied("backprop")
    few = AnalysisConfig(steps="last", layers=("hidden.1",), Cs=(0.1,))
    mine = replace(TABLES["undefined"], row="a layer, once more")
    with monkeypatch.context() as patch:
        patch.setitem(TABLES, "mine", mine)
        folder = analyze_run(run, config=few).tables.folder
    (folder / "own.csv").write_text("own\n")
    assert {"mine.csv", "figures/cka.png"} <= set(read_outcome(folder)["files"])
    analyze_run(run, config=replace(few, measures=("rsa",)))
    assert not any((folder / name).exists() for name in ("mine.csv", "figures/cka.png", "figures/cka.pdf"))
    assert (folder / "figures" / "rsa.png").is_file()
    assert (folder / "own.csv").read_text() == "own\n"


@pytest.mark.parametrize(
    "step",
    [
        "comparison.figures.draw_figures",
        "plots.drawing.save_figures",
        "report.content.page_content",
        "report.write_report",
    ],
)
def test_a_failure_midway_leaves_nothing_half_done(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(f"analysis.{step}", refuse)
    folder = tmp_path / "out"
    (folder / "cache").mkdir(parents=True)  # of an analysis that was killed
    (folder / "probes.csv").write_text("earlier")
    with pytest.raises(RuntimeError, match="no ink"):
        analyze_run(runs["backprop"], config=LAST, output=folder)
    assert listing(tmp_path) == {"out/probes.csv"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (folder / "probes.csv").read_text() == "earlier"


def test_a_report_whose_process_died_is_written_by_the_next(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_run(runs["backprop"], LAST, tmp_path / "out")
    *before, report = tasks_of_plan(plan)
    for task in before:
        task.run()
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no ink"):
        patch.setattr("analysis.report.write_report", refuse)
        report.run()
    report.run()
    assert plan.is_done()
    assert listing(tmp_path / "out") == OF_BACKPROP


def test_warnings_of_tables_figures_and_report_are_kept(
    runs: Mapping[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn_in(place: str) -> None:
        whole = importlib.import_module(place.rpartition(".")[0])
        function = getattr(whole, name := place.rpartition(".")[-1])

        def warning(*given: object, **named: object) -> object:
            warnings.warn(f"Said by {name}.", stacklevel=2)
            return function(*given, **named)

        monkeypatch.setattr(whole, name, warning)

    for name in ("workflows.assemble.write_tables", "plots.drawing.save_figures", "report.write_report"):
        warn_in(f"analysis.{name}")
    with pytest.warns(RuntimeWarning, match=r"^Said by"):
        folder = analyze_run(runs["backprop"], config=LAST, output=tmp_path / "out").tables.folder
    said = read_outcome(folder)["warnings"]
    assert set(said) == {f"Said by {name}." for name in ("write_tables", "save_figures", "write_report")}


# What is refused


def test_the_given_penalties_are_used(copied: Callable[[str], Path]) -> None:
    result = analyze_run(copied("backprop"), config=AnalysisConfig(steps="last", Cs=(0.002,)))
    assert result.tables["probes"]["C"].tolist() == [0.002] * 3


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_runs_are_no_comparison(runs: Mapping[str, Path], count: int) -> None:
    with pytest.raises(ValueError, match=rf"^{count} runs? (was|were) given; a comparison needs two or more\.$"):
        compare_runs(list(runs.values())[:count])


def test_damaged_activations_are_named_before_any_work(copied: Callable[[str], Path], tmp_path: Path) -> None:
    path = copied("backprop")
    file = path / "checkpoints/step_00000038/activations.h5"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Damaged, match=r"step_00000038/activations\.h5 has \d+ bytes; \d+ were committed\.$"):
        compare_runs([copied("synthetic"), path], output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


# The demo


@pytest.fixture
def small_demo(
    monkeypatch: pytest.MonkeyPatch, tiny: TrainingConfig, few: RecordingConfig
) -> dict[str, TrainingConfig]:
    """Put small networks of the same rules, and fewer stimuli, in the place of the demo's."""
    module = importlib.import_module("analysis.workflows.demo")
    rules = {name: {"rule": run.rule, "boundaries": run.boundaries} for name, run in module.DEMO_RUNS.items()}
    small = {name: replace(tiny, **rule) for name, rule in rules.items()}
    monkeypatch.setattr(module, "DEMO_RUNS", small)
    monkeypatch.setattr(module, "RecordingConfig", lambda: few)
    return small


def test_an_interrupted_demo_continues(
    small_demo: dict[str, TrainingConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "demo"
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no ink"):
        patch.setattr("analysis.report.write_report", refuse)
        demo(folder, execution=ExecutionConfig(executor="serial"))
    trained = {name: (folder / name / "run.json").read_bytes() for name in small_demo}
    result = demo(folder)
    assert [view.label for view in result.tables.views] == list(small_demo)
    assert listing(folder / "comparison") == OF_ANOTHER_RULE
    assert {name: (folder / name / "run.json").read_bytes() for name in small_demo} == trained


def test_the_demo_rejects_a_run_with_other_settings(
    small_demo: dict[str, TrainingConfig], runs: Mapping[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(runs["synthetic"], tmp_path / "backprop")
    with pytest.raises(
        ValueError, match=r"backprop was made with other settings \(training\..* Choose another name, or"
    ):
        demo(tmp_path)


# What has changed


def test_an_analysis_is_stale_once_its_training_continues(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    analyze_run(path, config=LAST)
    plan = plan_run(path, LAST)
    assert plan.is_done()
    with (path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 39, "epoch": 3, "loss": 1.0, "accuracy": 0.5}\n')
    assert not plan_run(path, LAST).is_done()


@pytest.mark.parametrize("name", ["rdm.h5", "report.html", "figures/cka.png", "analysis.json"])
def test_an_analysis_that_lost_a_file_is_stale(copied: Callable[[str], Path], name: str) -> None:
    path = copied("backprop")
    folder = analyze_run(path, config=LAST).tables.folder
    (folder / name).unlink()
    assert not plan_run(path, LAST).is_done()


def test_the_outcome_is_written_last(copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = copied("backprop")
    folder = analyze_run(path, config=LAST).tables.folder
    monkeypatch.setattr(assemble, "replace_file", refuse)
    with pytest.raises(RuntimeError, match="no ink"):
        analyze_run(path, config=replace(LAST, Cs=(0.1,)))
    assert not (folder / "analysis.json").exists()
    assert AnalysisCache(folder).read(plan_run(path, LAST).tasks.by_table["rdm"][0].key).arrays["0"].size


@pytest.mark.usefixtures("blank_figures")
def test_figures_of_an_analysis_that_stopped_are_not_kept(
    copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied("backprop")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="no ink"):
        patch.setattr("analysis.report.write_report", refuse)
        analyze_run(path, config=replace(LAST, Cs=(0.1,)))
    drafts = [*(path / "analysis/cache").glob("figures-*"), *(path / "analysis/cache").glob("page-*")]
    assert len(drafts) == 3
    folder = analyze_run(path, config=LAST).tables.folder
    assert not [each.name for each in (folder / "cache").iterdir() if each.name.startswith(("figures", "page"))]


def test_names_that_look_like_numbers_stay_names(runs: Mapping[str, Path], tmp_path: Path) -> None:
    paths = [
        shutil.copytree(runs[name], tmp_path / number) for name, number in (("backprop", "001"), ("synthetic", "1e3"))
    ]
    result = compare_runs(paths, output=tmp_path / "out")
    assert result.tables["probes"]["view"].tolist() == ["001"] * 3 + ["1e3"] * 3
    assert set(result.tables["similarity"]["view_b"]) == {"001", "1e3"}
    assert next(draw_figures(result.tables)).name == "probe_accuracy"


def test_the_command_of_a_report_does_the_same_whatever_the_defaults(copied: Callable[[str], Path]) -> None:
    path = copied("backprop")
    command = plan_run(path, replace(LAST, Cs=(1 / 3,), layers=("hidden.1", "hidden.3"))).command
    assert command == (
        f"repsim analyze {path} --layers hidden.1 --layers hidden.3 --steps last --distance correlation --measures cka "
        "--Cs 0.3333333333333333"
    )


def test_the_given_layers_and_measures_are_used(copied: Callable[[str], Path]) -> None:
    result = analyze_run(copied("backprop"), config=replace(LAST, layers=("hidden.2",), measures=("pls",)))
    assert result.tables["probes"]["layer"].tolist() == ["hidden.2"]
    assert result.tables.config.measures == ("pls",)
