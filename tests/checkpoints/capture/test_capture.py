import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from checkpoints import Capture, SpatialMean, match_layers
from repsim.learning import mlp
from tests.checkpoints.capture.networks import Lambda, n_hooks

X = torch.linspace(-2, 2, 18).reshape(6, 3)


class Tree(nn.Module):
    """Modules named as in a transformer: norm, blocks.0.norm, blocks.0.mlp.norm, …"""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Identity()
        self.blocks = nn.ModuleList()
        for _ in range(12):
            block = nn.Module()
            block.norm = nn.Identity()
            block.mlp = nn.Sequential()
            block.mlp.norm = nn.Identity()
            self.blocks.append(block)


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def record(model: nn.Module, layers: Any, inputs: Any = X, **options: Any) -> dict[str, Any]:
    return Capture(model, layers, **options).record(inputs)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["norm"], ["norm"]),
        (["blocks.3.norm"], ["blocks.3.norm"]),
        (["*"], ["norm"]),
        (re.compile(r"blocks\.(3|4)\.mlp"), ["blocks.3.mlp", "blocks.4.mlp"]),
        (lambda name, module: name.endswith("11.norm"), ["blocks.11.norm"]),
        (["norm", re.compile(r".*\.2\.norm")], ["norm", "blocks.2.norm"]),
        (["blocks.*"], [f"blocks.{index}" for index in range(12)]),
        (["blocks.1*.norm"], [f"blocks.{index}.norm" for index in (1, 10, 11)]),
        (["blocks.1?.norm"], [f"blocks.{index}.norm" for index in (10, 11)]),
        (["blocks.2.**"], ["blocks.2.norm", "blocks.2.mlp", "blocks.2.mlp.norm"]),
        (["blocks.0.**.norm"], ["blocks.0.norm", "blocks.0.mlp.norm"]),
        (["blocks.**.mlp"], [f"blocks.{index}.mlp" for index in range(12)]),
        (["blocks.11.mlp", "norm", "blocks.2.mlp", "norm"], ["norm", "blocks.2.mlp", "blocks.11.mlp"]),
    ],
)
def test_names_and_globs_match_in_the_order_of_the_model(patterns: Any, expected: list[str]) -> None:
    assert match_layers(Tree(), patterns) == tuple(expected)


def test_two_stars_match_any_number_of_parts_including_none() -> None:
    names = [name for name, module in Tree().named_modules() if name and not isinstance(module, nn.ModuleList)]
    assert match_layers(Tree(), ["**"]) == tuple(names)
    assert match_layers(Tree(), ["**.norm"]) == tuple(name for name in names if name.split(".")[-1] == "norm")


@pytest.mark.parametrize("pattern", ["norms", "block.*", "*.nor", "blocks.0.norm.", "**.mlps", "blocks", "norms[0]"])
def test_a_pattern_that_matches_nothing_raises_an_error_with_similar_names(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"No layer matches '.*'\. Similar names: .*(norm|blocks)") as raised:
        Capture(Tree(), ["norm", pattern])
    assert f"'{pattern}'" in str(raised.value)


def test_similar_names_are_sorted_by_similarity() -> None:
    with pytest.raises(ValueError, match=r"No layer matches 'blocks\.7\.nrom'\. Similar names: blocks\.7\.norm, "):
        match_layers(Tree(), ["blocks.7.nrom"])


def test_dots_in_patterns_are_literal() -> None:
    model = nn.ModuleDict({"axb": nn.Identity(), "a": nn.ModuleDict({"b": nn.Identity()})})
    assert match_layers(model, ["a.b"]) == ("a.b",)


def test_an_empty_list_of_patterns_is_rejected() -> None:
    with pytest.raises(ValueError, match="list of layers is empty; give at least one"):
        Capture(Tree(), [])


def test_recorded_values_are_the_outputs_of_the_layers(network: nn.Sequential) -> None:
    layers = record(network, ["*"])
    network.eval()
    h = X
    for name, module in network.named_children():
        h = module(h)
        np.testing.assert_array_equal(layers[name].values, h.detach().numpy(), strict=True)
        assert layers[name].feature_shape == tuple(h.shape[1:])
        assert layers[name].source_dtype == "torch.float32"
    assert list(layers) == ["0", "1", "2", "3", "4"]


