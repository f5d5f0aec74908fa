from typing import Any

import numpy as np
import pytest

from probes import ProbeConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Cs": ()}, r"Cs is \(\); expected one or more positive numbers, such as \(0\.01, 0\.1, 1\.0\), or 'auto'"),
        ({"Cs": 1.0}, r"Cs is 1\.0; expected one or more positive numbers"),
        ({"Cs": "0.1"}, "Cs is '0.1'; expected one or more positive numbers"),
        ({"Cs": (1.0, -0.1)}, r"C is -0\.1; expected a positive, finite number"),
        ({"controls": -1}, "controls is -1; expected a number of random labelings, 0 or more"),
        ({"controls": 1.5}, r"controls is 1\.5; expected a number of random labelings, 0 or more"),
        ({"memory": 0}, "memory is 0; expected a positive integer"),
        ({"solver": "sgd"}, "Unknown solver 'sgd'"),
    ],
)
def test_a_setting_out_of_range_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProbeConfig(**changes)


def test_a_grid_is_ascending_without_repetitions_and_only_the_default_one_is_extended() -> None:
    given = ProbeConfig(Cs=np.array([1.0, 0.1, 1.0]))
    assert (given.grid, given.most_decades) == ((0.1, 1.0), 0)
    assert ProbeConfig().most_decades == 6
