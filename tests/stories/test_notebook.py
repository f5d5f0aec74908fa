"""Someone trains two networks in a notebook, compares them, looks at the result, and runs the cells again."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).parents[2]

SETTINGS = """\
from analysis import AnalysisConfig, RecordingConfig, compare_runs, train_run
from repsim import rdm
from repsim.learning import TrainingConfig

usual = dict(data="digits", depth=2, width=8, activation="tanh", epochs=1, batch_size=256)
few = RecordingConfig(n_train=60, n_validation=30, n_test=30, steps="last")
"""
TRAIN = """\
runs = [
    train_run("runs/backprop", TrainingConfig(**usual), few, exists="resume").path,
    train_run("runs/sg", TrainingConfig(rule="synthetic-gradient", **usual), few, exists="resume").path,
]
"""
COMPARE = """\
result = compare_runs(runs, config=AnalysisConfig(Cs=(1.0,)), output="comparison", exists="resume")
result
"""
CELLS = {
    "settings": SETTINGS,
    "train": TRAIN,
    "compare": COMPARE,
    "train again": TRAIN,
    "compare again": COMPARE,
    "plot": "result.plot()",
    "tables": 'result.tables["probes"].head()',
    "rdm": """\
from checkpoints import Run

D = rdm(Run.open(runs[0]).last().activations["hidden.1"])
D
""",
    "silent": """\
run = train_run(runs[0], TrainingConfig(**usual), few, exists="replace", progress=False)
run.status["state"]
""",
    "error": """\
try:
    compare_runs(runs, config=AnalysisConfig(Cs=(1.0,), distance="cosine"), output="comparison")
except FileExistsError as error:
    print(error)
""",
}
QUICK = """\
from pathlib import Path
from matplotlib.figure import Figure

draw = Figure.savefig

def savefig(figure, path, **options):
    if isinstance(path, Path) and path.name not in ("cka.png", "probe_accuracy.png", "class_structure.png"):
        path.write_bytes(b"")
    else:
        draw(figure, path, **options)

Figure.savefig = savefig
"""  # the other files of figures, which no cell shows, would take most of the time


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[Any]], Path]:
    """Run the notebook in a kernel, and return the outputs of its cells, and its folder."""
    folder = tmp_path_factory.mktemp("notebook")
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS.values()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / ".jupyter"))
        startup = folder / ".jupyter/profile_default/startup"
        startup.mkdir(parents=True)
        (startup / "quick.py").write_text(QUICK)
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    nbformat.validate(notebook)
    return dict(zip(CELLS, [cell.outputs for cell in notebook.cells], strict=True)), folder


def text_of(outputs: list[Any]) -> str:
    return "\n".join(each.get("text") or each["data"].get("text/plain", "") for each in outputs)


def result_of(outputs: list[Any]) -> dict[str, str]:
    return next(each["data"] for each in outputs if each["output_type"] == "execute_result")


def test_no_cell_writes_to_standard_error(shown: tuple[dict[str, list[Any]], Path]) -> None:
    outputs, _ = shown
    assert not [each for cell in outputs.values() for each in cell if each.get("name") == "stderr"]


def test_training_and_comparison_show_a_bar(shown: tuple[dict[str, list[Any]], Path]) -> None:
    outputs, _ = shown
    assert re.search(r"^backprop █+ (\d+)/\1 in \d+ s", text_of(outputs["train"]), flags=re.MULTILINE)
    assert re.search(r"^analysis █+ (\d+)/\1 in \d+ s", text_of(outputs["compare"]), flags=re.MULTILINE)
    assert text_of(outputs["silent"]) == "'finished'"


def test_the_result_shows_figures_and_links_its_report(shown: tuple[dict[str, list[Any]], Path]) -> None:
    outputs, folder = shown
    html = result_of(outputs["compare"])["text/html"]
    assert html.count('<img src="data:image/png;base64,iVBOR') == 3
    assert (folder / re.findall(r'href="([^"]*)"', html)[0]).samefile(folder / "comparison/report.html")
    assert "image/png" in result_of(outputs["plot"])
    assert "<table" in result_of(outputs["tables"])["text/html"]
    assert "image/png" in result_of(outputs["rdm"])
    assert result_of(outputs["rdm"])["text/plain"].startswith("RDM of 120 stimuli (correlation)")


def test_cells_that_are_run_again_give_the_same_at_once(shown: tuple[dict[str, list[Any]], Path]) -> None:
    outputs, _ = shown
    assert "█" not in text_of(outputs["train again"])
    assert "Nothing has changed" in text_of(outputs["compare again"])
    assert result_of(outputs["compare again"])["text/html"] == result_of(outputs["compare"])["text/html"]


def test_another_comparison_in_the_folder_is_refused_with_what_to_type(
    shown: tuple[dict[str, list[Any]], Path],
) -> None:
    outputs, _ = shown
    assert "comparison holds another analysis or comparison" in text_of(outputs["error"])
    assert "exists='replace'" in text_of(outputs["error"])
