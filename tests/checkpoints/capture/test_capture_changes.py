"""Capture of networks that change, are wrapped, or run elsewhere: adapters, scripted, sharded, offloaded, quantised."""

import random
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checkpoints import Capture, match_layers
from checkpoints.storage.hdf5_files.activation_file import LayerValues
from tests.checkpoints.capture.networks import Lambda

X = torch.linspace(-2, 2, 24).reshape(6, 4)


def record(model: nn.Module, layers: Any = "*", inputs: Any = X, **options: Any) -> dict[str, LayerValues]:
    return Capture(model, layers, **options).record(inputs)


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


class Adapter(nn.Module):
    """A low-rank adapter around a layer, as fine-tuning libraries put it in the layer's place."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base
        self.down, self.up = nn.Linear(base.in_features, 2, bias=False), nn.Linear(2, base.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.up(self.down(x))


# Layers are resolved when recording


def test_a_replaced_head_is_recorded_as_it_is_now() -> None:
    model = network()
    capture = Capture(model, "*")
    model[2] = nn.Linear(5, 7)
    layers = capture.record(X)
    assert capture.names == ("0", "1", "2")
    np.testing.assert_array_equal(layers["2"].values, model(X).detach().numpy())


def test_an_adapter_wrapped_in_place_is_recorded_under_the_layers_name() -> None:
    model = network()
    capture, inside = Capture(model, ["0", "2"]), Capture(model, "**")
    plain = capture.record(X)["0"].values
    model[0] = Adapter(model[0])
    adapted = capture.record(X)["0"].values
    np.testing.assert_array_equal(adapted, model[0](X).detach().numpy())
    assert not np.allclose(adapted, plain)
    assert {"0", "0.base_layer", "0.down", "0.up"} <= set(inside.record(X))


def test_an_added_layer_is_recorded_and_a_removed_one_refused() -> None:
    model = network()
    star, named = Capture(model, "*"), Capture(model, ["0", "2"])
    model.append(nn.Tanh())
    assert list(star.record(X)) == ["0", "1", "2", "3"]
    del model[2:]
    assert list(star.record(X)) == ["0", "1"]
    with pytest.raises(ValueError, match=r"No layer matches '2'\. Similar names: "):
        named.record(X)


def test_reductions_follow_the_layers_as_they_are_now() -> None:
    model = network()
    capture = Capture(model, "*", reduce={"2": lambda values: values[:, :1]})
    model[2] = nn.Linear(5, 7)
    assert capture.record(X)["2"].values.shape == (6, 1)


# What can be captured


class Dense(nn.ModuleDict):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([part(x) for part in self.values()], 1)


class Listed(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        for part in self:
            x = part(x)
        return x


@pytest.mark.parametrize("container", [Dense({"a": nn.Linear(4, 2)}), Listed([nn.Linear(4, 2), nn.Tanh()])])
def test_containers_with_a_forward_of_their_own_are_layers(container: nn.Module) -> None:
    model = nn.Sequential(container, nn.Linear(2, 2))
    assert match_layers(model, "*") == ("0", "1")
    np.testing.assert_array_equal(record(model)["0"].values, container(X).detach().numpy())
    plain = nn.Sequential(nn.Linear(4, 2))
    plain.parts = nn.ModuleList([nn.Linear(1, 1)])
    assert "parts" not in match_layers(plain, "**")


@pytest.mark.parametrize("pattern", ["", "(network)", ["(network)", "0"]])
def test_the_networks_own_output_can_be_recorded(pattern: Any) -> None:
    model = network()
    layer = record(model, pattern)["(network)"]
    np.testing.assert_array_equal(layer.values, model(X).detach().numpy())
    assert layer.module == "(network)"
    assert "(network)" not in record(model, "**")


def test_paths_and_inputs_of_the_network_itself() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"a": x + 1, "b": x * 2}

    assert list(record(nn.Sequential(Pair()), ["[b]", ":input"])) == ["(network):input", "(network)[b]"]


def test_a_network_of_one_layer_is_recorded_by_any_pattern() -> None:
    layer = nn.Linear(4, 3)
    for pattern in ("*", "**", lambda name, module: True):
        assert list(record(layer, pattern)) == ["(network)"]


def test_a_module_can_be_named_by_every_name_that_it_has() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.between = nn.Linear(4, 4), nn.Tanh()
            self.last = self.other = self.first

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.between(self.first(x)))

    model = Twice()
    assert list(record(model, "**")) == ["first#0", "between", "first#1"]
    for name in ("last", "other"):
        layers = record(model, name)
        assert list(layers) == [f"{name}#0", f"{name}#1"]
        np.testing.assert_array_equal(layers[f"{name}#1"].values, model(X).detach().numpy())
    assert list(record(model, ["oth*", "between"])) == ["other#0", "between", "other#1"]


def test_a_value_that_contains_itself_is_entered_once() -> None:
    def recursive(x: Tensor) -> Any:
        state: dict[str, Any] = {"h": x, "list": [x + 1]}
        state["previous"], state["again"] = state, [state, state["list"]]
        state["list"].append(state["list"])
        return state

    model = Lambda(lambda x: inner(x)["h"], inner=(inner := Lambda(recursive)))
    assert list(record(model, "inner")) == ["inner[h]", "inner[list][0]", "inner[again][1][0]"]


def test_a_value_of_very_many_parts_is_refused() -> None:
    def many(x: Tensor) -> Any:
        value: Any = (x,)
        for _ in range(25):
            value = (value, value)
        return value

    model = Lambda(lambda x: (inner(x), x)[1], inner=(inner := Lambda(many)))
    with pytest.raises(ValueError, match="Layer 'inner' cannot be recorded: It holds more than 100,000 parts; choose"):
        record(model, "inner")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("trace", [False, True])
def test_a_scripted_part_is_left_out_with_a_warning_and_refused_by_name(trace: bool) -> None:
    part = nn.Sequential(nn.Linear(5, 5), nn.Tanh() if trace else nn.BatchNorm1d(5))
    scripted = torch.jit.trace(part, torch.randn(4, 5)) if trace else torch.jit.script(part)
    model = nn.Sequential(nn.Linear(4, 5), scripted, nn.Linear(5, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(UserWarning, match=r"torch\.jit gives no access to scripted modules: 1\.$"):
        layers = record(model, "**")
    assert list(layers) == ["0", "2"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    with pytest.raises(ValueError, match=r"Layer '1' is scripted by torch\.jit, which gives no access to its output"):
        record(model, ["0", "1"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_layers_are_recorded_with_their_outputs() -> None:
    model = torch.ao.quantization.quantize_dynamic(network().eval(), {nn.Linear})
    layers = record(model, "*")
    np.testing.assert_array_equal(layers["2"].values, model(X).detach().numpy())
    for n in (12, 60):
        stimuli = torch.randn(n, 4, generator=torch.Generator().manual_seed(n))
        np.testing.assert_array_equal(record(model, "2", stimuli)["2"].values, model(stimuli).detach().numpy())
    quantised = nn.Sequential(nn.Identity())
    layer = record(quantised, "0", forward=lambda model, x: model(torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)))
    np.testing.assert_allclose(layer["0"].values, X.clamp(0).numpy(), atol=0.051)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    import torch.distributed as distributed

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.usefixtures("one_process")
def test_a_sharded_network_is_recorded_and_stays_sharded() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    plain, model = network(), network()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    kinds = [type(parameter).__name__ for parameter in model.parameters()]
    for _ in range(2):
        layers = record(model, "*")
        np.testing.assert_allclose(layers["2"].values, plain(X).detach().numpy(), rtol=1e-6)
        assert [type(parameter).__name__ for parameter in model.parameters()] == kinds
    model(X).sum().backward()
    plain(X).sum().backward()
    gradient = model[0].weight.grad
    assert torch.allclose(gradient.full_tensor(), plain[0].weight.grad)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_an_offloaded_network_is_recorded_and_stays_offloaded() -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    plain, model = network(), network()
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    for _ in range(2):
        layers = record(model, "*")
        assert list(layers) == ["0", "1", "2"]
        np.testing.assert_allclose(layers["2"].values, plain(X).detach().numpy(), rtol=1e-6)
        assert all(parameter.is_meta for parameter in model.parameters())
    np.testing.assert_allclose(model(X).detach().numpy(), plain(X).detach().numpy(), rtol=1e-6)


# Batches


class Sized(nn.Module):
    """Notes the sizes of its batches where nothing puts them back, and takes only batches that it likes."""

    def __init__(self, sizes: list[int], likes: Any = lambda n: True, width: int = 3) -> None:
        super().__init__()
        self.inside = nn.Linear(4, width)
        self.note, self.likes = sizes.append, likes

    def forward(self, x: Tensor) -> Tensor:
        self.note(len(x))
        if not self.likes(len(x)):
            raise ArithmeticError(f"a batch of {len(x)}")
        return self.inside(x)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 513, 1025, 1537])
def test_the_last_block_has_more_than_one_stimulus(n: int) -> None:
    sizes: list[int] = []
    blocks = [len(block["inside"]) for block in Capture(Sized(sizes), "inside").blocks(torch.zeros(n, 4))]
    assert sum(blocks) == n
    assert max(sizes) <= 512
    assert min(blocks) > 1 or n == 1
    assert len(set(blocks[:-1])) <= 1


def test_a_last_block_that_fails_names_the_cause() -> None:
    model = Sized([], likes=lambda n: n != 1)
    message = (
        r"failed on the last 1 of 9 stimuli \(ArithmeticError: a batch of 1\)\. It ran on blocks of 4: give a batch_si"
    )
    with pytest.raises(ValueError, match=message):
        record(model, "inside", torch.zeros(9, 4), batch_size=4)
    assert len(record(model, "inside", torch.zeros(9, 4), batch_size=3)["inside"]) == 9


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_a_network_of_one_batch_size_is_recorded_in_batches_of_it(size: int) -> None:
    torch.manual_seed(0)
    model = Sized(sizes := [], likes=lambda n: n == size)
    inputs = torch.randn(4 * size, 4)
    layer = record(model, "inside", inputs, batch_size=size)["inside"]
    np.testing.assert_allclose(layer.values, model.inside(inputs).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert set(sizes) - {2, 3, 4} <= {size}
    if size == 8:
        assert len(record(model, "inside", inputs[:8])["inside"]) == 8


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_trial_passes_are_hardly_larger_than_the_batches_that_the_user_allows(batch_size: int) -> None:
    record(Sized(sizes := []), "inside", torch.zeros(20, 4), batch_size=batch_size)
    assert max(sizes) <= 3


class Wide(nn.Module):
    """Makes large maps on the way to a small layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 64, 3, padding=1), nn.Linear(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x).square().add(1)
        WIDE.append(h.numel() * 4)
        return self.fc(h.mean((2, 3)))