def test_features_are_flattened_in_row_major_order() -> None:
    images = torch.randn(2, 1, 5, 4)
    model = nn.Sequential(nn.Conv2d(1, 3, 2))
    layer = record(model, ["0"], images)["0"]
    assert layer.feature_shape == (3, 4, 3)
    np.testing.assert_array_equal(layer.values.reshape(2, 3, 4, 3), model(images).detach().numpy())


def test_a_scalar_per_stimulus_is_stored_as_one_column() -> None:
    layer = record(nn.Sequential(Lambda(lambda x: x.sum(1))), ["0"])["0"]
    assert (layer.values.shape, layer.feature_shape) == ((6, 1), ())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_other_dtypes_are_stored_as_float32_with_their_source_dtype(dtype: torch.dtype) -> None:
    layer = record(nn.Sequential(Lambda(lambda x: x.to(dtype))), ["0"])["0"]
    np.testing.assert_array_equal(layer.values, X.to(dtype).float().numpy(), strict=True)
    assert layer.source_dtype == str(dtype)


def test_layers_are_ordered_by_execution() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    model = Lambda(lambda x: second(first(x)), second=second, first=first)
    assert match_layers(model, ["*"]) == ("second", "first")
    assert list(record(model, ["*"])) == ["first", "second"]


def test_a_module_list_is_not_a_layer() -> None:
    chain = mlp(3, 2, depth=2, width=4, generator=torch.Generator().manual_seed(0))
    assert match_layers(chain, "*") == ("input", "output")
    with pytest.raises(
        ValueError, match=r"No layer matches 'hidden'\. Similar names: hidden\.2, hidden\.1, hidden\.2\.pool"
    ):
        match_layers(chain, "hidden")


@pytest.mark.parametrize("pattern", [3, None, b"0", nn.Linear, nn.Linear(1, 1)])
def test_patterns_of_other_types_are_rejected(pattern: Any) -> None:
    with pytest.raises(TypeError, match="is not a pattern; expected text"):
        Capture(Tree(), [pattern])


@given(batch_size=st.integers(1, 8))
@settings(derandomize=True, deadline=None, max_examples=8)
def test_recorded_values_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(), nn.Dropout(), nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh())
    whole, batched = record(model, ["*"]), record(model, ["*"], batch_size=batch_size)
    assert list(batched) == list(whole)
    for name in ("0", "1"):
        np.testing.assert_array_equal(batched[name].values, whole[name].values, strict=True)
    for name in ("2", "3", "4"):
        np.testing.assert_allclose(batched[name].values, whole[name].values, atol=1e-6)


def fail(x: Tensor) -> Tensor:
    raise ArithmeticError("in forward")


def test_hooks_are_on_only_while_the_network_is_recorded(network: nn.Sequential) -> None:
    counts = []
    network[0].register_forward_hook(lambda *_: counts.append(n_hooks(network)))
    capture = Capture(network, ["0", "2"])
    assert n_hooks(network) == 1
    capture.record(X)
    assert n_hooks(network) == 1
    assert set(counts) == {5}


def test_hooks_and_modes_are_restored_between_blocks(network: nn.Sequential) -> None:
    network.train()
    buffers = dict(network.named_buffers())
    for _ in Capture(network, ["*"], batch_size=2).blocks(X):
        assert n_hooks(network) == 0
        assert network[1].training
        assert all(buffer is buffers[name] for name, buffer in network.named_buffers())
        assert torch.is_grad_enabled()


def test_a_capture_can_be_used_again_after_a_failure() -> None:
    switch = Lambda(fail)
    model = nn.Sequential(nn.Linear(3, 2), switch)
    capture = Capture(model, ["0"])
    with pytest.raises(ArithmeticError):
        capture.record(X)
    switch.function = torch.relu
    np.testing.assert_array_equal(capture.record(X)["0"].values, model[0](X).detach().numpy())


