"""Everything that a forward pass may change is restored: the same objects with the same content."""

import copy
import io
import random
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checkpoints import SNAPSHOTS, Capture, Snapshot
from checkpoints.capture.evaluation_mode import evaluation_mode
from checkpoints.capture.preservation import PreservedNetwork

X = torch.linspace(-2, 2, 18).reshape(6, 3)


class Changing(nn.Module):
    """Applies a function to itself in every pass."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.change(self)
        return self.layer(x)


@dataclass
class State:
    count: int = 0
    values: list[int] = field(default_factory=list)


class Slotted:
    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


def attributes() -> dict[str, Any]:
    """Return attributes of every kind that a pass may change."""
    shared = torch.arange(6.0)
    return {
        "number": 1,
        "tensor": torch.zeros(3),
        "whole": shared,
        "view": shared[::2],
        "array": np.zeros(3),
        "list": [1, [2]],
        "dict": {"a": {"b": 1}},
        "ordered": OrderedDict(a=1),
        "default": defaultdict(list, a=[1]),
        "counter": Counter("a"),
        "set": {1, 2},
        "deque": deque([1, 2], maxlen=3),
        "bytes": bytearray(b"ab"),
        "object": State(),
        "slotted": Slotted(),
        "generator": torch.Generator().manual_seed(1),
        "of_numpy": np.random.default_rng(1),
        "legacy": np.random.RandomState(1),
        "of_python": random.Random(1),
        "nested": ([torch.zeros(2)], {"k": (np.zeros(2),)}),
        "unregistered": [nn.Linear(2, 2)],
    }


def change_everything(module: Any) -> None:
    module.number += 1
    module.tensor.add_(1)
    module.view.add_(1)
    module.array += 1
    module.list[1].append(3)
    module.list.append(4)
    module.dict["a"]["b"] = 2
    module.ordered["b"] = 2
    module.default["b"].append(1)
    module.counter["a"] += 1
    module.set.add(3)
    module.deque.append(4)
    module.deque.append(5)
    module.bytes.extend(b"c")
    module.object.count += 1
    module.object.values.append(1)
    module.slotted.count += 1
    torch.rand(2, generator=module.generator)
    module.of_numpy.random()
    module.legacy.random()
    module.of_python.random()
    module.nested[0][0].add_(1)
    module.nested[1]["k"][0][:] = 5
    module.unregistered[0].weight.mul_(2)
    module.new = torch.zeros(1)
    module.register_buffer("made", torch.zeros(1))
    module.layer.weight.data = module.layer.weight.data * 2
    module.layer.bias.data.add_(1)


def content(value: Any) -> Any:
    """Return what a value holds in a form that can be compared."""
    if isinstance(value, Tensor | np.ndarray):
        return np.asarray(value.detach() if isinstance(value, Tensor) else value).tolist()
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, np.random.RandomState):
        return str(value.get_state())
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, dict):
        return [(key, content(each)) for key, each in value.items()]
    if isinstance(value, list | tuple | deque | set):
        return [content(each) for each in value]
    if isinstance(value, SimpleNamespace):
        return content(vars(value))
    if isinstance(value, nn.Module):
        return [content(each) for each in value.parameters()]
    return value.count if isinstance(value, Slotted) else copy.deepcopy(value)


def test_attributes_of_every_kind_are_restored() -> None:
    module = Changing(change_everything)
    for name, value in attributes().items():
        setattr(module, name, value)
    before = {name: (id(value), content(value)) for name, value in vars(module).items() if name != "_modules"}
    weights = [(id(each), each.data_ptr(), content(each)) for each in module.parameters()]
    for _ in range(2):
        list(Capture(module, "layer", batch_size=2).blocks(X))
        assert {name: (id(vars(module)[name]), content(vars(module)[name])) for name in before} == before
        assert vars(module).keys() == {*before, "_modules"}
        assert [(id(each), each.data_ptr(), content(each)) for each in module.parameters()] == weights
    with torch.no_grad():
        module.change(module)
    assert module.tensor.tolist() == [1, 1, 1]
    assert module.whole.tolist() == [1, 1, 3, 3, 5, 5]


@pytest.mark.parametrize("failing", [False, True])
def test_weights_that_a_layer_renormalises_are_restored_bit_for_bit(failing: bool) -> None:
    embedding = nn.Embedding(5, 3, max_norm=0.1)
    model = nn.Sequential(embedding, Changing(lambda _: 1 / 0) if failing else nn.Linear(3, 2))
    weight, before = embedding.weight, embedding.weight.detach().clone()
    tokens = torch.arange(5)
    if failing:
        with pytest.raises(ZeroDivisionError):
            Capture(model, "0").record(tokens)
    else:
        layer = Capture(model, "0").record(tokens)["0"]
        np.testing.assert_allclose(np.linalg.norm(layer.values, axis=1), 0.1, rtol=1e-4)
    assert embedding.weight is weight
    assert torch.equal(weight, before)


def test_nan_and_infinities_are_restored() -> None:
    module = Changing(lambda self: self.odd.zero_())
    module.odd = torch.tensor([torch.nan, -0.0, torch.inf])
    Capture(module, "layer").record(X)
    assert (
        module.odd.view(torch.int32).tolist() == torch.tensor([torch.nan, -0.0, torch.inf]).view(torch.int32).tolist()
    )


def test_class_attributes_are_restored() -> None:
    class Counting(nn.Linear):
        calls = 0
        seen: list[int] = []  # noqa: RUF012

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            self.seen.append(len(x))
            return super().forward(x)

    model = nn.Sequential(Counting(3, 2))
    Capture(model, "0").record(X)
    assert (Counting.calls, Counting.seen) == (0, [])


def test_class_attributes_that_a_pass_adds_or_removes_are_restored() -> None:
    class Counting(Changing):
        first: Any = None

    def count(module: Any) -> None:
        Counting.calls = getattr(Counting, "calls", 0) + 1
        del Counting.first

    Capture(Counting(count), "layer").record(X)
    assert not hasattr(Counting, "calls")
    assert vars(Counting)["first"] is None


def test_a_slot_that_a_pass_fills_is_cleared() -> None:
    module = Changing(lambda module: setattr(module.slotted, "count", 1))
    module.slotted = Slotted.__new__(Slotted)
    Capture(module, "layer").record(X)
    assert not hasattr(module.slotted, "count")


def test_a_tensor_that_is_transposed_in_place_is_restored() -> None:
    module = Changing(lambda module: module.square.t_())
    module.register_buffer("square", torch.arange(9.0).reshape(3, 3))
    Capture(module, "layer").record(X)
    assert module.square.tolist() == torch.arange(9.0).reshape(3, 3).tolist()
    assert module.square.is_contiguous()


def test_overlapping_memory_with_the_same_start_is_restored() -> None:
    values = np.zeros(8, dtype=np.float32)
    module = Changing(lambda module: module.whole.add_(1))
    module.part, module.whole = torch.from_numpy(values[:2]), torch.from_numpy(values)
    Capture(module, "layer").record(X)
    assert values.tolist() == [0] * 8


def test_objects_of_bound_methods_and_partial_calls_are_restored() -> None:
    state, values = State(), [1]
    module = Changing(lambda module: (module.call(2), module.method("count", 5)))
    module.call, module.method = partial(list.append, values), MethodType(State.__setattr__, state)
    Capture(module, "layer").record(X)
    assert values == [1]
    assert state.count == 0


def test_a_dict_with_tensors_as_keys_is_kept() -> None:
    module = Changing(lambda module: module.marks.clear())
    module.marks = {module.layer.weight: 1, module.layer.bias: 2}
    Capture(module, "layer").record(X)
    assert list(module.marks.values()) == [1, 2]


@pytest.mark.parametrize("given", [None, 3.0])
def test_gradients_are_restored(given: float | None) -> None:
    def descend(module: Any) -> None:
        with torch.enable_grad():
            module.layer.weight.pow(2).sum().backward()
        module.layer.bias.requires_grad_(False)

    module = Changing(descend)
    before = None if given is None else torch.full((4, 3), given)
    module.layer.weight.grad = before
    Capture(module, "layer").record(X)
    assert module.layer.weight.grad is before
    assert before is None or before.eq(3.0).all()
    assert module.layer.bias.requires_grad


@pytest.mark.parametrize("kind", ["array", "tensor", "dict"])
def test_inputs_that_a_network_overwrites_stay_as_they_were(kind: str) -> None:
    class Doubling(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2)

    inputs = {"array": X.numpy().copy(), "tensor": X.clone(), "dict": {"x": X.clone()}}[kind]
    for _ in range(2):
        recorded = Capture(Doubling(), "", batch_size=4).record(inputs)["(network)"]
        assert recorded.values.tolist() == (2 * X).tolist()
    kept = inputs["x"] if isinstance(inputs, dict) else inputs
    assert kept.tolist() == X.tolist()


def test_a_warning_names_attributes_that_cannot_be_restored() -> None:
    order: list[str] = []
    module = Changing(lambda self: (next(self.noise), order.append("run")))
    module.noise = iter(range(1000))
    with pytest.warns(UserWarning, match=r"cannot be restored if the forward pass changes them: Changing\.noise"):
        Capture(module, "layer").record(X)


class Position(Snapshot):
    """The position of a stream, which is in no attribute."""

    def __init__(self, stream: io.BytesIO) -> None:
        self.stream, self.position = stream, stream.tell()

    def is_changed(self) -> bool:
        return self.stream.tell() != self.position

    def restore(self) -> None:
        self.stream.seek(self.position)


class Proxy(Snapshot):
    """A view of a dict, which refers to objects and cannot change itself."""

    def __init__(self, proxy: MappingProxyType[str, Any]) -> None:
        self.proxy = proxy

    def is_changed(self) -> bool:
        return False

    def restore(self) -> None:
        raise AssertionError

    def references(self) -> Iterator[tuple[str, Any]]:
        yield from ((f"[{key}]", value) for key, value in self.proxy.items())


def test_a_kind_of_state_from_outside_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Changing(lambda module: (module.stream.read(1), module.proxy["seen"].append(1)))
    module.stream, module.proxy = io.BytesIO(b"some bytes"), MappingProxyType({"seen": []})
    with pytest.warns(UserWarning, match=r"cannot be restored .*: Changing\.stream"):
        Capture(module, "layer").record(X)
    assert (module.stream.tell() > 0, len(module.proxy["seen"]) > 0) == (True, True)
    monkeypatch.setitem(SNAPSHOTS, io.BytesIO, Position)
    monkeypatch.setitem(SNAPSHOTS, MappingProxyType, Proxy)
    module.stream.seek(2)
    module.proxy["seen"].clear()
    Capture(module, "layer").record(X)
    assert (module.stream.tell(), module.proxy["seen"]) == (2, [])


def test_the_entry_of_the_most_specific_class_takes_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(io.BytesIO):
        pass

    taken: list[Any] = []
    monkeypatch.setitem(SNAPSHOTS, io.BytesIO, lambda stream: taken.append(("base", stream)) or Position(stream))
    monkeypatch.setitem(SNAPSHOTS, Stream, lambda stream: taken.append(("own", stream)) or Position(stream))
    module = nn.Sequential(nn.Linear(3, 2))
    module.streams = [Stream(), io.BytesIO()]
    PreservedNetwork(module)
    assert taken == [("own", module.streams[0]), ("base", module.streams[1])]


def test_a_lazy_module_is_refused_before_anything_runs() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2))
    with pytest.raises(
        ValueError, match=r"'0\.weight' has no values yet, because its module is lazy\. Run the network on"
    ):
        Capture(model, "1").record(X)
    assert isinstance(model[0], nn.LazyLinear)
    model(X)
    assert Capture(model, "0").record(X)["0"].values.shape == (6, 3)


def test_a_network_that_is_trained_between_blocks_is_rejected_and_keeps_its_new_weights() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    model.log = []
    blocks = Capture(model, "0", batch_size=2).blocks(X)
    np.testing.assert_allclose(next(blocks)["0"].values, model[0](X[:2]).detach().numpy(), rtol=1e-6)
    with torch.no_grad():
        model[0].weight.add_(1)
    model.log.append(1)
    changed = model[0].weight.detach().clone()
    with pytest.raises(
        ValueError, match=r"Layer '0' .* the rows differ from those of the same stimuli in a shorter batch"
    ):
        list(blocks)
    assert torch.equal(model[0].weight, changed)
    assert model.log == [1]


def test_recording_inside_autocast_leaves_later_gradients_alone() -> None:
    def gradient(recorded: bool) -> Tensor:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4))
        with torch.autocast("cpu", torch.bfloat16):
            if recorded:
                layer = Capture(model, "0").record(X)["0"]
                assert layer.source_dtype == "torch.bfloat16"
            model(X).float().sum().backward()
        assert model[0].weight.grad is not None
        return model[0].weight.grad

    assert torch.equal(gradient(False), gradient(True))


def test_unchanged_tensors_are_not_written_to() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    versions = [each._version for each in (*model.parameters(), *model.buffers())]
    Capture(model, "*").record(X)
    assert [each._version for each in (*model.parameters(), *model.buffers())] == versions


def test_a_network_that_refers_to_itself_is_walked_through_once() -> None:
    model: Any = nn.Sequential(nn.Linear(3, 2))
    model.me, model.more = [model], {"model": model}
    model.more["more"] = model.more
    with evaluation_mode(model) as found:
        assert isinstance(found, PreservedNetwork)
    assert model.training
    assert model.me[0] is model


def test_modules_inside_one_another_end() -> None:
    inner: Any = nn.Linear(3, 2)
    model: Any = nn.Sequential(inner)
    inner.parent = model
    with pytest.raises(RecursionError):
        model.eval()  # as torch's own functions do
    assert Capture(model, "0").names == ("0",)


class Stateful(nn.Module):
    """A recurrent layer that keeps its state in an attribute, a container, an object or a buffer."""

    def __init__(self, kind: str, examples: int) -> None:
        super().__init__()
        self.kind = kind
        self.step, self.out = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("state_buffer", torch.zeros(examples, 4) if kind == "buffer" else None)
        self.state: Any = None
        self.state_list: list[Any] = [None]
        self.state_object = SimpleNamespace(h=None)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "buffer":
            self.state_buffer = torch.tanh(self.step(x) + self.state_buffer)
            return self.out(self.state_buffer)
        earlier = {"list": self.state_list[0], "object": self.state_object.h}.get(self.kind, self.state)
        if isinstance(earlier, dict | tuple):
            earlier = earlier["h"] if isinstance(earlier, dict) else earlier[0]
        h = torch.tanh(self.step(x) + (0 if earlier is None else earlier))
        if self.kind == "in place" and self.state is not None:
            self.state[0].copy_(h)
        elif self.kind == "list":
            self.state_list[0] = h
        elif self.kind == "object":
            self.state_object.h = h
        else:
            self.state = {"h": h} if self.kind == "dict" else (h,)
        return self.out(h)


@pytest.mark.parametrize("kind", ["tuple", "dict", "buffer", "in place", "list", "object"])
@pytest.mark.parametrize("examples", [1, 2, 4, 9])
def test_states_of_every_form_start_from_zero_and_are_restored(kind: str, examples: int) -> None:
    model = Stateful(kind, examples)
    with torch.no_grad():
        expected = model.out(torch.tanh(model.step(X))).numpy()
        model(torch.randn(examples, 3))
    before = {name: (id(value), content(value)) for name, value in vars(model).items() if "state" in name}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer = Capture(model, "out").record(X)["out"]
    assert {name: (id(value), content(value)) for name, value in vars(model).items() if "state" in name} == before
    if examples > 1:  # a state of one example fits batches of every size, and is used as it is
        assert f"Stateful carries a state of its last {examples} examples in " in str(caught[0].message)
        np.testing.assert_allclose(layer.values, expected, rtol=1e-5, atol=1e-6)


def test_data_that_a_module_holds_is_not_copied() -> None:
    class Numbers(torch.utils.data.Dataset[Tensor]):
        def __init__(self) -> None:
            self.values = torch.zeros(10)

    model = nn.Sequential(nn.Linear(3, 2))
    model.data, model.optimizer = Numbers(), torch.optim.Adam(model.parameters())
    storages = {storage.here.data_ptr() for storage in PreservedNetwork(model)._storages.values()}
    assert storages == {parameter.data_ptr() for parameter in model.parameters()}


def test_a_network_whose_memory_cannot_be_measured_is_recorded() -> None:
    class Conditional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            from torch.utils._python_dispatch import _get_current_dispatch_mode

            if _get_current_dispatch_mode() is not None:
                raise NotImplementedError("no rule for this mode")
            return x * 2

    np.testing.assert_array_equal(Capture(nn.Sequential(Conditional()), "0").record(X)["0"].values, 2 * X.numpy())


def test_the_values_of_a_sparse_tensor_are_restored() -> None:
    module = Changing(lambda self: self.graph._values().add_(1))
    module.graph = torch.eye(3).to_sparse()
    Capture(module, "layer").record(X)
    assert torch.equal(module.graph.to_dense(), torch.eye(3))