WIDE: list[int] = []


def test_the_default_batch_size_follows_from_the_memory_of_the_forward_pass() -> None:
    WIDE.clear()
    layer = record(Wide(), "fc", torch.zeros(150, 1, 64, 64))["fc"]  # 1 MiB for each stimulus and map
    assert len(layer) == 150
    assert max(WIDE) <= 2**25  # two maps are held at the same time
    assert max(WIDE) >= 2**23


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm1d(3, track_running_stats=False),
        lambda: nn.BatchNorm1d(3, track_running_stats=False, affine=False),
    ],
)
@pytest.mark.parametrize("n", [2, 3, 6])
def test_rows_that_depend_on_their_batch_cause_a_warning(make: Any, n: int) -> None:
    model = nn.Sequential(nn.Linear(4, 3), make(), nn.Linear(3, 2))
    with pytest.warns(
        UserWarning, match=r"depend on the other stimuli of its batch, and thus on batch_size, in: 1, 2\.$"
    ):
        layers = record(model, "*", X[:n])
    with torch.no_grad():
        np.testing.assert_allclose(layers["2"].values, model(X[:n]).numpy(), rtol=1e-5, atol=1e-6)


def test_random_draws_in_evaluation_mode_cause_a_warning_and_are_reproducible() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    model.forward = lambda x: nn.functional.dropout(nn.Sequential.forward(model, x), 0.5, training=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        one, two = (record(model, "(network)")["(network)"].values for _ in range(2))
    assert "draws random numbers in evaluation mode" in str(caught[0].message)
    np.testing.assert_array_equal(one, two)


# Found by people who tried


class Between(nn.Module):
    """Applies a function of the whole batch between two layers, perhaps with noise after it."""

    def __init__(self, function: Any, noise: bool = False) -> None:
        super().__init__()
        self.inside, self.out, self.function, self.noise = nn.Linear(4, 3), nn.Linear(3, 2), function, noise

    def forward(self, x: Tensor) -> Tensor:
        h = self.function(self.inside, x)
        return self.out(nn.functional.dropout(h, 0.5) if self.noise else h)


def swapped(x: Tensor) -> Tensor:
    """Exchange neighbouring stimuli."""
    return x.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)