def test_passes_between_records_are_not_recorded(network: nn.Sequential) -> None:
    capture = Capture(network, ["0"])
    before = capture.record(X)["0"].values
    network(X + 1)
    np.testing.assert_array_equal(capture.record(X)["0"].values, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": "left"}, r"Unknown side 'left'\. Choose one of: output, input, both"),
        ({"dtype": "int8"}, r"Unknown dtype 'int8'\. Choose one of: float32, float16, float64"),
        ({"batch_size": 0}, "batch_size is 0; expected a whole number of 1 or more"),
        ({"reduce": {"2": SpatialMean()}}, r"No layer matches '2'\. Similar names: 0"),
    ],
)
def test_unknown_options_are_refused(network: nn.Sequential, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Capture(network, "0", **options)


def test_a_reduction_that_cannot_be_called_is_refused(network: nn.Sequential) -> None:
    for reduction in (3, SpatialMean):
        with pytest.raises(TypeError, match=r"is not a reduction; expected one such as SpatialMean\(\)"):
            Capture(network, "0", reduce={"0": reduction})


@pytest.mark.parametrize("inputs", [torch.zeros(0, 3), torch.tensor(1.0), {"a": X, "b": X[:2]}, {}])
def test_inputs_need_the_same_positive_number_of_rows(network: nn.Sequential, inputs: Any) -> None:
    with pytest.raises(ValueError, match=r"The inputs have .* rows; expected one or more, and the same number in each"):
        record(network, "0", inputs)


def test_recording_between_forward_and_backward_does_not_change_the_gradient(network: nn.Sequential) -> None:
    def gradients(recorded: bool) -> list[Tensor]:
        torch.manual_seed(1)
        network.zero_grad()
        loss = network(X).square().sum()
        if recorded:
            record(network, ["*"])
        loss.backward()
        return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]

    plain, with_record = gradients(False), gradients(True)
    assert len(plain) == 6
    assert all(map(torch.equal, plain, with_record))


def test_gradients_are_not_tracked() -> None:
    tracked = []
    model = nn.Sequential(nn.Linear(3, 2), Lambda(lambda x: tracked.append(x.requires_grad) or x))
    record(model, ["0"])
    assert set(tracked) == {False}
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_named_layer_that_is_never_reached_is_an_error() -> None:
    model = Lambda(lambda x: used(x), used=(used := nn.Linear(3, 3)), unused=nn.Linear(3, 3))
    with pytest.raises(ValueError, match="Layer 'unused' was not reached in a forward pass, or returned no tensor"):
        record(model, ["used", "unused"])
    with pytest.raises(ValueError, match=r"'unus\*' matches modules, but none of them gives one row per"):
        record(model, ["used", "unus*"])


def test_a_pattern_skips_layers_that_the_forward_pass_does_not_reach() -> None:
    model = Lambda(lambda x: used(x), used=(used := nn.Linear(3, 3)), unused=nn.Linear(3, 3))
    assert list(record(model, "*")) == ["used"]


def test_each_call_of_a_module_is_a_separate_layer() -> None:
    shared = nn.Linear(3, 3)
    model = Lambda(lambda x: shared(shared(x)), shared=shared)
    layers = record(model, "shared")
    assert [(name, layer.module, layer.call_index) for name, layer in layers.items()] == [
        ("shared#0", "shared", 0),
        ("shared#1", "shared", 1),
    ]
    np.testing.assert_array_equal(layers["shared#0"].values, shared(X).detach().numpy())
    np.testing.assert_array_equal(layers["shared#1"].values, shared(shared(X)).detach().numpy())
    assert list(record(model, "shared#1")) == ["shared#1"]
    with pytest.raises(ValueError, match="'shared#2' matches no tensor of a forward pass"):
        record(model, "shared#2")


@dataclass
class Output:
    hidden: Tensor
    extra: Any = None


Pair = namedtuple("Pair", ["first", "second"])


