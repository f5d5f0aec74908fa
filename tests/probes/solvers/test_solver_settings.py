from typing import Any

import pytest

from probes.solvers.solver_settings import SolverSettings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": "sgd"}, r"Unknown solver 'sgd'\. Choose one of: auto, lbfgs, newton\."),
        ({"tol": 0.0}, r"tol is 0\.0; expected a positive, finite number"),
        ({"max_iter": 2.0}, r"max_iter is 2\.0; expected a positive integer"),
        ({"device": "abacus"}, "device is 'abacus', which torch cannot use on this machine"),
    ],
)
def test_a_setting_out_of_range_is_an_error(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SolverSettings(**changes)
