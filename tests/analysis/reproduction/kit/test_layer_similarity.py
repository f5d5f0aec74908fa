import numpy as np

from analysis.reproduction.kit.layer_similarity import compare_layer


def test_equal_layers_are_most_similar_and_classes_give_structure() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 6)
    layer = rng.normal(size=(12, 5)) + 4.0 * np.outer(labels, np.eye(5)[0])
    matrices, structures = compare_layer({"a": layer, "b": layer.copy(), "c": rng.normal(size=(12, 5))}, labels)
    for matrix in matrices.values():
        assert matrix.shape == (3, 3)
        assert matrix[0, 1] > 0.999 > matrix[0, 2]
    assert structures["a"] == structures["b"] > structures["c"]
