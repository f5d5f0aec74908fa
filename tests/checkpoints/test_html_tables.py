"""Runs in a notebook: every name is escaped, and unreadable values are replaced by their error."""

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from checkpoints import Capture, Run, Stimuli

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    stimuli = Stimuli.of(["x", "y", "z"], [0, 1, 1], ["train", "test", "test"], np.eye(3))
    model = nn.Sequential()
    model.add_module("<b>layer</b>", nn.Linear(3, 5))
    path = tmp_path / "<i>run"
    capture = Capture(model, ["**"])
    with Run.create(path, {"note": HOSTILE}, stimuli) as run:
        run.checkpoint(0, model)
        run.checkpoint(7, model, capture=capture)
        run.set_status("finished")
    return Run.open(path)


def test_a_run_shows_state_steps_layers_and_settings(run: Run) -> None:
    html = run._repr_html_()
    assert "<td>state</td><td>finished</td>" in html
    assert "<td>steps</td><td>0, 7</td>" in html
    assert "<td>recorded steps</td><td>7</td>" in html
    assert "<td>stimuli</td><td>3</td>" in html
    assert "<td>&lt;b&gt;layer&lt;/b&gt;</td><td>5</td><td>5</td><td>float32</td><td>flatten</td>" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not {"<script", "<b>layer", "<i>"} & {html[k : k + n] for n in (3, 7, 8) for k in range(len(html))}


def test_activations_are_shown_with_one_row_per_layer(run: Run) -> None:
    html = run.last().activations._repr_html_()
    assert html.startswith("<b>Activations</b> of 3 stimuli<table>")
    assert html.count("<tr>") == 2


def test_stimuli_are_counted_by_part_and_label(run: Run) -> None:
    html = run.stimuli._repr_html_()
    assert "<tr><th>part</th><th>label 0</th><th>label 1</th></tr>" in html
    assert "<tr><td>test</td><td>0</td><td>2</td></tr><tr><td>train</td><td>1</td><td>0</td></tr>" in html


def test_many_labels_and_steps_are_abbreviated(tmp_path: Path) -> None:
    stimuli = Stimuli.of([str(k) for k in range(40)], range(40), ["train"] * 40, np.eye(40))
    html = stimuli._repr_html_()
    assert "of 40 labels the first 12" in html
    assert html.count("<th>label") == 12
    model = nn.Linear(40, 1)
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        for step in range(20):
            run.checkpoint(step, model)
        assert "<td>0, 1, 2 … 19 (20)</td>" in run._repr_html_()


def test_unreadable_values_are_replaced_by_their_error(run: Run, tmp_path: Path) -> None:
    next(run.path.rglob("activations.h5")).write_bytes(b"no HDF5")
    html = run._repr_html_()
    assert "<td>finished</td>" in html
    assert "activations.h5 cannot be read" in html
    assert "<i>" not in html


def test_a_run_without_activations_shows_the_reason(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", {}, Stimuli.of(["x"], [0], ["test"], [[0.0]])).close()
    html = Run.open(tmp_path / "run")._repr_html_()
    assert "<td>recorded steps</td><td>none</td>" in html
    assert "has no checkpoint with activations yet" in html
