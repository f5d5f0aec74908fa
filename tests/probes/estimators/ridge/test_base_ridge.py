from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_iris

from probes import RegressionProbe, RidgeProbe


@pytest.mark.parametrize("probe", [RidgeProbe(), RegressionProbe()])
def test_rows_of_weight_zero_have_no_effect(probe: RidgeProbe | RegressionProbe) -> None:
    X, y = load_iris(return_X_y=True)
    # The feature varies, the values are wild and the class is new only where the weight is zero.
    alone = probe.fit(np.column_stack([X, np.ones(len(X))]), y, sample_weight=np.ones(len(X))).__dict__.copy()
    probe.fit(
        np.vstack([np.column_stack([X, np.ones(len(X))]), np.full((2, 5), 1e250)]),
        np.append(y, [7, 8]),
        sample_weight=np.append(np.ones(len(X)), [0.0, 0.0]),
    )
    assert set(alone) == set(vars(probe))
    for name, value in vars(probe).items():
        np.testing.assert_array_equal(value, alone[name], err_msg=name)


@pytest.mark.parametrize("probe", [RidgeProbe(), RegressionProbe()])
@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (np.ones(149), r"sample_weight has shape \(149,\); expected one weight per row, shape \(150,\)"),
        (np.ones((150, 1)), r"sample_weight has shape \(150, 1\); expected one weight per row"),
        (np.where(np.arange(150) == 3, -1.0, 1.0), r"sample_weight has -1\.0 at row 3; expected finite numbers >= 0"),
        (np.where(np.arange(150) == 4, np.nan, 1.0), "sample_weight has nan at row 4"),
        (np.zeros(150), "sample_weight is zero for every row; give one or more rows a positive weight"),
    ],
)
def test_invalid_weights_are_an_error(probe: Any, sample_weight: NDArray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        probe.fit(*load_iris(return_X_y=True), sample_weight=sample_weight)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ((), "alphas is empty; give one or more positive numbers"),
        ((1.0, 0.0), r"alphas has 0\.0; expected positive, finite numbers"),
        (-1.0, r"alphas has -1\.0; expected positive, finite numbers"),
        (np.array([1.0, np.inf]), "alphas has .*inf.*; expected positive, finite numbers"),
        ("big", "alphas has 'big'; expected positive, finite numbers"),
        (None, "alphas has None; expected positive, finite numbers"),
    ],
)
def test_penalty_out_of_range_is_an_error_in_fit(alphas: Any, message: str) -> None:
    for kind in (RidgeProbe, RegressionProbe):
        with pytest.raises(ValueError, match=message):
            kind(alphas).fit(*load_iris(return_X_y=True))
