import math
import re

import pytest
import torch
import torch.nn.functional as F

from repsim.learning import LOSSES
from repsim.learning.losses import targets_of
from tests.repsim.small_chains import randn


def test_log_loss_is_minus_the_log_of_the_probability_of_the_class() -> None:
    """Golden: of uniform logits ln 4; of p = 1/2 and 1/4 ln 2 and ln 4."""
    uniform = LOSSES["log_loss"](torch.zeros(3, 4).double(), torch.tensor([0, 1, 3]))
    assert uniform.tolist() == pytest.approx([math.log(4)] * 3)
    output = torch.tensor([[0.5, 0.25, 0.25]]).double().log().expand(2, 3)
    assert LOSSES["log_loss"](output, torch.tensor([0, 2])).tolist() == pytest.approx([math.log(2), math.log(4)])


def test_squared_error_is_summed_over_outputs() -> None:
    """Golden: ‖(1, 2) − (0, 1)‖² = 2 for class 1; ‖(1, 2) − (3, −1)‖² = 13."""
    output = torch.tensor([[1.0, 2.0]])
    assert LOSSES["mse"](output, torch.tensor([1])).tolist() == [2.0]
    assert LOSSES["mse"](output, torch.tensor([[3.0, -1.0]])).tolist() == [13.0]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_losses_are_per_example_under_any_leading_axes(loss: str, lead: tuple[int, ...]) -> None:
    output, y = randn(*lead, 5, 4), torch.arange(5).expand(*lead, 5) % 4
    value = LOSSES[loss](output, y)
    assert value.shape == (*lead, 5)
    rows = [LOSSES[loss](row[None], label[None]) for row, label in zip(output.flatten(0, -2), y.flatten(), strict=True)]
    torch.testing.assert_close(value.flatten(), torch.cat(rows), rtol=0, atol=1e-14)


def test_log_loss_refuses_numbers() -> None:
    message = r"needs classes .* y holds floats\. Use the loss 'mse'"
    with pytest.raises(ValueError, match=message):
        LOSSES["log_loss"](randn(5, 3), randn(5, 3))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (1, 3), (4, 2)])
def test_squared_error_refuses_targets_of_another_shape_rather_than_repeat_them(shape: tuple[int, ...]) -> None:
    message = rf"^y has shape {re.escape(str(shape))} and the output \(4, 3\); expected equal shapes"
    with pytest.raises(ValueError, match=message):
        LOSSES["mse"](randn(4, 3), randn(*shape))


def test_targets_are_one_hot_classes_or_the_numbers_themselves() -> None:
    output, classes, numbers = randn(4, 3), torch.tensor([2, 0, 1, 1]), randn(4, 3, seed=1)
    assert torch.equal(targets_of(classes, output), F.one_hot(classes, 3).double())
    assert targets_of(numbers, output) is numbers
