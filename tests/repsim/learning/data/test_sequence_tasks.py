import numpy as np
import pytest

from repsim.learning import SEQUENCES, load_dataset, sequence_task, split_dataset


@pytest.mark.parametrize("name", SEQUENCES)
def test_tasks_follow_from_the_seed_and_can_be_split(name: str) -> None:
    task, again, other = (sequence_task(name, 6, n_examples=90, seed=seed) for seed in (0, 0, 1))
    assert task.sha256 == again.sha256 != other.sha256
    assert task.name == f"{name}:6"
    assert task.X.shape == (90, np.prod(task.shape))
    assert task.learned is task.targets
    assert sorted(np.concatenate(list(split_dataset(task, 0).values()))) == list(range(90))
    assert load_dataset(f"{name}:6").sha256 == sequence_task(name, 6).sha256


def test_targets_are_part_of_the_hash() -> None:
    task = sequence_task("copy", 3, n_examples=30)
    changed = sequence_task("copy", 3, n_examples=30)
    changed.targets[0, 0] = (changed.targets[0, 0] + 1) % 8
    assert changed.sha256 != task.sha256


def test_copy_asks_for_the_symbols_in_their_order() -> None:
    task = sequence_task("copy", 5, n_examples=40)
    X = task.X.reshape(40, *task.shape)
    assert task.shape == (10, 9)
    assert np.array_equal(X[:, :5].argmax(axis=2), task.targets)
    assert (X[:, 5:] == np.eye(9)[8]).all()
    assert (X.sum(axis=2) == 1).all()
    assert task.scored == (6, 7, 8, 9, 10)
    assert np.array_equal(task.y, task.targets[:, 0])
    assert task.n_outputs == 8


def test_repeat_copy_asks_for_the_symbols_as_often_as_it_shows() -> None:
    task = sequence_task("repeat-copy", 3, n_examples=60)
    X = task.X.reshape(60, *task.shape)
    assert task.shape == (13, 10)
    assert task.scored == tuple(range(4, 14))
    assert task.outputs[8:] == ("end", "blank")
    seen = set()
    for x, target, y in zip(X, task.targets, task.y, strict=True):
        repeats = round(float(x[3, 9]) * 3)
        symbols = x[:3].argmax(axis=1).tolist()
        assert target.tolist() == symbols * repeats + [8] + [9] * (9 - 3 * repeats)
        assert task.classes[y] == str(repeats)
        assert x[:, 9].sum() == x[3, 9]
        seen.add(repeats)
    assert seen == {1, 2, 3}


def test_adding_asks_for_the_sum_of_two_marked_numbers() -> None:
    task = sequence_task("adding", 7, n_examples=50)
    X = task.X.reshape(50, 7, 2)
    assert (X[:, :3, 1].sum(axis=1) == 1).all()
    assert (X[:, 3:, 1].sum(axis=1) == 1).all()
    np.testing.assert_allclose(task.targets[:, 0], 0.5 + (X[..., 0] * X[..., 1]).sum(axis=1) / 4, atol=1e-6)
    assert np.array_equal(task.y == 1, task.targets[:, 0] > 0.5)
    assert task.scored is None
    assert 0 <= task.targets.min() < 0.2 < 0.8 < task.targets.max() <= 1


@pytest.mark.parametrize("name", ["copy", "copy:", "copy:x", "adding:1", "repeat-copy:2.5"])
def test_a_task_without_a_length_is_refused(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"'{name}' is not understood: .* length of its sequences, .* such as .*:10\."
    ):
        load_dataset(name)


def test_numbers_out_of_range_and_unknown_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="length is 1001; expected at most 1000"):
        sequence_task("copy", 1001)
    with pytest.raises(ValueError, match="length is 1; expected a whole number of 2 or more"):
        sequence_task("copy", 1)
    with pytest.raises(ValueError, match=r"Unknown sequence task 'sort'. Choose one of: copy, repeat-copy, adding"):
        sequence_task("sort", 5)
    with pytest.raises(ValueError, match=r"only linear, .* take dimensions, and copy, repeat-copy, adding a length"):
        load_dataset("digits:3")
