"""Figures of an analysis in files: those of a folder that holds one, or of runs, which are compared first if needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.comparison.analysis_plan import read_outcome
from analysis.comparison.result import ComparisonResult
from analysis.comparison.stimulus_matching import match_stimuli
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.execution import ExecutionConfig
from analysis.config.figure_style import FigureConfig, FigureFilesConfig
from analysis.workflows.analyze import carry_out, plan_run
from analysis.workflows.comparisons import plan_comparison
from checkpoints import Run
from checkpoints.storage.commit import replace_file

__all__ = ["open_result", "write_figures"]

_PAPER = FigureConfig(style="paper")
_ALL = FigureFilesConfig()
_USUAL = AnalysisConfig()
_USUAL_DESIGN = DesignConfig()


def write_figures(
    sources: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    config: FigureConfig = _PAPER,
    files: FigureFilesConfig = _ALL,
    analysis: AnalysisConfig = _USUAL,
    design: DesignConfig = _USUAL_DESIGN,
    execution: ExecutionConfig | None = None,
) -> list[Path]:
    """Write the figures of an analysis or comparison to files, with their captions in ``captions.md``.

    Parameters
    ----------
    sources : sequence of path
        One folder that an analysis or comparison wrote, which is drawn as it is; or one run, or several, whose analysis
        or comparison is computed first, as far as that is needed.
    output : path, optional
        Folder of the files; ``paper`` in the folder of the analysis by default. Figures of the same name are replaced.
    config : FigureConfig, optional
        Style, width, and whether every seed is drawn; for a paper by default.
    files : FigureFilesConfig, optional
        Names of the figures, and formats; all figures as PDF and SVG by default.
    analysis, design, execution
        As for ``compare_runs``; used for runs only.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    ValueError
        If a format or a figure is unknown; the message lists those that there are. If the runs have been compared with
        other settings in the same place, or a run of an analysis has been moved.
    OSError, Interrupted, Incomplete
        As for ``compare_runs``.
    """
    config.check_choices()
    files.check_choices()
    result = open_result(sources, analysis=analysis, design=design, execution=execution)
    if unknown := [name for name in files.only if name not in result.figures]:
        raise ValueError(f"There is no figure '{unknown[0]}'. Choose one of: {', '.join(result.figures)}.")
    folder = Path(output) if output is not None else result.tables.folder / "paper"
    return _write(result.tables, files, folder, config)


def _write(tables: Tables, files: FigureFilesConfig, folder: Path, config: FigureConfig) -> list[Path]:
    from analysis.comparison.figures import draw_figures, possible_figures  # imports matplotlib
    from analysis.plots.drawing import save_figure

    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; --output is a folder. Choose another one.")
    folder.mkdir(parents=True, exist_ok=True)
    written, captions = list[Path](), list[str]()
    for name in dict.fromkeys(files.only or possible_figures(tables)):
        for drawing in draw_figures(tables, name, config=config):
            for kind in files.formats:
                written.append(folder / f"{name}.{kind}")
                save_figure(drawing.figure, written[-1])
            captions.append(f"## {name}\n\n{drawing.heading}. {drawing.caption}\n")
    written.append(folder / "captions.md")
    replace_file(written[-1], "\n".join(captions).encode())
    return written


def open_result(
    sources: Sequence[str | Path],
    *,
    analysis: AnalysisConfig = _USUAL,
    design: DesignConfig = _USUAL_DESIGN,
    execution: ExecutionConfig | None = None,
) -> ComparisonResult:
    """Return the result in the folder of an analysis as it is; of runs, their result, computed as far as needed."""
    folder = Path(sources[0])
    if len(sources) == 1 and (outcome := read_outcome(folder)) is not None:
        return _stored(folder, outcome)
    if len(sources) == 1 and not folder.exists():
        raise FileNotFoundError(f"There is neither a run nor an analysis at {folder}.")
    plan = plan_comparison(sources, analysis, design, None) if len(sources) > 1 else plan_run(folder, analysis)
    if differences := plan.differences():
        raise ValueError(
            f"{plan.folder} holds another analysis or comparison ({differences}). Draw that one with repsim figures "
            f"{plan.folder}, or write this one to another folder with repsim analyze or compare --output FOLDER first."
        )
    (result,) = carry_out([plan], execution or ExecutionConfig(), "error")
    return result


def _stored(folder: Path, outcome: dict[str, Any]) -> ComparisonResult:
    """Return the result of a folder, with the views and settings that its ``analysis.json`` names."""
    request = outcome["request"]
    names = [each.name for each in AnalysisConfig.settings()]
    given = {name: request[name] for name in names if request.get(name) is not None}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    config = AnalysisConfig.from_dict(values)
    runs = {path: _run(Path(path), folder) for path in dict.fromkeys(view["run"] for view in outcome["views"])}
    match = request.get("match")
    matching = match_stimuli(list(runs.values()), match) if match is not None else None
    views = tuple(
        View(each["label"], run := runs[each["run"]], each["step"], config.layers, _network(each, run, runs), matching)
        for each in outcome["views"]
    )

    def is_current() -> bool:
        now = read_outcome(folder)
        return now is not None and now["fingerprint"] == outcome["fingerprint"]

    return ComparisonResult(Tables(views, config, folder, is_current=is_current), outcome["summary"])


def _run(path: Path, folder: Path) -> Run:
    if not path.is_dir():
        raise ValueError(
            f"{folder} is an analysis of the run {path}, which is not there. Give the runs in place of the folder."
        )
    return Run.open(path)


def _network(view: dict[str, Any], run: Run, runs: dict[str, Run]) -> str:
    """Return the name of a network: the label of its view without the step."""
    return str(view["label"]).removesuffix(f", step {view['step']}") if len(runs) > 1 else run.path.name
