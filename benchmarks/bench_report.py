"""The report of 3 runs x 20 layers x 5 checkpoints beside its limits: 12 MB, and 3 s until its charts respond.

Networks and tables are random, so that nothing in them compresses well; 300 test stimuli, of which a page shows 200. A
headless Chromium opens the page from a file. Run alone, ``python benchmarks/bench_report.py`` prints sizes and seconds.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from harness import Ratio
from torch import Tensor, nn

from analysis.comparison.figures import draw_figures
from analysis.comparison.tables import probe_tables
from analysis.comparison.tables.result_tables import Tables
from analysis.comparison.tables.schema import TABLES
from analysis.comparison.view import View
from analysis.config.analysis import AnalysisConfig
from analysis.plots.drawing import save_figures
from analysis.report import write_report
from analysis.report.print_figures import embed_figure
from checkpoints import Capture, Run, Stimuli
from repsim import rdm
from repsim.learning import load_dataset

N_RUNS, N_LAYERS, N_STEPS, N_STIMULI, WIDTH = 3, 20, 5, 500, 32
MOST_MEGABYTES, MOST_SECONDS = 12.0, 3.0
LAYERS = [f"hidden.{depth}" for depth in range(1, N_LAYERS + 1)]


class Random(nn.Module):
    """Twenty layers, each with random weights."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = {str(k): nn.Linear(64 if k == 1 else WIDTH, WIDTH) for k in range(1, N_LAYERS + 1)}
        self.hidden = nn.ModuleDict(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return what the last layer makes of X."""
        for layer in self.hidden.values():
            X = torch.sin(2 * layer(X))
        return X


def run() -> list[Ratio]:
    size, _, ready = measured(repeats=3)
    return page_rows("a report of 300 layers", size, ready, MOST_SECONDS)


def page_rows(page: str, megabytes: float, seconds: list[float], most_seconds: float) -> list[Ratio]:
    """Return a page's size and the times until it responds, beside their limits."""
    return [
        Ratio(f"size of {page}", f"{MOST_MEGABYTES:g} MB", [megabytes / MOST_MEGABYTES], "<= 1"),
        Ratio("opening it", f"{most_seconds:g} s", [each / most_seconds for each in seconds], "<= 1"),
    ]


def measured(repeats: int) -> tuple[float, float, list[float]]:
    """Return megabytes, seconds to write, and seconds until the page responds."""
    with tempfile.TemporaryDirectory() as name:
        tables = _tables(Path(name))
        drawings = list(draw_figures(tables))
        save_figures(drawings, Path(name) / "figures")
        page = Path(name) / "report.html"
        start = time.perf_counter()
        pictures = [embed_figure(drawing, Path(name) / "figures") for drawing in drawings]
        write_report(page, tables, pictures, command="repsim")
        seconds = time.perf_counter() - start
        return page.stat().st_size / 1e6, seconds, [seconds_to_open(page) for _ in range(repeats)]


def seconds_to_open(page: Path) -> float:
    """Return the seconds until the page responds in a headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page()
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_function("window.repsimReady", timeout=60_000)
        seconds = time.perf_counter() - start
        browser.close()
    return seconds


def _tables(folder: Path) -> Tables:
    views = [view for index in range(N_RUNS) for view in _recorded(folder, index)]
    _write_rdms(folder / "rdm.h5", views)
    probes = _probes(views)
    frames = {name: pd.DataFrame(columns=list(table.columns)) for name, table in TABLES.items()} | {
        "probes": probes,
        "probe_bands": probe_tables.probe_band_table(probes),
        "probe_differences": probe_tables.probe_difference_table(probes),
        "first_layers": probe_tables.first_layer_table(probes),
        "class_structure": _by_layer(views, "class_structure"),
        "layer_quantities": _quantities(views),
        "similarity": _similarity(views),
        "rdm_similarity": _by_layer(views, "pearson"),
        "training": _training(views),
        "gradients": _gradients(views),
    }
    return Tables(views, AnalysisConfig(measures=("cka", "procrustes")), folder, frames)


def _recorded(folder: Path, index: int) -> list[View]:
    digits = load_dataset("digits")
    ids = [f"{k:08d}" for k in range(N_STIMULI)]
    split = np.repeat(["train", "validation", "test"], [100, 100, 300])
    stimuli = Stimuli.of(ids, digits.y[:N_STIMULI], split, digits.X[:N_STIMULI])
    config = {
        "training": {"data": "digits", "rule": "backprop", "seed": index},
        "recording": {},
        "data": {"name": "digits", "data_dir": None, "n_train": 100, "n_validation": 100, "n_test": 300},
    }
    steps = [100 * k for k in range(N_STEPS)]
    with Run.create(folder / f"run-{index}", config, stimuli) as new:
        for step in steps:
            model = Random(1000 * index + step)
            capture = Capture(model, ["hidden.*"])
            new.checkpoint(step, model, capture=capture)
    path = folder / f"run-{index}"
    return [View(f"run-{index}, step {step}", Run.open(path), step, network=f"run-{index}") for step in steps]


def _write_rdms(path: Path, views: list[View]) -> None:
    with h5py.File(path, "x") as file:
        for index, view in enumerate(views):
            for layer, values in view.activations.items():
                file[f"{index:04d}/{layer}"] = rdm(values[view.rows("test")]).astype(np.float32)


def _by_layer(views: list[View], column: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"view": view.label, "step": view.step, "layer": layer, "depth": depth, column: rng.random()}
            for view in views
            for depth, layer in enumerate(LAYERS, start=1)
        ]
    )


def _quantities(views: list[View]) -> pd.DataFrame:
    names = ("weight_norm", "weight_growth", "participation_ratio", "similarity_to_last")
    table = _by_layer(views, names[0])
    return table.assign(
        network=[view.network for view in views for _ in LAYERS], **dict.fromkeys(names, table[names[0]])
    )


def _probes(views: list[View]) -> pd.DataFrame:
    table = _by_layer(views, "accuracy").assign(d=WIDTH, seed=0, C_at_edge=False, n_test=300, chance=0.1)
    return table.assign(method=table["view"], run="runs", status="ok", message="", log_loss=1 - table["accuracy"])


def _similarity(views: list[View]) -> pd.DataFrame:
    places = [(view.label, layer, depth) for view in views for depth, layer in enumerate(LAYERS, start=1)]
    a, b = np.indices((len(places), len(places))).reshape(2, -1)
    columns = {
        f"{name}_{side}": [places[k][part] for k in which]
        for side, which in (("a", a), ("b", b))
        for part, name in enumerate(("view", "layer", "depth"))
    }
    values = np.random.default_rng(0).random((2, len(a)))
    return pd.DataFrame({**columns, "cka": values[0], "procrustes": values[1]})


def _training(views: list[View]) -> pd.DataFrame:
    epochs = np.arange(20)
    curve = np.exp(-epochs / 5)
    frames = [
        pd.DataFrame(
            {
                "epoch": epochs,
                "loss": curve,
                "accuracy": 1 - curve,
                "validation_loss": curve,
                "validation_accuracy": 1 - curve,
            }
        ).assign(view=view.network)
        for view in views[::N_STEPS]
    ]
    return pd.concat(frames, ignore_index=True)


def _gradients(views: list[View]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "view": view.network,
                "step": step,
                "boundary": k,
                "rule": "synthetic-gradient",
                "angle": 90 * rng.random(),
            }
            for view in views[::N_STEPS]
            for step in range(1, 401, 20)
            for k in range(1, N_LAYERS + 1)
        ]
    )


if __name__ == "__main__":
    megabytes, writing, opening = measured(repeats=3)
    print(f"page      {megabytes:6.2f} MB  (limit {MOST_MEGABYTES:g} MB)")
    print(f"written in {writing:5.2f} s")
    print(f"responds in {min(opening):4.2f} to {max(opening):.2f} s  (limit {MOST_SECONDS:g} s)")
