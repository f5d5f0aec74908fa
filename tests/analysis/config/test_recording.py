import json
import re

import pytest

from analysis.config.recorded_steps import choose_recorded_steps, is_trained_here
from analysis.config.recording import RecordingConfig, choose_steps


@pytest.mark.parametrize(
    ("text", "n_steps", "steps"),
    [
        ("first", 10, (0,)),
        ("last", 10, (10,)),
        ("first,last", 0, (0,)),
        ("last, 3,first,3", 10, (0, 3, 10)),
        ("every:4", 10, (4, 8)),
        ("every:5", 10, (5, 10)),
        ("every:11", 10, ()),
        ("log:1", 1000, (1,)),
        ("log:4", 1000, (1, 10, 100, 1000)),
        ("log:5", 2, (1, 2)),
        ("log:5", 0, ()),
    ],
)
def test_a_description_names_steps_in_order_and_once(text: str, n_steps: int, steps: tuple[int, ...]) -> None:
    assert choose_steps(text, n_steps) == steps


@pytest.mark.parametrize("count", [2, 3, 7, 50])
def test_logarithmic_steps_run_from_the_first_update_to_the_last(count: int) -> None:
    steps = choose_steps(f"log:{count}", 12345)
    assert (steps[0], steps[-1]) == (1, 12345)
    assert len(steps) <= count


def test_a_step_beyond_the_training_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"^steps '3,12,40' name step 12; this training ends at step 10\.$"):
        choose_steps("3,12,40", 10)
    assert choose_steps("3,12,40", 10, check_range=False) == (3,)


@pytest.mark.parametrize(
    "part",
    [
        "",
        "middle",
        "every:",
        "every:0",
        "every:-1",
        "log:x",
        "log",
        "-1",
        "1.5",
        "first:2",
        "%",
        "101%",
        "-5%",
        "1.2.3%",
    ],
)
def test_an_invalid_part_of_a_description_is_named(part: str) -> None:
    known = r"first, last, every:N, log:N, numbers and shares such as 25%, joined by commas\.$"
    message = rf"'{re.escape(part)}' is not understood\. Use {known}"
    with pytest.raises(ValueError, match=message):
        choose_steps(f"first,{part}", 10)


def test_a_share_of_the_training_is_a_step() -> None:
    assert choose_steps("0%,6.25%,50%,100%", 1080) == (0, 68, 540, 1080)


@pytest.mark.parametrize(
    ("text", "steps"),
    [("first", (0,)), ("last", (40,)), ("all", (0, 10, 40)), ("10, last,10", (10, 40)), ("all,first", (0, 10, 40))],
)
def test_recorded_steps_are_chosen_by_name_and_number(text: str, steps: tuple[int, ...]) -> None:
    assert choose_recorded_steps(text, [0, 10, 40]) == steps


@pytest.mark.parametrize("part", ["", "11", "every:10", "-1"])
def test_an_unrecorded_step_is_rejected(part: str) -> None:
    message = rf"^'{part}' is not a recorded step\. Use first, last, all or any of: 0, 10, 40\.$"
    with pytest.raises(ValueError, match=message):
        choose_recorded_steps(f"first,{part}", [0, 10, 40])


def test_recording_settings_come_back_from_json() -> None:
    settings = RecordingConfig(steps="every:5", layers=("hidden.1", "output"), n_test=3, compress=True)
    assert RecordingConfig.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_recording_without_signals_is_described_as_before_there_were_signals() -> None:
    assert "record_signals" not in RecordingConfig().to_dict()
    settings = RecordingConfig(record_signals=True)
    assert RecordingConfig.from_dict(settings.to_dict()) == settings


@pytest.mark.parametrize("name", ["n_train", "n_validation", "n_test"])
def test_recording_needs_a_stimulus_of_every_part(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is 0; expected a whole number of 1 or more\.$"):
        RecordingConfig(**{name: 0})


def test_recording_rejects_an_invalid_description_of_steps() -> None:
    with pytest.raises(ValueError, match="'sometimes' is not understood"):
        RecordingConfig(steps="sometimes")


@pytest.mark.parametrize(
    ("config", "here"),
    [
        ({"training": {}, "recording": {}, "data": {}}, True),
        ({"training": {}, "recording": {}, "data": "mine"}, False),
        ({"training": {}, "data": {}}, False),
        ({}, False),
    ],
)
def test_the_config_of_another_trainer_is_recognized(config: dict, here: bool) -> None:
    assert is_trained_here(config) is here


def test_a_variance_takes_two_batches() -> None:
    with pytest.raises(ValueError, match="diagnose_batches is 1; a variance over batches needs two or more"):
        RecordingConfig(diagnose_batches=1)
    assert RecordingConfig.from_dict(RecordingConfig(diagnose_batches=2).to_dict()).diagnose_batches == 2
    assert "diagnose_batches" not in RecordingConfig().to_dict()


def test_gradients_cannot_be_diagnosed_before_the_first_update() -> None:
    with pytest.raises(ValueError, match=r"diagnose 'first,last' names step 0; gradients are chosen from step 1 on"):
        RecordingConfig(diagnose="first,last")