@pytest.mark.parametrize(
    ("structure", "paths"),
    [
        (lambda x: (x, x + 1), ["[0]", "[1]"]),
        (lambda x: [x, (x, {"a": x})], ["[0]", "[1][0]", "[1][1][a]"]),
        (lambda x: {"x": x, 3: x, "none": None}, ["[x]", "[3]"]),
        (lambda x: Output(x, (x,)), ["[hidden]", "[extra][0]"]),
        (lambda x: Pair(x, "text"), ["[first]"]),
    ],
)
def test_tensors_in_tuples_lists_dicts_and_dataclasses_are_layers_by_path(structure: Any, paths: list[str]) -> None:
    model = Lambda(lambda x: (inner(x), x)[1], inner=(inner := Lambda(structure)))
    layers = record(model, "inner")
    assert list(layers) == [f"inner{path}" for path in paths]
    assert [layer.path for layer in layers.values()] == paths
    assert list(record(model, f"inner{paths[-1]}")) == [f"inner{paths[-1]}"]
    assert list(record(model, "inner[*]")) == list(layers)
    assert list(record(model, f"inner[{paths[-1][1:].partition(']')[0]}]"))[-1] == f"inner{paths[-1]}"  # a beginning
    with pytest.raises(ValueError, match=r"'inner\[9\]' matches no tensor of a forward pass"):
        record(model, "inner[9]")


@pytest.mark.parametrize("output", [None, "nothing"])
def test_an_output_without_a_tensor_is_an_error(output: str | None) -> None:
    model = Lambda(lambda x: (inner(x), x)[1], inner=(inner := Lambda(lambda x: output)))
    with pytest.raises(ValueError, match="Layer 'inner' was not reached in a forward pass, or returned no tensor"):
        record(model, "inner")


def test_inputs_are_recorded_as_a_module_received_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    layers = record(model, ["1", "1:input", "0:input"])
    assert list(layers) == ["0:input", "1:input", "1"]
    assert [layer.side for layer in layers.values()] == ["input", "input", "output"]
    np.testing.assert_array_equal(layers["0:input"].values, X.numpy())
    np.testing.assert_array_equal(layers["1:input"].values, model[0](X).detach().numpy())
    assert (layers["1:input"].values < 0).any()
    np.testing.assert_array_equal(layers["1"].values, model[0](X).relu().detach().numpy())
    assert list(record(model, re.compile("1"), side="both")) == ["1:input", "1"]
    assert list(record(model, "1", side="input")) == ["1:input"]


def test_several_inputs_are_named_by_position_and_name() -> None:
    two = Lambda(lambda x, y, scale=1.0, mask=None: x + y)
    model = Lambda(lambda x: two(x, x + 1, mask=x > 0, scale=2.0), two=two)
    layers = record(model, "two:input")
    assert list(layers) == ["two:input[0]", "two:input[1]", "two:input[mask]"]
    np.testing.assert_array_equal(layers["two:input[1]"].values, (X + 1).numpy())
    np.testing.assert_array_equal(layers["two:input[mask]"].values, (X > 0).float().numpy())
    assert layers["two:input[mask]"].source_dtype == "torch.bool"
    assert list(record(model, "two:input[mask]")) == ["two:input[mask]"]


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: x[:1], r"\(1, 3\)"),
        (lambda x: x.sum(), r"\(\)"),
        (lambda x: x @ x.T, r"\(6, 6\)"),  # both axes have as many entries as there are stimuli
        (lambda x: x.repeat_interleave(2, 0), r"\(12, 3\)"),
        (lambda x: x.sort(0).values, r"\(6, 3\)"),  # the rows are those of no stimulus
    ],
)
def test_an_output_without_one_row_per_stimulus_is_an_error(function: Callable[[Tensor], Tensor], shape: str) -> None:
    message = f"Layer '0' has shape {shape} for 6 stimuli, and no axis indexes the stimuli. Choose another"
    with pytest.raises(ValueError, match=message):
        record(nn.Sequential(Lambda(function)), ["0"])


def test_an_output_without_values_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Layer '0' has shape \(6, 0\) for 6 stimuli, and there are no values"):
        record(nn.Sequential(Lambda(lambda x: x[:, :0])), ["0"])


def test_shapes_that_differ_between_blocks_are_an_error() -> None:
    ragged = Lambda(lambda x: x[:, : 2 if x.sum() == X[:2].sum() else 3])
    with pytest.raises(ValueError, match=r"Layer '0' has shape \(2,\) in one block of stimuli and \(3,\) in another"):
        record(nn.Sequential(ragged), ["0"], batch_size=2)


