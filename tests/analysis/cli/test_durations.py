import pytest

from analysis.cli import app
from analysis.cli.durations import DURATIONS
from tests.conftest import Repsim


def test_durations_are_of_commands() -> None:
    assert DURATIONS.keys() <= {each.callback.__name__ for each in app.registered_commands if each.callback}


@pytest.mark.parametrize("name", ["compare", "train"])
def test_help_ends_with_durations_of_typical_sizes(repsim: Repsim, name: str) -> None:
    text = " ".join(repsim(f"{name} --help").out.split())
    assert f"Durations on 2 cores: {DURATIONS[name]}." in text
