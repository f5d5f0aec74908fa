"""Figures of a folder and of runs in files, and what is refused."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from analysis.comparison.result import ComparisonResult
from analysis.config.figure_style import FigureConfig, FigureFilesConfig
from analysis.workflows.paper_figures import open_result, write_figures

Repsim = Callable[..., Any]


def test_a_folder_is_drawn_as_it_is(comparison: ComparisonResult, tmp_path: Path) -> None:
    files = FigureFilesConfig(only=("cka", "probe_accuracy"))
    written = write_figures([comparison.tables.folder], tmp_path / "new" / "out", files=files)
    assert [path.name for path in written] == [
        *("cka.pdf", "cka.svg", "probe_accuracy.pdf", "probe_accuracy.svg", "captions.md")
    ]
    assert all(path.stat().st_size for path in written)
    captions = written[-1].read_text()
    assert captions.startswith("## cka\n\nSimilarity between layers. ")
    assert "\n## probe_accuracy\n\nLinear probes by layer. " in captions


def test_the_stored_result_is_the_one_that_was_computed(comparison: ComparisonResult) -> None:
    stored = open_result([comparison.tables.folder])
    assert stored.figures == comparison.figures
    assert stored.summary() == comparison.summary()
    for one, other in zip(stored.tables.views, comparison.tables.views, strict=True):
        assert (one.label, one.step, one.network, one.run.path) == (
            other.label,
            other.step,
            other.network,
            other.run.path,
        )


def test_plot_takes_the_style(comparison: ComparisonResult) -> None:
    figure = comparison.plot("class_structure", style="paper", width="column").figure
    assert figure.get_figwidth() == 3.25
    for wrong, message in (
        ({"style": "poster"}, "Unknown style 'poster'"),
        ({"width": "wide"}, "Unknown width 'wide'"),
        ({"width": "column"}, "The width column belongs to the style paper, and the style is screen"),
    ):
        with pytest.raises(ValueError, match=message):
            comparison.plot("class_structure", **wrong)


def test_a_place_without_a_run_or_an_analysis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is neither a run nor an analysis at .*absent"):
        write_figures([tmp_path / "absent"])


def test_unknown_names_and_formats_are_refused(comparison: ComparisonResult, tmp_path: Path) -> None:
    folder = comparison.tables.folder
    with pytest.raises(ValueError, match=r"There is no figure 'umap'. Choose one of: probe_accuracy, "):
        write_figures([folder], tmp_path / "out", files=FigureFilesConfig(only=("umap",)))
    with pytest.raises(ValueError, match=r"Unknown format 'gif'\. Choose one of: pdf, svg, png"):
        write_figures([folder], tmp_path / "out", files=FigureFilesConfig(formats=("gif",)))
    with pytest.raises(ValueError, match="Unknown width 'wide'"):
        write_figures([folder], tmp_path / "out", config=FigureConfig(width="wide"))
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="is a file; --output is a folder"):
        write_figures([folder], tmp_path / "file", files=FigureFilesConfig(only=("cka",)))
    assert not (tmp_path / "out").exists()


def test_a_folder_whose_run_was_moved_is_refused(comparison: ComparisonResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(comparison.tables.folder, folder)
    outcome = json.loads((folder / "analysis.json").read_text())
    outcome["views"][0]["run"] = "/nowhere/run"
    (folder / "analysis.json").write_text(json.dumps(outcome))
    with pytest.raises(ValueError, match="is an analysis of the run /nowhere/run, which is not there"):
        open_result([folder])


def test_runs_compared_otherwise_are_refused(
    runs: Mapping[str, Path], comparison: ComparisonResult, tmp_path: Path
) -> None:
    for name in ("backprop", "synthetic"):
        (tmp_path / name).symlink_to(runs[name])
    shutil.copytree(comparison.tables.folder, tmp_path / "comparison")
    with pytest.raises(ValueError, match=r"holds another analysis or comparison .* Draw that one with repsim figures"):
        open_result([tmp_path / "backprop", tmp_path / "synthetic"])


def test_the_command_says_what_it_wrote(repsim: Repsim, comparison: ComparisonResult, tmp_path: Path) -> None:
    said = repsim("figures --only cka --format pdf --width column --output", tmp_path / "out", comparison.tables.folder)
    assert (said.code, said.out) == (0, f"Wrote {tmp_path / 'out'}: 1 figure, and captions.md.\n")
    said = repsim("figures --only cka --format png --json --output", tmp_path / "out", comparison.tables.folder)
    assert json.loads(said.out) == {"files": [str(tmp_path / "out" / name) for name in ("cka.png", "captions.md")]}
    said = repsim("figures --width wide", comparison.tables.folder)
    assert (said.code, said.err) == (2, "repsim: Unknown width 'wide'. Choose one of: column, page.\n")


def test_the_command_refuses_settings_that_a_finished_analysis_cannot_follow(
    repsim: Repsim, comparison: ComparisonResult, runs: Mapping[str, Path], tmp_path: Path
) -> None:
    folder = comparison.tables.folder
    for option, flag in (("--steps all", "--steps"), ("--measures rsa", "--measures"), ("--align step", "--align")):
        said = repsim(f"figures {option} --output", tmp_path / "out", folder)
        message = f"{folder} is an analysis and is drawn as it is; {flag} belongs to runs. Leave it out, or give runs."
        assert (said.code, said.err) == (2, f"repsim: {message}\n")
    said = repsim("figures --output", tmp_path / "out", runs["backprop"], folder)
    message = f"{folder} is an analysis; draw one analysis at a time, or give runs only."
    assert (said.code, said.err) == (2, f"repsim: {message}\n")
    assert not (tmp_path / "out").exists()
