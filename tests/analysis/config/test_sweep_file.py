"""Sweep files: the trainings that one describes, and the sentence that answers a mistake in it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.config.analysis import AnalysisConfig
from analysis.config.comparison_design import DesignConfig
from analysis.config.roles import ROLES
from analysis.config.sweep_file import read_design, read_sweep
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
    "nothing varies": (
        SMALL,
        "sweep.toml has neither [grid] nor [cases.NAME] nor [arms.NAME]: nothing varies. Train one network by",
    ),
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


# Arms


ARMS = """
[grid]
seed = "0-2"
[arms.control]
role = "gradient-quality-matched"
method = "sg"
rule = "disturbed-gradient:like={sg}@1"
[arms.bp]
role = "reference"
[arms.sg]
role = "method"
rule = "synthetic-gradient@1"
estimator_learning_rate = 0.5
"""


def test_arms_are_trained_with_each_seed_and_keep_their_role_and_method(write: Callable[[str], Path]) -> None:
    described = read_sweep(write(SMALL + ARMS))
    assert [(arm.name, arm.role, arm.method) for arm in described.arms] == [
        ("control", "gradient-quality-matched", "sg"),
        ("bp", "reference", ""),
        ("sg", "method", ""),
    ]
    assert described.arms[1].runs == ("bp/seed-0", "bp/seed-1", "bp/seed-2")
    training = {run.name: run.training for run in described.runs}
    assert (training["sg/seed-2"].estimator_learning_rate, training["sg/seed-2"].seed) == (0.5, 2)
    assert training["bp/seed-2"].rule == "backprop"
    assert len(training) == 9
    assert described.runs[0].settings == {"arm": "bp", "seed": 0}
    assert described.analysis is None


@pytest.mark.parametrize("folder", [None, Path("elsewhere")])
def test_an_arm_in_a_rule_is_the_run_of_the_same_seed_which_comes_first(
    write: Callable[[str], Path], folder: Path | None
) -> None:
    runs = read_sweep(write(SMALL + ARMS), folder=folder).runs
    names = [run.name for run in runs]
    for seed in (0, 1, 2):
        control = next(run for run in runs if run.name == f"control/seed-{seed}")
        place = (folder or Path("runs/sweep")).absolute() / f"sg/seed-{seed}"
        assert control.training.rule == f"disturbed-gradient:like={place}@1"
        assert control.after == (f"sg/seed-{seed}",)
        assert names.index(f"sg/seed-{seed}") < names.index(control.name)


def test_without_a_grid_an_arm_in_a_rule_is_the_run_of_that_arm(write: Callable[[str], Path]) -> None:
    last = read_sweep(write(SMALL + ARMS.replace('[grid]\nseed = "0-2"', ""))).runs[-1]
    assert (last.name, last.after) == ("control", ("sg",))
    assert last.training.rule == f"disturbed-gradient:like={Path('runs/sweep/sg').absolute()}@1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RULE[grid]\nseed = [0]\n", "seed-0"),
        ("[grid]\nseed = [0]\n[cases.a]\nRULE", "a/seed-0"),
        (ARMS + "[arms.other]\nrole = 'decoupled'\nRULE", "other/seed-0"),
    ],
)
def test_the_seed_in_a_rule_is_left_to_the_rule(write: Callable[[str], Path], text: str, name: str) -> None:
    rule = "disturbed-gradient:like=old/seed-{seed}@1"
    runs = read_sweep(write(SMALL + text.replace("RULE", f"rule = '{rule}'\n"))).runs
    (run,) = (each for each in runs if each.name == name)
    assert run.training.rule == rule
    assert run.after == ()


@pytest.mark.parametrize(
    ("seeds", "expected"),
    [("'5-7'", [5, 6, 7]), ("[9, 8]", [9, 8]), ("'0,3'", [0, 3]), ("7", [7])],
)
def test_an_arm_may_have_seeds_of_its_own(write: Callable[[str], Path], seeds: str, expected: list[int]) -> None:
    described = read_sweep(write(SMALL + ARMS + f"[arms.again]\nrole = 'reseeded'\nseed = {seeds}\n"))
    again = [run for run in described.runs if run.settings["arm"] == "again"]
    assert [run.training.seed for run in again] == expected
    assert [run.name for run in again] == [f"again/seed-{seed}" for seed in expected]
    assert described.arms[-1].runs == tuple(run.name for run in again)
    assert described.arms[1].runs == ("bp/seed-0", "bp/seed-1", "bp/seed-2")


def test_splits_of_the_data_are_a_grid_of_arms_too(write: Callable[[str], Path]) -> None:
    described = read_sweep(write(SMALL + ARMS.replace("[grid]", "[grid]\nsplit_seed = [0, 1]")))
    assert described.arms[1].runs == tuple(f"bp/split_seed-{k}/seed-{seed}" for k in (0, 1) for seed in (0, 1, 2))
    control = next(run for run in described.runs if run.name == "control/split_seed-1/seed-2")
    assert control.after == ("sg/split_seed-1/seed-2",)
    assert (control.training.split_seed, control.training.seed) == (1, 2)


def test_an_arm_that_is_matched_in_accuracy_has_the_networks_of_the_reference(write: Callable[[str], Path]) -> None:
    described = read_sweep(write(SMALL + ARMS + "[arms.at]\nrole = 'accuracy-matched'\nmethod = 'sg'\n"))
    assert described.arms[-1].runs == described.arms[1].runs
    assert not [run for run in described.runs if run.name.startswith("at")]


def test_the_file_says_how_arms_are_compared(write: Callable[[str], Path]) -> None:
    text = "[analysis]\nmeasures = ['rsa']\n[comparison]\nalign = 'step'\nsmallest_effects = ['rsa=0.1']\n"
    described = read_sweep(write(SMALL + ARMS + text))
    assert described.comparison == AnalysisConfig(measures=("rsa",))
    assert described.design == DesignConfig(align="step", smallest_effects=("rsa=0.1",))


ARM_MISTAKES = {
    "no role": ("[arms.a]\ndepth = 3", "sweep.toml, [arms.a]: role and method have to be text, such as role = "),
    "a role that is a number": ("[arms.a]\nrole = 3", "sweep.toml, [arms.a]: role and method have to be text"),
    "a method that is a list": ("[arms.a]\nrole = 'method'\nmethod = ['a']", "[arms.a]: role and method have to be"),
    "unknown role": (
        "[arms.a]\nrole = 'placebo'",
        "[arms.a]: unknown role 'placebo'. Choose one of: reference",
    ),
    "an arm that is none": ("[arms]\na = 3", "sweep.toml, [arms]: 'a' is not a table; put its settings under [arms."),
    "an arm without a folder": ("[arms.'a/b']\nrole = 'method'", "arm 'a/b' cannot name a folder"),
    "an arm like the comparison": ("[arms.comparison]\nrole = 'method'", "arm 'comparison' has the name of a file"),
    "unknown setting": (ARMS + "[arms.x]\nrole = 'decoupled'\nlr = 1", "sweep.toml: x/seed-0: Unknown setting 'lr'."),
    "more than seeds vary": (
        ARMS.replace("[grid]", "[grid]\ndepth = [2, 3]"),
        "sweep.toml, [grid]: depth varies, but networks of one arm may differ in their seeds only.",
    ),
    "a list in an arm": (
        ARMS + "[arms.x]\nrole = 'decoupled'\ndepth = [2, 3]",
        "sweep.toml: x/seed-0: depth is [2, 3]; expected a whole number",
    ),
    "a list in a case": ("[cases.x]\nseed = [0, 1]", "sweep.toml: x: seed is [0, 1]; expected a whole number"),
    "cases too": (ARMS + "[cases.x]\n", "sweep.toml has both [cases] and [arms]; an arm is a case with a role."),
    "no seeds": (ARMS + "[arms.x]\nrole = 'reseeded'\nseed = []", "sweep.toml, [arms.x]: seed is []; expected a list"),
    "seeds of words": (
        ARMS + "[arms.x]\nrole = 'reseeded'\nseed = 'few'",
        "sweep.toml, [arms.x]: seeds 'few' are not understood at 'few'.",
    ),
    "settings of borrowed networks": (
        ARMS + "[arms.x]\nrole = 'accuracy-matched'\ndepth = 3\nseed = [3]",
        "sweep.toml, [arms.x]: an arm that is accuracy-matched has the networks of the reference; remove depth, seed.",
    ),
    "an arm in need of itself": (
        ARMS.replace("{sg}", "{control}"),
        "the rule of control/seed-0 names {control}, which is no other arm with networks.",
    ),
    "an arm in need of none": (
        ARMS.replace("{sg}", "{greedy}"),
        "the rule of control/seed-0 names {greedy}, which is no other arm with networks.",
    ),
    "an arm in need of borrowed networks": (
        ARMS.replace("{sg}", "{at}") + "[arms.at]\nrole = 'accuracy-matched'\n",
        "the rule of control/seed-0 names {at}, which is no other arm with networks.",
    ),
    "arms in need of each other": (
        ARMS.replace("synthetic-gradient@1", "disturbed-gradient:like={control}@1"),
        "sweep.toml: the rules of control/seed-0 and sg/seed-0 need each other.",
    ),
    "a seed that the other arm lacks": (
        ARMS.replace("[arms.sg]", "[arms.sg]\nseed = '0-1'"),
        "sweep.toml: the rule of control/seed-2 needs sg/seed-2, which is not among the trainings. Give both arms the "
        "same seeds.",
    ),
    "too many": (
        ARMS + "[arms.x]\nrole = 'reseeded'\nsplit_seed = [0,1,2,3,4,5,6,7,8,9,10]\nseed = '0-9999'",
        "sweep.toml describes 110009 trainings; expected at most 100000.",
    ),
    "a size of words": (
        ARMS + "[comparison]\nsmallest_effects = ['cka=small']",
        "sweep.toml, [comparison]: smallest effect is 'cka=small'; expected QUANTITY=SIZE",
    ),
    "unknown alignment": (
        ARMS + "[comparison]\nalign = 'loss'",
        "sweep.toml, [comparison]: Unknown align 'loss'. Choose one of: fraction, step, epoch, accuracy.",
    ),
    "unknown measure": (ARMS + "[analysis]\nmeasures = ['hsik']", "sweep.toml, [analysis]: Unknown measure 'hsik'."),
    "no reference": (
        ARMS.replace('"reference"', '"reseeded"'),
        "sweep.toml: There are 0 arms with the role 'reference'; expected one.",
    ),
    "no method": (
        "[grid]\nseed = '0-2'\n[arms.bp]\nrole = 'reference'",
        "sweep.toml: There is no arm with the role 'method'; expected one or more.",
    ),
    "a control of no method": (
        ARMS.replace('method = "sg"', 'method = "dfa"'),
        "sweep.toml: Arm 'control' is a control for 'dfa', which is no method. Choose one of: sg.",
    ),
    "a control that does not hold its role": (
        ARMS + "[arms.slow]\nrole = 'schedule-matched'\nepochs = 2",
        "sweep.toml: Arm 'slow' is schedule-matched for 'sg', but its epochs is 2, and that of 'sg' is 30.",
    ),
}


@pytest.mark.parametrize("mistake", ARM_MISTAKES)
def test_a_mistake_in_arms_is_one_sentence_with_its_place(write: Callable[[str], Path], mistake: str) -> None:
    text, words = ARM_MISTAKES[mistake]
    with pytest.raises(ValueError, match=r"^sweep\.toml") as caught:
        read_sweep(write(text))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_arms_is_no_design(write: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=r"sweep\.toml has no \[arms\.NAME\]; a comparison needs arms with roles"):
        read_design(write(SMALL + "[grid]\nseed = [0]\n"))


def test_the_example_of_a_design_can_be_read() -> None:
    described = read_design(Path(__file__).parents[3] / "examples" / "attribution.toml")
    roles = {arm.role for arm in described.arms}
    assert roles == set(ROLES) - {"reseeded"}
    assert all(len(arm.runs) == 5 for arm in described.arms)
