from pathlib import Path

import numpy as np

from checkpoints import Stimuli
from checkpoints.row_digests import row_digests

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(5, 2, 3)).astype(np.float32)
TOKENS = {"ids": RNG.integers(0, 9, (4, 6)), "mask": np.ones((4, 6), dtype=np.int64)}


def test_digests_follow_their_stimuli_into_any_order_and_any_block() -> None:
    whole = row_digests(IMAGES)
    assert len(set(whole.tolist())) == 5
    assert {len(each) for each in whole.tolist()} == {32}
    np.testing.assert_array_equal(row_digests(IMAGES[[3, 0]]), whole[[3, 0]])


def test_digests_tell_apart_shapes_types_and_names() -> None:
    for other in (IMAGES.reshape(5, 6), IMAGES.astype(np.float64), {"x": IMAGES}):
        assert not (row_digests(other) == row_digests(IMAGES)).any()


def test_digests_of_several_inputs_cover_each_and_not_their_order() -> None:
    changed = {**TOKENS, "mask": TOKENS["mask"].copy()}
    changed["mask"][2, 5] = 0
    different = row_digests(changed) != row_digests(TOKENS)
    assert different.tolist() == [False, False, True, False]
    np.testing.assert_array_equal(row_digests(dict(reversed(TOKENS.items()))), row_digests(TOKENS))


def test_stimuli_keep_the_digests_of_their_inputs_in_their_own_order(tmp_path: Path) -> None:
    stimuli = Stimuli.of(list("abcde"), [1, 0, 1, 0, 2], ["test"] * 5, IMAGES)
    np.testing.assert_array_equal(stimuli.digests, row_digests(stimuli.inputs))
    stimuli.write(tmp_path / "stimuli.h5")
    np.testing.assert_array_equal(Stimuli.read(tmp_path / "stimuli.h5").digests, stimuli.digests)
