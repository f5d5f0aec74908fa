"""Carrying out a study: its pieces, the tables that they make, figures and the report."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from analysis.comparison import Planned, Store, layer_tables, plan, probe_tables, run_tables, tasks_of
from analysis.comparison.figures import draw_figures
from analysis.comparison.rdm_file import RDM_FILE, write_rdms
from analysis.comparison.result import ComparisonResult
from analysis.comparison.results import facts_of, probe_rows, similarities, undefined_of, warnings_of
from analysis.comparison.study import OUTCOME, Study
from analysis.comparison.summary import check_any_defined, summarise, undefined_sentences
from analysis.comparison.tables import Tables
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.execution.folders import refreshed
from analysis.execution.serial import SerialExecutor
from analysis.plots.drawing import save_figures
from analysis.report import write_report
from checkpoints.storage.commit import replace_file, sync

__all__ = ["assemble", "measure"]


def assemble(study: Study) -> None:
    """Write the tables, figures and report of a study whose pieces are done, and last ``analysis.json``."""
    planned = plan(study.views, study.config)
    store = Store(study.target)
    with refreshed(study.target) as staging:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            tables = _write_tables(study.views, study.config, planned, store, staging)
            check_any_defined(tables)
            drawings = list(draw_figures(tables))
            save_figures(drawings, staging / "figures")
            page, figures = staging / "report.html", staging / "figures"
            write_report(page, study.title, tables, drawings, figures, command=study.command)
        files = {str(path.relative_to(staging)): path.stat().st_size for path in staging.rglob("*") if path.is_file()}
        summary = summarise(tables)
        (study.target / OUTCOME).unlink(missing_ok=True)  # the folder is inconsistent until it is rewritten
    said = [*undefined_sentences(tables), *warnings_of(study.views, planned, store)]
    said += [str(each.message) for each in given if issubclass(each.category, RuntimeWarning | UserWarning)]
    sync(study.target / RDM_FILE)  # before the pieces that it was made of are removed
    replace_file(study.target / OUTCOME, study.outcome(files, summary, list(dict.fromkeys(said))))
    store.forget(piece.key for piece in planned.rdms.values())


def measure(
    views: Sequence[View],
    folder: Path,
    *,
    distance: str = "correlation",
    measures: Sequence[str] = ("cka",),
    Cs: Sequence[float] = AnalysisConfig.Cs,
) -> ComparisonResult:
    """Fit the probes, compute the RDMs and similarities of the views, and write the tables and ``rdm.h5``.

    Parameters
    ----------
    views : sequence of View
        On the same stimuli.
    folder : Path
        Exists; pieces that it holds are not done again.
    distance, measures, Cs
        As in ``AnalysisConfig``.

    Warns
    -----
    RuntimeWarning
        What the pieces had to say.
    """
    config = AnalysisConfig(distance=distance, measures=tuple(measures), Cs=tuple(Cs))
    planned = plan(views, config)
    for _, error in SerialExecutor().completed(tasks_of(planned, folder)):
        if error is not None:
            raise error
    store = Store(folder)
    tables = _write_tables(views, config, planned, store, folder)
    for message in [*undefined_sentences(tables), *warnings_of(views, planned, store)]:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    return ComparisonResult(tables)


def _write_tables(
    views: Sequence[View], config: AnalysisConfig, planned: Planned, store: Store, folder: Path
) -> Tables:
    """Write ``rdm.h5`` and a CSV file of every table into a folder."""
    write_rdms(folder / RDM_FILE, views, config.distance, planned.rdms, store)
    probes = probe_tables.probe_table(views, probe_rows(planned, store))
    frames = {
        "probes": probes,
        "probe_bands": probe_tables.probe_band_table(probes),
        "probe_differences": probe_tables.probe_difference_table(probes),
        "first_layers": probe_tables.first_layer_table(probes),
        "class_structure": layer_tables.class_structure_table(views, facts_of(planned.class_structure, store)),
        "similarity": layer_tables.similarity_table(views, similarities(views, planned, store)),
        "rdm_similarity": layer_tables.rdm_similarity_table(views, facts_of(planned.rdm_similarity, store)),
        "undefined": layer_tables.undefined_table(views, undefined_of(views, planned, store)),
        "training": run_tables.training_table(views),
        "gradients": run_tables.gradient_table(views),
    }
    tables = Tables(views, config, folder, frames)
    tables.write(folder)
    return tables