def test_layers_that_differ_between_blocks_are_an_error() -> None:
    extra = nn.Identity()
    model = Lambda(lambda x: last(x if x.sum() == X[4:].sum() else extra(x)), extra=extra, last=(last := nn.Identity()))
    with pytest.raises(ValueError, match="The layers differ between blocks of stimuli: extra"):
        record(model, "*", batch_size=2)


@pytest.mark.parametrize("source", [torch.float32, torch.bfloat16, torch.float64])
def test_float16_is_exact_or_an_error(source: torch.dtype) -> None:
    layer = record(nn.Sequential(Lambda(lambda x: (x * 2**14).to(source))), "0", dtype="float16")["0"]
    np.testing.assert_array_equal(layer.values, (X * 2**14).to(source).half().numpy(), strict=True)
    message = r"Layer '0' holds \d+, which exceeds the largest torch.float16 number \(65504\)\. Record it in a wider"
    with pytest.raises(ValueError, match=message):
        record(nn.Sequential(Lambda(lambda x: (x * 40_000).to(source))), "0", dtype="float16")


def test_values_that_are_not_finite_are_stored_as_they_are() -> None:
    odd = torch.tensor([[float("nan"), float("inf"), -float("inf")]] * 6)
    for dtype in ("float16", "float32", "float64"):
        layer = record(nn.Sequential(Lambda(lambda x: odd[: len(x)])), "0", dtype=dtype)["0"]
        np.testing.assert_array_equal(layer.values, odd.numpy())


def test_float64_is_stored_on_request_and_overflow_of_float32_is_an_error() -> None:
    model = nn.Sequential(Lambda(lambda x: x.double() / 3))
    np.testing.assert_array_equal(record(model, "0", dtype="float64")["0"].values, X.double().numpy() / 3, strict=True)
    with pytest.raises(ValueError, match=r"Layer '0' holds 2e\+300, which exceeds the largest torch.float32"):
        record(nn.Sequential(Lambda(lambda x: x.double() * 1e300)), "0")


def test_whole_numbers_are_exact_or_an_error() -> None:
    for largest, fits in ((2**24, True), (2**24 + 1, False)):
        model = nn.Sequential(Lambda(lambda x, n=largest: torch.full((len(x), 1), n)))
        if fits:
            assert (record(model, "0")["0"].values == largest).all()
        else:
            with pytest.raises(ValueError, match=r"Layer '0' holds whole numbers too large for torch\.float32"):
                record(model, "0")


def test_sparse_values_are_rejected() -> None:
    model = Lambda(lambda x: (inner(x), x)[1], **{"0": (inner := Lambda(torch.Tensor.to_sparse))})
    with pytest.raises(ValueError, match=r"Layer '0' .* and the layout is torch\.sparse_coo and not dense\. Choose"):
        record(model, "0")


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_values_are_stored_as_real_and_imaginary_part(dtype: torch.dtype) -> None:
    model = nn.Sequential(Lambda(lambda x: (x + 1j * x**2).to(dtype).conj()))
    layer = record(model, "0", dtype="float64")["0"]
    assert (layer.feature_shape, layer.source_shape, layer.source_dtype) == ((3, 2), (3,), str(dtype))
    expected = torch.stack([X, -(X**2)], -1).flatten(1)
    np.testing.assert_allclose(layer.values, expected.numpy(), rtol=1e-6)


def test_several_inputs_are_passed_by_name() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Identity()

        def forward(self, values: Tensor, mask: Tensor) -> Tensor:
            return self.out(values * mask)

    mask = np.arange(6)[:, None] % 2
    layer = record(Masked(), "out", {"values": X, "mask": mask}, batch_size=4)["out"]
    np.testing.assert_array_equal(layer.values, X.numpy() * mask)


def test_a_custom_forward_function_is_used() -> None:
    network = nn.Sequential(nn.Identity())
    layer = record(network, "0", forward=lambda model, batch: model(batch + 1))["0"]
    np.testing.assert_array_equal(layer.values, X.numpy() + 1)


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.mark.parametrize("module", [nn.Linear(3, 2), Fixed()], ids=["parameters", "buffers"])
def test_inputs_are_cast_to_the_dtype_of_the_network(module: nn.Module) -> None:
    layer = record(nn.Sequential(module).double(), "0", dtype="float64")["0"]
    assert layer.source_dtype == "torch.float64"