SHUFFLES = {
    "flip": lambda layer, x: layer(x.flip(0)).flip(0),
    "roll": lambda layer, x: layer(x.roll(1, 0)).roll(-1, 0),
    "pairs": lambda layer, x: swapped(layer(swapped(x))),
    "sort": lambda layer, x: (lambda order: layer(x[order])[order.argsort()])(x.sum(1).argsort()),
}


@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize(
    ("name", "n"), [(name, n) for name in SHUFFLES for n in (3, 6, 9) if name != "pairs" or n == 6]
)
def test_rows_of_other_stimuli_are_left_out_whatever_the_order_and_the_noise(name: str, n: int, noise: bool) -> None:
    torch.manual_seed(5)
    model = Between(SHUFFLES[name], noise).train(False)
    inputs = torch.randn(n, 4)
    for batch_size in (None, 3, 2):
        if name == "pairs" and batch_size is not None and (batch_size == 3 or noise):
            continue  # batches of odd size cannot be exchanged in pairs; noise and one size leave nothing to check
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            layers = record(model, ["*", "(network)"], inputs, batch_size=batch_size)
        assert "inside" not in layers
        assert any("no axis indexes the stimuli: inside" in str(each.message) for each in caught)
        assert any("belongs to which stimulus, in: out, (network)" in str(each.message) for each in caught) is noise


