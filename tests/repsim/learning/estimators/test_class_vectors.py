import pytest
import torch
import torch.nn.functional as F

from repsim.learning import stack
from repsim.learning.estimators.class_vectors import ClassVectors
from tests.repsim.small_chains import randn

CLASSES = 3


def random_vectors(shape: tuple[int, ...], seed: int = 0) -> ClassVectors:
    vectors = ClassVectors(CLASSES, shape).double()
    with torch.no_grad():
        vectors.weight.copy_(randn(*vectors.weight.shape, seed=seed))
    return vectors


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_each_label_has_its_vector_and_all_start_at_zero(shape: tuple[int, ...]) -> None:
    labels = torch.tensor([2, 0, 0, 1])
    assert not ClassVectors(CLASSES, shape)(labels).any()
    vectors = random_vectors(shape)
    assert torch.equal(vectors(labels), vectors.weight[labels].view(4, *shape))


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_one_hot_targets_have_the_vectors_of_classes(shape: tuple[int, ...]) -> None:
    vectors, labels = random_vectors(shape), torch.tensor([2, 0, 0, 1])
    torch.testing.assert_close(vectors(F.one_hot(labels, CLASSES).double()), vectors(labels), rtol=0, atol=1e-15)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_a_stack_takes_shared_or_separate_labels(shape: tuple[int, ...]) -> None:
    several = [random_vectors(shape, seed) for seed in (1, 2)]
    both, shared, own = stack(several), torch.tensor([[2, 0, 1]]), torch.tensor([[2, 0, 1], [1, 1, 0]])
    for labels in (shared, own):
        expected = torch.stack([one(row) for one, row in zip(several, labels.expand(2, 3), strict=True)])
        torch.testing.assert_close(both(labels), expected, rtol=0, atol=1e-15)
