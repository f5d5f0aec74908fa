import numpy as np
import pytest

from repsim.learning import load_dataset
from repsim.learning.data.characters import characters_of, check_text


def test_the_target_is_the_next_character() -> None:
    text = "ab cd. ab"
    data = characters_of(text, 3, name="short")
    assert data.outputs == (" ", ".", "a", "b", "c", "d")
    assert data.shape == (3, 6)
    codes = data.X.reshape(2, 3, 6).argmax(axis=2)
    assert ["".join(data.outputs[code] for code in row) for row in codes] == ["ab ", "cd."]
    assert ["".join(data.outputs[code] for code in row) for row in data.targets] == ["b c", "d. "]
    assert [data.classes[y] for y in data.y] == ["letter", "space"]
    assert data.scored == (1, 2, 3)


def test_the_text_that_ships_is_the_expected_one() -> None:
    data = load_dataset("characters")
    assert data.shape == (50, len(data.outputs))
    assert len(data.X) > 600
    assert 60 < len(data.outputs) < 100
    assert np.array_equal(data.X.reshape(len(data.X), *data.shape)[:, 1:].argmax(axis=2), data.targets[:, :-1])


def test_another_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the installed version has other ones\. Install scikit-learn 1\.7 to 1\.9"):
        check_text("something else")
