import numpy as np
import pytest
from scipy.stats import false_discovery_control

from repsim.similarity import adjust
from repsim.similarity.inference.multiple import ADJUSTMENTS, p_value


def test_holm_of_a_worked_example() -> None:
    # 4 x .01, 3 x .02, 2 x .03 (not below the one before), 1 x .5
    np.testing.assert_allclose(adjust([0.03, 0.01, 0.5, 0.02]), [0.06, 0.04, 0.5, 0.06])


def test_bonferroni_and_false_discoveries() -> None:
    p = [0.01, 0.04, 0.3]
    np.testing.assert_allclose(adjust(p, "bonferroni"), [0.03, 0.12, 0.9])
    np.testing.assert_allclose(adjust(p, "fdr_bh"), false_discovery_control(p))
    np.testing.assert_allclose(adjust(p, "fdr_by"), false_discovery_control(p, method="by"))
    np.testing.assert_allclose(adjust(p, "none"), p)


@pytest.mark.parametrize("method", ADJUSTMENTS)
def test_an_adjustment_keeps_the_order_and_only_raises(rng: np.random.Generator, method: str) -> None:
    p = rng.uniform(size=20) ** 3
    adjusted = adjust(p, method)
    assert (adjusted >= p - 1e-15).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_nan_is_not_counted() -> None:
    np.testing.assert_allclose(adjust([0.01, np.nan, 0.02], "bonferroni"), [0.02, np.nan, 0.04])
    assert np.isnan(adjust([np.nan])).all()


def test_holm_bounds_the_probability_of_a_false_finding() -> None:
    p = np.random.default_rng(0).uniform(size=(2000, 10))
    false = [adjust(row).min() <= 0.05 for row in p]
    assert np.mean(false) < 0.065


def test_a_p_value_is_never_zero() -> None:
    assert p_value([0, 3, 99], 99).tolist() == [0.01, 0.04, 1.0]


def test_adjust_refuses() -> None:
    with pytest.raises(ValueError, match=r"^Unknown adjustment 'tukey'\. Choose one of: bonferroni, fdr_bh"):
        adjust([0.1], "tukey")
    with pytest.raises(ValueError, match=r"^A p-value is outside \[0, 1\]\."):
        adjust([1.1])
