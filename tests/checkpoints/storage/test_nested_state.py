import json
import math
import os
import random
import struct
import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from checkpoints.capture.evaluation_mode import evaluation_mode
from checkpoints.generators import rng_state, set_rng_state
from checkpoints.storage.nested_state import pack, unpack
from checkpoints.storage.tensors import NotStorable
from tests.checkpoints.exact_equality import same

TENSORS = [
    torch.arange(6, dtype=torch.float64).reshape(2, 3),
    torch.tensor(3, dtype=torch.int64),
    torch.tensor([1.5, -0.0, float("nan"), float("inf")], dtype=torch.bfloat16),
    torch.zeros(0, 4),
    torch.tensor([True, False]),
    torch.tensor([1 + 2j, complex("nan")]),
    torch.tensor([[1 + 2j], [3 - 1j]], dtype=torch.complex128).T.conj(),
    torch.arange(4.0).to(torch.float8_e5m2),
    torch.arange(6).to(torch.uint16)[::2],
    torch.arange(6.0).reshape(2, 3).T,
    torch.zeros(0, dtype=torch.complex128),
]
ARRAYS = [
    np.arange(6, dtype=">i2").reshape(2, 3).T,
    np.array([np.nan, -0.0, np.inf], dtype=np.float16),
    np.array(["a", "longer"]),
    np.array("2026-01-01", dtype="datetime64[D]"),
    np.zeros((0, 3), dtype=bool),
    np.float32(0.1),
    np.float64("-inf"),
    np.int64(3),
    np.bool_(True),
    np.complex64(1j),
    np.datetime64("2026-01-01T10"),
]
OTHERS = [
    torch.bfloat16,
    torch.strided,
    torch.channels_last,
    torch.per_channel_affine,
    torch.device("cuda", 1),
    torch.Size([2, 3]),
    b"\x00\xff",
    bytearray(b"ab"),
    deque([1, float("inf")], maxlen=3),
    deque(),
    {1, "a", (2, 3)},
    frozenset([float("-inf"), None]),
    OrderedDict(b=1, a=(math.nan,)),
    defaultdict(list, {1: [math.inf]}),
    defaultdict(None, a=1),
    struct.unpack(">d", bytes.fromhex("fff8000000000123"))[0],  # a NaN with a sign and a payload
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
KEYS = st.integers() | st.text() | st.tuples(st.integers(), st.text())
TREES = st.recursive(
    SCALARS | st.sampled_from(TENSORS) | st.sampled_from(ARRAYS) | st.sampled_from(OTHERS),
    lambda trees: (
        st.lists(trees, max_size=4)
        | st.lists(trees, max_size=4).map(tuple)
        | st.dictionaries(KEYS, trees, max_size=4)
        | st.dictionaries(st.sampled_from(["__tensor__", "__items__", "__tuple__", "__float__"]), trees, max_size=3)
    ),
    max_leaves=12,
)


def stored(tree: Any) -> Any:
    """Write a tree as it is written to disk, and read it back."""
    tensors, skeleton = pack(tree)
    return unpack(safetensors.torch.load(safetensors.torch.save(tensors)), json.loads(json.dumps(skeleton)))


@pytest.mark.parametrize("value", [*TENSORS, *ARRAYS, *OTHERS], ids=lambda value: type(value).__name__)
def test_every_kind_of_value_comes_back_exactly(value: Any) -> None:
    assert same(stored({"a": [value]}), {"a": [value]})


@given(tree=TREES)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_nested_state_round_trips_exactly(tree: Any) -> None:
    assert same(stored(tree), tree)


def test_packed_tensors_are_detached_contiguous_copies() -> None:
    parameter = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    tensors, skeleton = pack({"weight": parameter, "turned": parameter.T})
    with torch.no_grad():
        parameter.zero_()
    unpacked = unpack(tensors, skeleton)
    assert unpacked["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert unpacked["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in tensors.values())


class Mode(IntEnum):
    FAST = 1


Pair = namedtuple("Pair", "a b")


class Row(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (len, "of type builtin_function_or_method"),
        (object(), "of type object"),
        (Mode.FAST, r"of type .*test_nested_state\.Mode"),
        (Pair(1, 2), r"of type .*test_nested_state\.Pair"),
        (Row([1]), r"of type .*test_nested_state\.Row"),
        (defaultdict(lambda: 1), r"of type collections\.defaultdict"),
        (Counter("aab"), r"of type collections\.Counter"),
        (range(3), "of type range"),
        (np.zeros(1, dtype=object), "a NumPy array of type object"),
        (np.zeros(1, dtype="i4,f4"), "a NumPy array of type"),
        (np.ma.masked_array([1.0]), r"of type numpy\.ma.*MaskedArray"),
        (np.longlong(1), "a NumPy longlong of type int64"),
        (np.str_("a"), "a NumPy str_ of type <U1"),
        (2**20_000, "of type int"),
        (torch.eye(3).to_sparse(), "stored as sparse_coo; only dense tensors can be stored"),
        (torch.zeros(2, device="meta"), "on the meta device, so its values are not known"),
        (nn.parameter.UninitializedParameter(), "not initialized; run the model on one batch first"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_names_the_entry_that_cannot_be_stored_exactly(value: Any, kind: str) -> None:
    for tree, name in (
        ({"groups": [{"lr": 1, "schedule": value}]}, r"groups\[0\]\['schedule'\]"),
        ({"state": {0: {"all": (1, [value])}}}, r"state\[0\]\['all'\]\[1\]\[0\]"),
        (value, "the state"),
    ):
        with pytest.raises(NotStorable, match=f"^{name} is {kind}"):
            pack(tree)


def test_keys_are_held_to_the_same_rule() -> None:
    with pytest.raises(NotStorable, match=r"the key <Mode\.FAST: 1> of groups is of type .*Mode, which cannot"):
        pack({"groups": {Mode.FAST: 1}})


def nested(kind: type, depth: int) -> Any:
    tree: Any = kind()
    for _ in range(depth - 1):
        tree = {"a": tree} if kind is dict else kind([tree])
    return tree


@pytest.mark.parametrize("kind", [list, tuple, dict, deque])
def test_state_that_is_nested_too_deeply_or_contains_itself_is_rejected(kind: type) -> None:
    assert same(stored(nested(kind, 50)), nested(kind, 50))
    with pytest.raises(NotStorable, match=r"\.\.\. holds itself, or is nested more than 50 levels deep"):
        pack(nested(kind, 51))
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(NotStorable, match=r"a\[0\]\[0\].*holds itself"):
        pack({"a": endless})


def test_a_set_is_written_identically_by_every_process() -> None:
    code = "from checkpoints.storage.nested_state import pack; print(pack({'b', 'a', 'c', 'd', 1, (2, 3), None}))"
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    environment = {**os.environ, "PYTHONHASHSEED": other}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True, text=True)
    assert done.stdout == f"{pack({'b', 'a', 'c', 'd', 1, (2, 3), None})}\n"


def test_infinities_are_written_so_that_a_reader_of_plain_json_refuses_them() -> None:
    assert pack({"a": float("inf"), "b": 1.5})[1] == {
        "__items__": [["a", {"__float__": "7ff0000000000000"}], ["b", 1.5]]
    }


@pytest.mark.parametrize(
    "skeleton",
    [
        {"__torch__": "save"},
        {"__torch__": "nn"},
        {"__float__": "00"},
        {"__float__": 3},
        {"__device__": "abacus"},
        {"__array__": "0", "dtype": "O", "shape": [1], "scalar": False},
        {"__array__": "0", "dtype": "<f8", "shape": [7], "scalar": False},
        {"__raw_tensor__": "0", "dtype": "complex128", "shape": [7]},
        {"__raw_tensor__": "0", "dtype": "load", "shape": [1]},
        {"__quantized_tensor__": "0", "scale": "a", "zero_point": 0},
        {"__set__": [[1]]},
        {"__deque__": [], "maxlen": -1},
        {"__ordered_items__": [1]},
        {"maxlen": 1, "__deque__": []},
        {},
    ],
    ids=str,
)
def test_a_skeleton_that_pack_does_not_write_is_refused(skeleton: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError, RuntimeError)):
        unpack({"0": torch.zeros(8, dtype=torch.uint8)}, skeleton)


def draws() -> list[float]:
    return [*torch.randn(7).tolist(), *np.random.standard_normal(7).tolist(), random.gauss(), random.random()]


def test_every_global_generator_draws_the_same_after_it_is_restored() -> None:
    with evaluation_mode(torch.nn.Identity()):  # puts the generators back for other tests
        torch.randn(5)
        np.random.standard_normal(3)  # leaves one draw cached
        random.gauss()
        state = json.loads(json.dumps(rng_state()))
        drawn = draws()
        assert draws() != drawn
        set_rng_state(state)
        assert draws() == drawn
