from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from checkpoints import Capture, match_layers

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


class Lambda(nn.Module):
    """A module that computes what it is given."""

    def __init__(self, function: Callable[[Tensor], Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))


def record(model: nn.Module, layers: list[str], inputs: Any = X, **options: Any) -> dict[str, Any]:
    with Capture(model, layers) as capture:
        return capture.record(inputs, **options)


def n_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["norm"], ["norm"]),
        (["blocks.3.norm"], ["blocks.3.norm"]),
        (["*"], ["norm", "blocks"]),
        (["blocks.*"], [f"blocks.{index}" for index in range(12)]),
        (["blocks.1*.norm"], [f"blocks.{index}.norm" for index in (1, 10, 11)]),
        (["blocks.1?.norm"], [f"blocks.{index}.norm" for index in (10, 11)]),
        (["blocks.2.**"], ["blocks.2.norm", "blocks.2.mlp", "blocks.2.mlp.norm"]),
        (["blocks.0.**.norm"], ["blocks.0.norm", "blocks.0.mlp.norm"]),
        (["blocks.**.mlp"], [f"blocks.{index}.mlp" for index in range(12)]),
        (["blocks.11.mlp", "norm", "blocks.2.mlp", "norm"], ["norm", "blocks.2.mlp", "blocks.11.mlp"]),
    ],
)
def test_names_and_globs_match_in_the_order_of_the_model(patterns: list[str], expected: list[str]) -> None:
    assert match_layers(Tree(), patterns) == tuple(expected)


def test_two_stars_match_any_number_of_parts_also_none() -> None:
    names = [name for name, _ in Tree().named_modules() if name]
    assert match_layers(Tree(), ["**"]) == tuple(names)
    assert match_layers(Tree(), ["**.norm"]) == tuple(name for name in names if name.split(".")[-1] == "norm")


@pytest.mark.parametrize("pattern", ["norms", "block.*", "*.nor", "blocks.0.norm.", "blocks.0[norm]", "", "**.mlps"])
def test_a_pattern_that_matches_nothing_is_an_error_with_near_names(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"No layer matches '.*'\. Near names: .*(norm|blocks)") as raised:
        Capture(Tree(), ["norm", pattern])
    assert f"'{pattern}'" in str(raised.value)


def test_the_nearest_name_comes_first() -> None:
    with pytest.raises(ValueError, match=r"No layer matches 'blocks\.7\.nrom'\. Near names: blocks\.7\.norm, "):
        match_layers(Tree(), ["blocks.7.nrom"])


def test_a_dot_in_a_pattern_is_a_dot() -> None:
    model = nn.ModuleDict({"axb": nn.Identity(), "a": nn.ModuleDict({"b": nn.Identity()})})
    assert match_layers(model, ["a.b"]) == ("a.b",)


def test_no_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="No layers were asked for; give at least one name or pattern"):
        Capture(Tree(), [])


def test_what_is_recorded_is_what_the_layers_compute(network: nn.Sequential) -> None:
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


def test_one_number_a_stimulus_is_one_column() -> None:
    layer = record(nn.Sequential(Lambda(lambda x: x.sum(1))), ["0"])["0"]
    assert (layer.values.shape, layer.feature_shape) == ((6, 1), ())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_other_types_become_float32_and_are_remembered(dtype: torch.dtype) -> None:
    layer = record(nn.Sequential(Lambda(lambda x: x.to(dtype))), ["0"])["0"]
    np.testing.assert_array_equal(layer.values, X.to(dtype).float().numpy(), strict=True)
    assert layer.source_dtype == str(dtype)


def test_layers_are_in_the_order_in_which_they_are_reached() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    model = Lambda(lambda x: second(first(x)), second=second, first=first)
    assert match_layers(model, ["*"]) == ("second", "first")
    assert list(record(model, ["*"])) == ["first", "second"]


def test_values_are_copied_when_they_are_computed() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
    layers = record(model, ["*"])
    np.testing.assert_array_equal(layers["0"].values, model[0](X).detach().numpy())
    assert (layers["0"].values < 0).any()
    assert (layers["1"].values >= 0).all()


@given(batch_size=st.integers(1, 8))
@settings(derandomize=True, deadline=None, max_examples=8)
def test_batches_change_nothing(batch_size: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(), nn.Dropout(), nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh())
    whole, batched = record(model, ["*"]), record(model, ["*"], batch_size=batch_size)
    assert list(batched) == list(whole)
    for name in ("0", "1"):
        np.testing.assert_array_equal(batched[name].values, whole[name].values, strict=True)
    for name in ("2", "3", "4"):
        np.testing.assert_allclose(batched[name].values, whole[name].values, atol=1e-6)


def test_arrays_are_taken_as_tensors_are(network: nn.Sequential) -> None:
    np.testing.assert_array_equal(record(network, ["4"], X.numpy())["4"].values, record(network, ["4"])["4"].values)


def test_a_model_without_parameters_can_be_recorded() -> None:
    np.testing.assert_array_equal(record(nn.Sequential(nn.ReLU()), ["0"])["0"].values, X.clamp(min=0).numpy())


def fail(x: Tensor) -> Tensor:
    raise ArithmeticError("in forward")


def test_hooks_are_on_within_the_block_only(network: nn.Sequential) -> None:
    with Capture(network, ["0", "2"]) as capture:
        assert n_hooks(network) == 2
        capture.record(X)
        assert n_hooks(network) == 2
    assert n_hooks(network) == 0


