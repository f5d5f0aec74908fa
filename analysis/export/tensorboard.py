"""Event files of TensorBoard: what a run logged, or the tables of an analysis, by step; and layers for the projector.

Numbers are single precision there. The events are written with TensorBoard's own classes, which import no TensorFlow.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparison.analysis_plan import read_outcome
from analysis.export.layout import digits_of, layer_file, safe_name, stimulus_columns
from analysis.export.sources import ExportedAnalysis, ExportedLayer, ExportedRun, ExportedView, blocks

__all__ = ["count", "write_analysis", "write_recording"]

_KEYS = ("layer", "boundary", "target", "fraction")  # columns that say which curve a row belongs to
_NO_VALUES = ("depth", "depth_a", "depth_b", "seed", "step", "epoch")
_PROJECTOR = "projector_config.pbtxt"
_STIMULI = "stimuli.tsv"

Points = dict[int, dict[str, float]]  # scalars by step and tag


def count(source: ExportedRun | ExportedAnalysis) -> int:
    """Return the number of steps of an export: one per layer and one for the log, or one per table."""
    return len(source) + 1 if isinstance(source, ExportedRun) else len(source.table_paths)


def write_recording(run: ExportedRun, folder: Path, done: Callable[[str], None]) -> None:
    """Write every number that the run logged, by step, and the layers for the projector.

    The tag of a number is its path in ``metrics.jsonl``, such as ``validation_loss`` or ``gradients/3/cosine``.
    """
    records = run.run.metrics()
    if not records and not run.layers:
        raise ValueError(f"{run.run.path} has neither logged nor recorded anything; there is nothing to export.")
    with _events(folder, datetime.fromisoformat(run.run.info["created"]).timestamp()) as write:
        for record in records:
            write(record["step"], dict(_scalars(record)))
    done("metrics")
    if run.layers:
        _write_embeddings(run, folder, done)


def _scalars(record: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers of a nested record with their tags."""
    for name, value in record.items():
        tag = f"{before}{name}"
        if isinstance(value, Mapping):
            yield from _scalars(value, f"{tag}/")
        elif isinstance(value, list):
            yield from _scalars(dict(zip(map(str, range(len(value))), value, strict=True)), f"{tag}/")
        elif isinstance(value, bool | int | float) and tag != "step":
            yield tag, float(value)