def test_noise_differs_between_blocks_and_not_between_recordings() -> None:
    model = nn.Sequential(nn.Identity())
    model.forward = lambda x: x + torch.randn_like(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, two = (record(model, "", torch.zeros(6, 4), batch_size=2)["(network)"].values for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert len({row.tobytes() for row in one}) == 6


@pytest.mark.parametrize("exact", [False, True])
def test_a_batch_in_the_middle_that_mixes_its_stimuli_is_refused(exact: bool) -> None:
    inputs = torch.ones(64, 4)
    inputs[35] = 1000.0
    model = nn.Sequential(nn.Linear(4, 4), nn.Identity())
    model[1].forward = lambda h: h / max(h.abs().max().item(), 50.0)
    with pytest.raises(
        ValueError, match=r"Layer '1' was recorded for the stimuli before number 32, and now the rows differ"
    ):
        record(model, "1" if exact else "*", inputs, batch_size=8)


def test_evaluation_mode_is_the_one_that_the_network_defines() -> None:
    class MonteCarlo(nn.Sequential):
        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            self[1].train()
            return self

    model = MonteCarlo(nn.Linear(4, 50), nn.Dropout(0.5))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layers = record(model, "*")
    assert (layers["1"].values == 0).mean() > 0.3
    assert "which row belongs to which stimulus, in: 1." in str(caught[0].message)
    assert model.training


def test_layers_replaced_in_evaluation_mode_are_recorded() -> None:
    class Fusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))

        def train(self, mode: bool = True) -> Any:
            if not mode and isinstance(self.layer, nn.Sequential):
                first, second = self.layer
                self.layer = nn.Linear(4, 3)
                with torch.no_grad():
                    self.layer.weight.copy_(second.weight @ first.weight)
                    self.layer.bias.copy_(second.bias + second.weight @ first.bias)
            return super().train(mode)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x)

    model = Fusing()
    expected = model(X).detach().numpy()
    np.testing.assert_allclose(record(model, "layer")["layer"].values, expected, rtol=1e-4, atol=1e-6)
    assert isinstance(model.layer, nn.Sequential)


def test_patterns_skip_empty_and_sparse_tensors_with_a_warning() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 3), nn.Identity(), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            self.b(x[:, :0])
            self.c(x.to_sparse())
            return self.a(x)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert list(record(Odd(), "*")) == ["a"]
    said = " ".join(str(each.message) for each in caught)
    assert "there are no values: b (6, 0)" in said
    assert "the layout is torch.sparse_coo and not dense: c (6, 4)" in said


def test_one_reduction_for_all_is_for_the_networks_own_output_too() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1))
    layers = record(model, ["0", ""], torch.zeros(4, 1, 5, 5), reduce=lambda values: values.mean((2, 3)))
    assert [layer.feature_shape for layer in layers.values()] == [(2,), (3,)]


@pytest.mark.parametrize("kind", ["torch", "numpy", "legacy", "python"])
def test_noise_of_a_generator_of_the_networks_own_is_one_draw(kind: str) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.plain, self.noisy = nn.Linear(4, 3), nn.Linear(4, 3)
            self.generator: Any = {
                "torch": torch.Generator().manual_seed(1),
                "numpy": np.random.default_rng(1),
                "legacy": np.random.RandomState(1),
                "python": random.Random(1),
            }[kind]

        def forward(self, x: Tensor) -> Tensor:
            if kind == "torch":
                noise = torch.randn(x.shape, generator=self.generator)
            elif kind == "python":
                noise = torch.tensor([[self.generator.random() for _ in row] for row in x])
            else:
                noise = torch.as_tensor(self.generator.standard_normal(x.shape), dtype=torch.float32)
            return self.plain(x) + self.noisy(x + noise)

    model = Noisy()
    with pytest.warns(UserWarning, match=r"belongs to which stimulus, in: noisy\.$"):
        layers = record(model, "*")
    np.testing.assert_array_equal(layers["plain"].values, model.plain(X).detach().numpy())
    assert len(layers["noisy"]) == 6


def test_a_call_that_fails_and_is_caught_is_counted_as_a_call() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            with suppress(RuntimeError):
                self.layer(x[:, :2])
            return self.layer(x) + self.layer(2 * x)

    model = Careful()
    layers = record(model, "layer")
    assert list(layers) == ["layer#1", "layer#2"]
    np.testing.assert_array_equal(layers["layer#2"].values, model.layer(2 * X).detach().numpy())