def test_hooks_come_off_when_the_forward_pass_raises() -> None:
    model = nn.Sequential(nn.Linear(3, 2), Lambda(fail))
    with pytest.raises(ArithmeticError, match="in forward"), Capture(model, ["0"]) as capture:
        capture.record(X)
    assert n_hooks(model) == 0


def test_a_capture_can_be_used_again_after_a_failure() -> None:
    switch = Lambda(fail)
    model = nn.Sequential(nn.Linear(3, 2), switch)
    with Capture(model, ["0"]) as capture:
        with pytest.raises(ArithmeticError):
            capture.record(X)
        switch.function = torch.relu
        np.testing.assert_array_equal(capture.record(X)["0"].values, model[0](X).detach().numpy())


def test_passes_between_records_are_not_recorded(network: nn.Sequential) -> None:
    with Capture(network, ["0"]) as capture:
        before = capture.record(X)["0"].values
        network(X + 1)
        np.testing.assert_array_equal(capture.record(X)["0"].values, before)


def test_hooks_do_nothing_after_a_record_that_failed() -> None:
    model = nn.Sequential(Lambda(lambda x: (x, x)), Lambda(lambda pair: pair[0]))
    with Capture(model, ["0"]) as capture:
        with pytest.raises(ValueError, match="Layer '0' returns a tuple"):
            capture.record(X)
        assert torch.equal(model(X), X)


def test_record_outside_the_block_is_refused(network: nn.Sequential) -> None:
    capture = Capture(network, ["0"])
    with pytest.raises(RuntimeError, match=r"This Capture has no hooks on the model\. Use it inside 'with Capture"):
        capture.record(X)
    with capture:
        capture.record(X)
    with pytest.raises(RuntimeError, match="This Capture has no hooks on the model"):
        capture.record(X)


@pytest.mark.parametrize("failing", [False, True])
def test_every_module_keeps_its_own_mode(network: nn.Sequential, failing: bool) -> None:
    model = nn.Sequential(network, Lambda(fail) if failing else nn.Identity())
    model.train()
    model[0][1].eval()
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    try:
        record(model, ["0.1"])
    except ArithmeticError:
        assert failing
    assert [module.training for module in model.modules()] == modes


class Restless(nn.Module):
    """Draws, counts in place and counts anew at every pass, also in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("in_place", torch.zeros(()))
        self.register_buffer("anew", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.in_place += 1
        self.anew = self.anew + 1
        return x + torch.randn_like(x)


def test_generators_and_buffers_are_untouched(network: nn.Sequential) -> None:
    network(X)
    model = nn.Sequential(network, Restless())
    buffers = dict(model.named_buffers())
    values = {name: buffer.clone() for name, buffer in buffers.items()}
    generator = torch.get_rng_state()
    record(model, ["**"], batch_size=2)
    assert torch.equal(torch.get_rng_state(), generator)
    assert values.keys() == {"0.1.running_mean", "0.1.running_var", "0.1.num_batches_tracked", "1.in_place", "1.anew"}
    for name, buffer in model.named_buffers():
        assert buffer is buffers[name]
        assert torch.equal(buffer, values[name])


def test_recording_between_forward_and_backward_leaves_the_gradient_as_it_was(network: nn.Sequential) -> None:
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
    assert tracked == [False]
    assert torch.is_grad_enabled()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_layer_that_is_never_reached_is_an_error() -> None:
    model = Lambda(lambda x: x, unused=nn.Linear(3, 3))
    with pytest.raises(ValueError, match="Layer 'unused' was not reached in one forward pass; it can be recorded if"):
        record(model, ["unused"])


def test_a_layer_that_is_reached_twice_is_an_error() -> None:
    shared = nn.Linear(3, 3)
    model = Lambda(lambda x: shared(shared(x)), shared=shared)
    with pytest.raises(ValueError, match="Layer 'shared' was reached 2 times in one forward pass"):
        record(model, ["shared"])


@pytest.mark.parametrize(("output", "name"), [((X, X), "tuple"), ({"x": X}, "dict"), (None, "NoneType")])
def test_an_output_that_is_not_a_tensor_is_an_error(output: Any, name: str) -> None:
    model = Lambda(lambda x: (inner(x), x)[1], inner=(inner := Lambda(lambda x: output)))
    with pytest.raises(ValueError, match=f"Layer 'inner' returns a {name}; only tensors can be recorded"):
        record(model, ["inner"])


@pytest.mark.parametrize(
    ("function", "shape"),
    [(lambda x: x[:4], r"\(4, 3\)"), (lambda x: x.T, r"\(3, 6\)"), (lambda x: x.sum(), r"\(\)")],
)
def test_an_output_without_one_row_a_stimulus_is_an_error(function: Callable[[Tensor], Tensor], shape: str) -> None:
    message = f"Layer '0' returned shape {shape} for 6 stimuli; expected a row each"
    with pytest.raises(ValueError, match=message):
        record(nn.Sequential(Lambda(function)), ["0"])


def test_one_pattern_may_be_given_as_text() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert match_layers(model, "0") == match_layers(model, ["0"]) == ("0",)
    with pytest.raises(ValueError, match=r"No layer matches 'conv1'\. Near names: 1, 0\."):
        match_layers(model, "conv1")