@contextmanager
def _events(folder: Path, seconds: float) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """Yield a function that writes the scalars of one step; all have the same time, as none was logged."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"events.out.tfevents.{int(seconds):010d}.repsim").open("xb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=seconds, file_version="brain.Event:2").SerializeToString())

        def write(step: int, scalars: Mapping[str, float]) -> None:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
            if values:
                writer.write(Event(wall_time=seconds, step=step, summary=Summary(value=values)).SerializeToString())

        yield write


# Layers for the projector


def _write_embeddings(run: ExportedRun, folder: Path, done: Callable[[str], None]) -> None:
    """Write one table of numbers per layer, the table of the stimuli, and the file that lists them."""
    from google.protobuf.text_format import MessageToString  # type: ignore[import-untyped]
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    columns = stimulus_columns(run, slice(None))
    with (folder / _STIMULI).open("x", encoding="utf-8", newline="") as file:
        file.write("\t".join(map(_cell, columns)) + "\n")
        for row in zip(*columns.values(), strict=True):
            file.write("\t".join(map(_cell, row)) + "\n")
    config = ProjectorConfig()
    for each in run.layers:
        path = layer_file(each, ".tsv")
        (folder / path).parent.mkdir(exist_ok=True)
        _write_vectors(folder / path, each)
        name = f"{each.layer.name}, step {each.step}"
        config.embeddings.add(tensor_name=name, tensor_path=path, metadata_path=_STIMULI)
        done(each.layer.name)
    (folder / _PROJECTOR).write_text(MessageToString(config, as_utf8=True), encoding="utf-8")


def _write_vectors(path: Path, each: ExportedLayer) -> None:
    with path.open("x", encoding="utf-8", newline="") as file:
        template = "\t".join([digits_of(each.layer.dtype)] * each.layer.shape[1]) + "\n"
        for _, block in blocks(each.layer):
            for row in block.tolist():
                file.write(template % tuple(row))


def _cell(value: Any) -> str:
    """Return a value as text without the characters that end a cell."""
    return " ".join(str(value).split()) or "-"


# Analyses


def write_analysis(analysis: ExportedAnalysis, folder: Path, done: Callable[[str], None]) -> None:
    """Write the numbers of the tables by step (of ``training``, by epoch), in one folder per network.

    A tag is the table and column, then the layer or boundary, such as ``probes.accuracy/hidden.1``. Of ``similarity``,
    the similarity of each layer to the same layer of the first network is written: at the same step, or, of the first
    network itself and where it lacks the step, of the first view.
    """
    names = _networks(analysis)
    points: dict[str, Points] = defaultdict(lambda: defaultdict(dict))
    for table, frames in analysis.table_blocks():
        for frame in frames:
            if {"view_a", "view_b", "layer_a", "layer_b"} <= set(frame):
                frame = _with_the_reference(frame, analysis, names)
            if "view" in frame:
                _add_points(points, table, frame, analysis, names)
        done(table)
    if not any(points.values()):
        raise ValueError(f"The tables in {analysis.folder} hold no numbers by step; there is nothing to export.")
    seconds = (analysis.folder / "rdm.h5").stat().st_mtime
    taken: set[str] = set()
    for network, by_step in points.items():
        with _events(folder / _free_folder(network, taken), seconds) as write:
            for step in sorted(by_step):
                write(step, by_step[step])


def _networks(analysis: ExportedAnalysis) -> dict[str, str]:
    """Return the name of the network of each view, by label."""
    outcome = read_outcome(analysis.folder) or {}
    run_of = {each["label"]: Path(each["run"]).name for each in outcome.get("views", [])}
    return {view.label: _network(view, run_of.get(view.label, "run")) for view in analysis.views}


def _network(view: ExportedView, run_name: str) -> str:
    """Return the label without the step; in an analysis of one run, the label is the step."""
    step = f"step {view.step}"
    return run_name if view.label in ("untrained", step) else view.label.removesuffix(f", {step}")


def _with_the_reference(frame: pd.DataFrame, analysis: ExportedAnalysis, names: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows that compare a layer with the same layer of the reference, in columns view and layer."""
    first = analysis.views[0].label
    at_step = {view.step: view.label for view in analysis.views if names[view.label] == names[first]}
    reference = {
        view.label: first if names[view.label] == names[first] else at_step.get(view.step, first)
        for view in analysis.views
    }
    is_wanted = (frame["layer_a"] == frame["layer_b"]) & (frame["view_a"] != frame["view_b"])
    is_wanted &= frame["view_b"].map(reference) == frame["view_a"]
    return frame[is_wanted].rename(columns={"view_b": "view", "layer_b": "layer"})


def _add_points(
    points: dict[str, Points], table: str, frame: pd.DataFrame, analysis: ExportedAnalysis, names: Mapping[str, str]
) -> None:
    """Add every finite number of a table: a column of floats is a value, one of ``_KEYS`` belongs to the tag."""
    step_of = {view.label: view.step for view in analysis.views}
    views = frame["view"].astype(str).tolist()
    steps = next((frame[name].tolist() for name in ("step", "epoch") if name in frame), None)
    steps = [step_of.get(view) for view in views] if steps is None else steps
    keys = _curves(frame)
    for column in frame.select_dtypes("float"):
        if column not in (*_KEYS, *_NO_VALUES):
            for view, step, key, value in zip(views, steps, keys, frame[column].tolist(), strict=True):
                if math.isfinite(value) and step is not None:
                    points[names.get(view, view)][int(step)][f"{table}.{column}{key}"] = value


def _curves(frame: pd.DataFrame) -> list[str]:
    """Return the last part of the tag of each row, such as ``/hidden.1``, with the target if it is not the label."""
    curves = [""] * len(frame)
    for name in _KEYS:
        if name in frame:
            values = ["" if name == "target" and value == "label" else f"/{value}" for value in frame[name].tolist()]
            curves = [curve + value for curve, value in zip(curves, values, strict=True)]
    return curves


def _free_folder(network: str, taken: set[str]) -> str:
    """Return the folder of a network: its name, with one folder per part, numbered if another has it."""
    name = "/".join(safe_name(part).lstrip(".") or "_" for part in network.split("/"))
    found, number = name, 2
    while found.lower() in taken:
        found, number = f"{name}_{number}", number + 1
    taken.add(found.lower())
    return found
