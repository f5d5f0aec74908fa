"""Sweep files: the trainings that one describes, and the sentence that answers a mistake in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.config.analysis import AnalysisConfig
from analysis.config.sweep_file import read_sweep
from analysis.config.toml_files import DEFAULTS_FILE, SettingsFile
from repsim.learning import TrainingConfig

SMALL = "[training]\ndata = 'digits'\ndepth = 2\nwidth = 4\nepochs = 1\nbatch_size = 200\n"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write sweep.toml in an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def to_file(text: str) -> Path:
        path = Path("sweep.toml")
        path.write_text(text)
        return path

    return to_file


def test_every_case_is_trained_at_every_point_of_the_grid_and_seeds_vary_fastest(write: Callable[[str], Path]) -> None:
    path = write(
        SMALL + "[grid]\nseed = '0-1'\nwidth = [4, 8]\n[cases.bp]\n[cases.noise]\nrule = 'noise'\nlearning_rate = 0.1\n"
    )
    runs = read_sweep(path).runs
    assert [run.name for run in runs] == [
        f"{case}/width-{width}/seed-{seed}" for case in ("bp", "noise") for width in (4, 8) for seed in (0, 1)
    ]
    assert runs[-1].training == TrainingConfig(
        data="digits", depth=2, width=8, epochs=1, batch_size=200, rule="noise", learning_rate=0.1, seed=1
    )
    assert runs[-1].settings == {"case": "noise", "width": 8, "seed": 1}
    assert runs[0].training.rule == "backprop"


@pytest.mark.parametrize(
    ("varied", "names"),
    [
        ("[grid]\nseed = [3, 1]", ["seed-3", "seed-1"]),
        ("[grid]\nseed = '0,3,5-6'", ["seed-0", "seed-3", "seed-5", "seed-6"]),
        ("[grid]\nseed = '1-10'", [f"seed-{seed}" for seed in range(1, 11)]),
        ("[cases.deep]\ndepth = 4\n[cases.'v1.5+b']\n", ["deep", "v1.5+b"]),
        ("[grid]\nrule = ['noise:scale=2@1', 'backprop']", ["rule-noise_scale_2_1", "rule-backprop"]),
        ("[grid]\nlearning_rate = [0.1, 1e-3]", ["learning_rate-0.1", "learning_rate-0.001"]),
    ],
)
def test_folders_of_runs_are_named_by_what_varies(write: Callable[[str], Path], varied: str, names: list[str]) -> None:
    assert [run.name for run in read_sweep(write(SMALL + varied)).runs] == names


def test_the_grid_overrides_cases_which_override_the_file_which_overrides_defaults(
    write: Callable[[str], Path],
) -> None:
    path = write("[training]\ndepth = 3\nwidth = 5\n[grid]\nseed = [7]\n[cases.a]\nwidth = 6\nseed = 1\n")
    defaults = SettingsFile(DEFAULTS_FILE, {"training": {"depth": 9, "epochs": 4}, "recording": {"n_train": 5}})
    (run,) = read_sweep(path, defaults).runs
    chosen = run.training
    assert (chosen.epochs, chosen.depth, chosen.width, chosen.seed, run.recording.n_train) == (4, 3, 6, 7, 5)


def test_the_file_of_a_users_data_is_found_from_any_folder(write: Callable[[str], Path]) -> None:
    (run,) = read_sweep(write("[training]\ndata = 'mine.npz'\n[grid]\nseed = [0]\n")).runs
    assert run.training.data == str(Path("mine.npz").absolute())


def test_runs_are_analyzed_only_if_the_file_has_the_table(write: Callable[[str], Path]) -> None:
    defaults = SettingsFile(DEFAULTS_FILE, {"analysis": {"distance": "cosine", "steps": "all"}})
    assert read_sweep(write("[grid]\nseed = [0]\n"), defaults).analysis is None
    asked = read_sweep(write("[grid]\nseed = [0]\n[analysis]\nsteps = 'last'\n"), defaults).analysis
    assert asked == AnalysisConfig(distance="cosine", steps="last")


MISTAKES = {
    "not TOML": ("grid: seed", "sweep.toml is not a TOML file (Expected"),
    "deeper than can be read": (f"a = {'[' * 5000}", "sweep.toml is not a TOML file ("),
    "a number without end": (f"[grid]\nseed = [{'9' * 5000}]", "sweep.toml is not a TOML file ("),
    "unknown table": (
        "[gird]\nseed = '0-1'",
        "sweep.toml: 'gird' is not one of its tables; put settings under [training]",
    ),
    "a table that is none": ("grid = 3", "sweep.toml: 'grid' is not one of its tables"),
    "nothing varies": (SMALL, "sweep.toml has neither [grid] nor [cases.NAME]: nothing varies. Train one network by"),
    "an empty file": ("", "sweep.toml has neither [grid] nor [cases.NAME]"),
    "unknown setting": ("[training]\nlr = 1\n[grid]\nseed = [0]", "sweep.toml, [training]: Unknown setting 'lr'."),
    "unknown recording": ("[recording]\nn = 1\n[grid]\nseed = [0]", "sweep.toml, [recording]: Unknown setting 'n'."),
    "unknown in the grid": ("[grid]\nlr = [1]", "sweep.toml, [grid]: unknown setting 'lr'. Choose one of: activation,"),
    "recording in the grid": ("[grid]\nsteps = ['last']", "sweep.toml, [grid]: unknown setting 'steps'."),
    "one value": ("[grid]\ndepth = 3", "sweep.toml, [grid]: depth is 3; expected a list of one or more values."),
    "no value": ("[grid]\ndepth = []", "sweep.toml, [grid]: depth is []; expected a list of one or more values."),
    "text for a list": ("[grid]\nrule = 'noise'", "sweep.toml, [grid]: rule is 'noise'; expected a list"),
    "a value twice": ("[grid]\ndepth = [2, 2]", "sweep.toml, [grid]: depth has equal values, or two with the same"),
    "one folder": ("[grid]\nrule = ['noise@1', 'noise:1']", "sweep.toml, [grid]: rule has equal values, or two with"),
    "no seeds": ("[grid]\nseed = 'few'", "sweep.toml, [grid]: seeds 'few' are not understood at 'few'."),
    "seeds that count down": ("[grid]\nseed = '3-1'", "sweep.toml, [grid]: seeds '3-1' are not understood at '3-1'"),
    "a seed twice": ("[grid]\nseed = '0,0-2'", "sweep.toml, [grid]: seeds '0,0-2' name a seed twice."),
    "a value out of range": ("[grid]\ndepth = [2, 0]", "sweep.toml: depth-0: depth is 0; expected a whole number of 1"),
    "a value of another kind": ("[grid]\nseed = [0, 'x']", "sweep.toml: seed-x: seed is 'x'; expected a whole number"),
    "what does not go together": (
        "[training]\nrule = 'noise@4'\n[grid]\ndepth = [4, 2]\nseed = [0]",
        "sweep.toml: depth-2/seed-0: boundaries '4' names boundary 4; a network with 2 hidden layers",
    ),
    "a case that is none": (
        "[cases]\ndepth = 3",
        "sweep.toml, [cases]: 'depth' is not a table; put its settings under",
    ),
    "a case without a folder": ("[cases.'a/b']", "sweep.toml: case 'a/b' cannot name a folder; use letters, digits,"),
    "a case above": ("[cases.'..']", "sweep.toml: case '..' cannot name a folder"),
    "a case of no name": ("[cases.'']", "sweep.toml: case '' cannot name a folder"),
    "a case like the lock": (
        "[cases.lock]",
        "sweep.toml: case 'lock' has the name of a file of the sweep; rename it.",
    ),
    "a case that will not do": (
        "[cases.bad]\nnorm = 'l2'",
        "sweep.toml: bad: Unknown norm 'l2'. Choose one of: batch,",
    ),
    "a case of unknown settings": ("[cases.bad]\nlr = 2", "sweep.toml: bad: Unknown setting 'lr'."),
    "too many": (
        "[grid]\nseed = '0-9999'\nsplit_seed = [0,1,2,3,4,5,6,7,8,9,10]",
        "sweep.toml describes 110000 trainings; expected at most 100000.",
    ),
    "unknown in the analysis": (
        "[grid]\nseed = [0]\n[analysis]\nlayer = ['a']",
        "sweep.toml, [analysis]: Unknown setting 'layer'. Choose one of: steps, layers, ",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_file_is_one_sentence_with_its_place(write: Callable[[str], Path], mistake: str) -> None:
    text, words = MISTAKES[mistake]
    with pytest.raises(ValueError, match=r"^sweep\.toml") as caught:
        read_sweep(write(text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
