import json
import random
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from checkpoints.generators import rng_state, set_rng_state
from checkpoints.modules import evaluating
from checkpoints.state import pack, state_tensors, unpack

TENSORS = [
    torch.arange(6, dtype=torch.float64).reshape(2, 3),
    torch.tensor(3, dtype=torch.int64),
    torch.tensor([1.5, -0.0, float("nan"), float("inf")], dtype=torch.bfloat16),
    torch.zeros(0, 4),
    torch.tensor([True, False]),
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())
TREES = st.recursive(
    SCALARS | st.sampled_from(TENSORS),
    lambda trees: (
        st.lists(trees, max_size=4)
        | st.lists(trees, max_size=4).map(tuple)
        | st.dictionaries(KEYS, trees, max_size=4)
        | st.dictionaries(st.sampled_from(["__tensor__", "__items__", "__tuple__"]), trees, max_size=3)
    ),
    max_leaves=12,
)


def stored(tree: Any) -> Any:
    """Write a tree as it is written to disk, and read it back."""
    tensors, skeleton = pack(tree)
    return unpack(safetensors.torch.load(safetensors.torch.save(tensors)), json.loads(json.dumps(skeleton)))


def bits(tensor: Tensor) -> list[int]:
    return tensor.reshape(-1).view(torch.uint8).tolist()


def same(tree: Any, other: Any) -> bool:
    """Equal in value, type and order, tensors to the bit."""
    if type(tree) is not type(other):
        return False
    if isinstance(tree, Tensor):
        return (tree.dtype, tree.shape, bits(tree)) == (other.dtype, other.shape, bits(other))
    if isinstance(tree, dict):
        return same(list(tree.items()), list(other.items()))
    if isinstance(tree, list | tuple):
        return len(tree) == len(other) and all(map(same, tree, other))
    return bool(tree == other)


@given(tree=TREES)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_what_was_packed_and_stored_comes_back_the_same(tree: Any) -> None:
    assert same(stored(tree), tree)


@pytest.mark.parametrize(
    "build",
    [
        lambda parameters: torch.optim.Adam(parameters, amsgrad=True),
        lambda parameters: torch.optim.AdamW([{"params": [p], "lr": 0.01 * i} for i, p in enumerate(parameters, 1)]),
        lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
        lambda parameters: torch.optim.Adam(parameters),
    ],
)
def test_an_optimizer_goes_on_bit_for_bit_from_its_stored_state(build: Any) -> None:
    def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            model(torch.linspace(-1, 1 + step, 12).reshape(4, 3)).square().mean().backward()
            optimizer.step()

    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    optimizer, resumed = build(model.parameters()), build(other.parameters())
    advance(model, optimizer, 3)
    other.load_state_dict(stored(model.state_dict()))
    resumed.load_state_dict(stored(optimizer.state_dict()))
    advance(model, optimizer, 3)
    advance(other, resumed, 3)
    assert same(dict(other.state_dict()), dict(model.state_dict()))
    assert same(resumed.state_dict(), optimizer.state_dict())


def test_packed_tensors_are_detached_contiguous_copies() -> None:
    parameter = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    tensors, skeleton = pack({"weight": parameter, "turned": parameter.T})
    with torch.no_grad():
        parameter.zero_()
    unpacked = unpack(tensors, skeleton)
    assert unpacked["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert unpacked["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in tensors.values())


@pytest.mark.parametrize(
    ("value", "name"),
    [({1}, "set"), (b"a", "bytes"), (np.zeros(2), "ndarray"), (1j, "complex"), (len, "builtin_function_or_method")],
)
def test_what_is_neither_tensor_nor_json_is_refused(value: Any, name: str) -> None:
    for tree in (value, {"state": [{0: (value,)}]}):
        with pytest.raises(TypeError, match=f"State holds a {name}; only tensors and JSON values can be saved"):
            pack(tree)


def test_keys_are_held_to_the_same_rule() -> None:
    with pytest.raises(TypeError, match="State holds a bytes; only tensors and JSON values can be saved"):
        pack({b"key": 1})


def draws() -> list[float]:
    return [*torch.randn(7).tolist(), *np.random.standard_normal(7).tolist(), random.gauss(), random.random()]


def test_every_global_generator_draws_the_same_after_it_is_put_back() -> None:
    with evaluating(torch.nn.Identity()):  # puts the generators back for other tests
        torch.randn(5)
        np.random.standard_normal(3)  # leaves one draw cached
        random.gauss()
        state = json.loads(json.dumps(rng_state()))
        drawn = draws()
        assert draws() != drawn
        set_rng_state(state)
        assert draws() == drawn


def test_tensors_that_share_memory_are_saved_apart() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    model[1].weight = model[0].weight
    saved = safetensors.torch.load(safetensors.torch.save(state_tensors(model)))
    assert torch.equal(saved["0.weight"], model[0].weight)
    assert torch.equal(saved["1.weight"], model[0].weight)
    assert len(saved) == 4


def test_a_state_that_is_no_tensor_is_refused() -> None:
    class Odd(torch.nn.Module):
        def get_extra_state(self) -> Any:
            return {"a": 1}

    with pytest.raises(TypeError, match="The model's state '_extra_state' is a dict; only tensors can be saved"):
        state_tensors(Odd())


@pytest.mark.parametrize("value", [torch.eye(3).to_sparse(), torch.zeros(2, dtype=torch.complex64)])
def test_tensors_that_safetensors_does_not_have_are_refused_by_name(value: Tensor) -> None:
    model = torch.nn.Module()
    model.register_buffer("odd", value)
    with pytest.raises(
        TypeError, match=r"The model's state 'odd' is of layout .*; only real, dense tensors can be saved"
    ):
        state_tensors(model)