@pytest.mark.parametrize(("width", "rows"), [(1, 512), (2**13, 512), (2**14, 256), (2**23, 1)])
def test_blocks_hold_at_most_16_mebibyte_of_activations(width: int, rows: int) -> None:
    capture = Capture(nn.Sequential(Lambda(lambda x: x.expand(len(x), width))), "0")
    inputs = torch.zeros(1000 if rows > 1 else 3, 1)
    assert len(next(iter(capture.blocks(inputs)))["0"]) == rows


# What people's networks do


def test_patterns_skip_layers_without_one_row_per_stimulus_and_warn_once() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.position, self.out = nn.Embedding(3, 4), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x[:, :, None] + self.position(torch.arange(3)[None]))

    capture = Capture(Embedded(), "**")
    with pytest.warns(UserWarning, match=r"Not recorded, because no .* the stimuli: position \(1, 3, 4\)\.$"):
        assert list(capture.record(X)) == ["out"]
    assert list(capture.record(X)) == ["out"]
    with pytest.raises(ValueError, match=r"Layer 'position' has shape \(1, 3, 4\) for 6 stimuli, and no axis"):
        record(Embedded(), ["position", "out"])


def test_a_reduction_that_fails_names_the_layer() -> None:
    with pytest.raises(ValueError, match=r"Layer '0' cannot be reduced by custom\(.*lambda.*\): 'Tensor' object"):
        record(nn.Sequential(nn.Identity()), "0", reduce=lambda values: values.nothing)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"custom\(.*\) made a list of layer '0'; expected a tensor"):
        record(nn.Sequential(nn.Identity()), "0", reduce=lambda values: values.tolist())


def test_a_network_that_rewrites_its_weights_for_evaluation_keeps_them() -> None:
    class Merging(nn.Linear):
        def train(self, mode: bool = True) -> "Merging":
            with torch.no_grad():
                self.weight.add_(-1 if mode else 1)
            return super().train(mode)

    model = nn.Sequential(Merging(3, 3))
    before = model[0].weight.clone()
    record(model, "0")
    assert torch.equal(model[0].weight, before)


def test_two_tensors_of_one_name_are_an_error() -> None:
    model = Lambda(lambda x: (inner(x), x)[1], inner=(inner := Lambda(lambda x: {0: x, "0": x})))
    with pytest.raises(ValueError, match=r"Layer 'inner\[0\]' gives two tensors of this name; keys must differ"):
        record(model, "inner")
    twice = Lambda(lambda x: other(a(a(x))), a=(a := nn.Identity()))
    twice.add_module("a#1", other := nn.Identity())
    with pytest.raises(
        ValueError, match="Two layers have the same name, because a module is named like another module's call"
    ):
        record(twice, "*")


def test_recording_may_begin_in_inference_mode() -> None:
    capture = Capture(nn.Sequential(nn.Identity()), "0", batch_size=2)
    with torch.inference_mode():
        blocks = capture.blocks(X)
        next(blocks)
    np.testing.assert_array_equal(next(blocks)["0"].values, X[2:4].numpy())


def test_repr_of_a_capture_counts_its_modules(network: nn.Sequential) -> None:
    assert repr(Capture(network, "*")) == "Capture(Sequential, 5 modules)"


@pytest.mark.parametrize("kind", ["other byte order", "reversed", "read-only", "transposed"])
def test_arrays_are_recorded_however_they_lie_in_memory(kind: str) -> None:
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    given = {
        "other byte order": values.astype(values.dtype.newbyteorder("S")),
        "reversed": values[::-1].copy()[::-1],
        "read-only": values.copy(),
        "transposed": np.asfortranarray(values),
    }[kind]
    given.flags.writeable = kind != "read-only"
    layer = Capture(nn.Identity(), "").record(given)["(network)"]
    np.testing.assert_array_equal(layer.values, values)
