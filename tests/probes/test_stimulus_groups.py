import pytest

from probes import check_groups


def test_groups_within_the_parts_of_a_split_are_allowed() -> None:
    check_groups([1, 1, 2, 3], ["train", "train", "test", "train"])


def test_a_divided_group_is_named_with_its_parts() -> None:
    message = "The split divides 2 of 3 groups, such as 'ann', which is in test and train. Put all stimuli of a group"
    with pytest.raises(ValueError, match=message):
        check_groups(["bob", "ann", "ann", "cy", "cy"], ["test", "train", "test", "validation", "test"])


def test_groups_of_another_length_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"groups has shape \(1,\) and split \(2,\); both need one entry per stimulus"):
        check_groups(["ann"], ["train", "test"])
