from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from checkpoints import Stimuli

IDS = ["a", "b", "c"]
SPLIT = ["train", "test", "train"]
TOKENS = np.arange(12).reshape(3, 4)
MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]])
LABELS = np.array([[5, 2, -100, -100], [2, 2, 5, 5], [-100, -100, -100, 2]])


def of_tokens(**changes: Any) -> Stimuli:
    given = {"ids": IDS, "labels": LABELS, "split": SPLIT, "inputs": TOKENS, "mask": MASK}
    return Stimuli.of_tokens(**{**given, **changes})


def test_there_is_one_row_per_token_in_the_order_of_sequences() -> None:
    stimuli = of_tokens()
    assert stimuli.ids.tolist() == ["a:0", "a:1", "b:0", "b:1", "b:2", "b:3", "c:3"]
    assert stimuli.labels.tolist() == [5, 2, 2, 2, 5, 5, 2]
    assert stimuli.split.tolist() == ["train"] * 2 + ["test"] * 4 + ["train"]
    assert stimuli.groups.tolist() == list("aabbbbc")
    assert stimuli.positions.tolist() == [0, 1, 0, 1, 2, 3, 3]
    assert (len(stimuli), stimuli.n_inputs) == (7, 3)
    np.testing.assert_array_equal(stimuli.inputs, TOKENS)
    np.testing.assert_array_equal(stimuli.first_inputs(9), TOKENS)


def test_labels_and_targets_are_by_position_or_by_sequence() -> None:
    words = np.array([["x", "y", "", ""], ["x", "x", "y", "y"], ["", "", "", "z"]])
    stimuli = of_tokens(labels=["dog", "cat", "dog"], targets={"word": words, "length": [0.5, 1.5, 2.5]})
    assert stimuli.classes == ("cat", "dog")
    assert stimuli.labels.tolist() == [1, 1, 0, 0, 0, 0, 1]
    assert stimuli.targets["word"].tolist() == ["x", "y", "x", "x", "y", "y", "z"]
    assert stimuli.targets["length"].tolist() == [0.5] * 2 + [1.5] * 4 + [2.5]


def test_the_mask_may_be_an_input_or_all_positions() -> None:
    named = of_tokens(inputs={"input_ids": TOKENS, "attention_mask": MASK}, mask="attention_mask")
    assert named.ids.tolist() == of_tokens().ids.tolist()
    assert len(of_tokens(mask=None, labels=[0, 1, 0])) == 12
    assert of_tokens(mask=torch.tensor(MASK, dtype=torch.bool)).ids.tolist() == of_tokens().ids.tolist()


def test_inputs_that_are_read_when_needed_have_tokens_too() -> None:
    class Texts(Dataset):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"input_ids": TOKENS[index], "attention_mask": MASK[index]}

    lazy = of_tokens(inputs=Texts(), mask="attention_mask")
    held = of_tokens(inputs={"input_ids": TOKENS, "attention_mask": MASK}, mask="attention_mask")
    assert lazy.is_same_as(held)
    np.testing.assert_array_equal(lazy.digests, held.digests)
    assert len(of_tokens(inputs=Texts(), mask=None, labels=[0, 1, 0])) == 12


def test_stimuli_of_tokens_are_read_as_they_were_written(tmp_path: Path) -> None:
    stimuli = of_tokens(targets={"t": LABELS})
    stimuli.write(tmp_path / "stimuli.h5")
    read = Stimuli.read(tmp_path / "stimuli.h5")
    assert read.with_inputs(stimuli) is stimuli
    for name in ("labels", "groups", "positions", "digests"):
        np.testing.assert_array_equal(getattr(read, name), getattr(stimuli, name))


def test_other_inputs_labels_or_tokens_are_another_set() -> None:
    stimuli = of_tokens()
    changes = ({"inputs": TOKENS + 1}, {"labels": LABELS + 1}, {"mask": np.ones_like(MASK)}, {"split": ["train"] * 3})
    assert stimuli.is_same_as(of_tokens())
    assert not any(stimuli.is_same_as(of_tokens(**change)) for change in changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": MASK[:2]}, r"The mask has shape \(2, 4\); expected \(3, n_positions\), one row per sequence\."),
        ({"mask": MASK[0]}, r"The mask has shape \(4,\); expected \(3, n_positions\)"),
        ({"mask": MASK - 1.0}, r"The mask has values other than 0 and 1; expected 1 for a token and 0 for padding\."),
        (
            {"mask": 0 * MASK + np.array([[1], [0], [1]])},
            r"The mask leaves the sequence 'b' no token; leave the sequence",
        ),
        ({"mask": "mask"}, r"There is no mask 'mask' among the inputs \(one without a name\)\."),
        (
            {"labels": LABELS[:, :3]},
            r"Labels have shape \(3, 3\) for 3 sequences of 4 positions; expected one value per",
        ),
        ({"labels": [0, 1]}, r"Labels have shape \(2,\) for 3 sequences of 4 positions; expected one value per"),
        ({"inputs": np.ones(3), "mask": None}, r"have no such axis positions, so it is not known what a token is\."),
        (
            {"inputs": {"x": TOKENS, "y": np.ones((3, 5))}, "mask": None},
            r"The second axes of the inputs have 4 and 5 positions, so it is not known what a token is\. Give a mask",
        ),
    ],
)
def test_what_does_not_name_tokens_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of_tokens(**changes)
