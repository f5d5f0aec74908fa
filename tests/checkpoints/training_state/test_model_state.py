"""Weights of every make of network: saved with their values, or refused by name."""

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor, nn

from checkpoints import Capture, Run, Stimuli, read_weights
from checkpoints.training_state.model_state import load_weights


@pytest.fixture
def run(folder: Path) -> Iterator[Run]:
    inputs = np.random.default_rng(0).normal(size=(6, 4))
    with Run.create(folder / "run", {}, Stimuli.of(range(6), [0, 1] * 3, ["test"] * 6, inputs)) as run:
        yield run


def saved(run: Run, model: nn.Module) -> dict[str, Any]:
    """Return the weights of a new step, as another process reads them."""
    step = len(run.steps)
    run.checkpoint(step, model)
    assert step in run.verify()
    return Run.open(run.path)[step].weights()


def bits(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8))


def assert_bits(given: dict[str, Any], expected: dict[str, Tensor]) -> None:
    assert sorted(given) == sorted(expected)
    for name, value in expected.items():
        assert (given[name].dtype, given[name].shape) == (value.dtype, value.shape), name
        assert bits(given[name]) == bits(value), name


# Types


class Held(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.register_buffer("value", value)


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([float("nan"), -0.0, float("inf"), 1e-45]),
        torch.tensor([1 + 2j, 3 - 1j]),
        torch.tensor([[1 + 2j], [3 - 1j]], dtype=torch.complex128),
        torch.tensor([1 + 2j, 3 - 1j], dtype=torch.complex128).conj(),
        torch.arange(4.0).to(torch.float8_e4m3fn),
        torch.arange(4).to(torch.uint16),
        torch.tensor(True),
        torch.zeros(0, 3, dtype=torch.complex128),
        torch.arange(12.0).reshape(3, 4).T,
        torch.arange(12.0)[::3],
        torch.arange(3.0).expand(4, 3),
    ],
    ids=lambda value: f"{value.dtype}{tuple(value.shape)}",
)
def test_tensors_of_every_type_come_back_to_the_bit(run: Run, value: Tensor) -> None:
    assert_bits(saved(run, Held(value)), {"value": value})
    model = Held(torch.zeros_like(value).contiguous())
    run[0].restore(model)
    assert bits(model.value) == bits(value)


@pytest.mark.parametrize("extra", [{"amax": [1.0, float("inf")], 3: (b"x", None)}, [], "text", torch.arange(3)])
def test_extra_state_is_saved_and_restored(run: Run, extra: Any) -> None:
    class Extra(nn.Linear):
        held: Any = None

        def get_extra_state(self) -> Any:
            return self.held

        def set_extra_state(self, state: Any) -> None:
            self.held = state

    model, other = nn.Sequential(Extra(2, 2)), nn.Sequential(Extra(2, 2))
    model[0].held = extra
    run.checkpoint(0, model)
    run[0].restore(other)
    assert type(other[0].held) is type(extra)
    assert str(other[0].held) == str(extra)
    assert torch.equal(other[0].weight, model[0].weight)
    assert torch.equal(safetensors.torch.load_file(run[0].path / "weights.safetensors")["0.weight"], model[0].weight)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.eye(3).to_sparse(), "stored as sparse_coo; only dense tensors can be stored"),
        (torch.zeros(2, device="meta"), "on the meta device and no hook of accelerate holds its values"),
    ],
)
def test_an_entry_without_storable_values_is_named_and_activations_are_offered(
    run: Run, value: Any, reason: str
) -> None:
    model = nn.Sequential(Held(value))
    message = rf"^The model's weights cannot be saved: '0\.value' is {reason}.*; give weights=None to record"
    with pytest.raises(TypeError, match=message):
        run.checkpoint(0, model)
    assert run.steps == []


def test_a_lazy_network_that_has_not_run_is_refused(run: Run) -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    with pytest.raises(TypeError, match=r"'0\.weight' is not initialized; run the model on one batch first"):
        run.checkpoint(0, model)
    model(torch.zeros(2, 4))
    assert_bits(saved(run, model), dict(model.state_dict()))


def test_a_tensor_that_computes_its_values_in_its_own_way_is_refused(run: Run) -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    model = Held(TwoTensor(torch.zeros(2), torch.ones(2)))
    with pytest.raises(TypeError, match="'value' is a TwoTensor, a tensor that computes its values in its own way"):
        run.checkpoint(0, model)


# Quantized


@pytest.fixture
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def quantized(seed: int, dtype: torch.dtype = torch.qint8) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=dtype)


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("dtype", [torch.qint8, torch.float16])
def test_a_dynamically_quantized_network_is_saved_and_restored(run: Run, dtype: torch.dtype) -> None:
    model, other = quantized(0, dtype), quantized(1, dtype)
    run.checkpoint(0, model, capture=Capture(model, "*"))
    Run.open(run.path)[0].restore(other)
    x = torch.randn(7, 4)
    assert torch.equal(other(x), model(x))
    assert run.verify() == [0]
    third = quantized(2, dtype)
    load_weights(third, read_weights(run[0].path / "weights.safetensors"))
    assert torch.equal(third(x), model(x))


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32])
def test_quantized_tensors_come_back_with_their_scales(run: Run, axis: int | None, dtype: torch.dtype) -> None:
    values = torch.randn(3, 2, 2)
    if axis is None:
        value = torch.quantize_per_tensor(values, 0.1, 3, dtype)
    else:
        scales = torch.linspace(0.1, 0.2, values.shape[axis], dtype=torch.float64)
        value = torch.quantize_per_channel(values, scales, torch.arange(len(scales)), axis, dtype)
    read = saved(run, Held(value))["value"]
    assert (read.dtype, read.qscheme()) == (value.dtype, value.qscheme())
    assert torch.equal(read.int_repr(), value.int_repr())
    assert torch.equal(read.dequantize(), value.dequantize())


@pytest.mark.usefixtures("no_warnings")
def test_packed_parameters_that_only_torch_can_read_are_refused(run: Run) -> None:
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.LSTM(4, 3)), {nn.LSTM})
    message = (
        r"cannot be saved: 0\._all_weight_values\.0\.param is of type torch\.ScriptObject, which cannot be stored "
        "exactly; give weights=None to record activations alone"
    )
    with pytest.raises(TypeError, match=message):
        run.checkpoint(0, model)


# Offloaded


def offloaded(kind: str, folder: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    accelerate = pytest.importorskip("accelerate")
    model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Sequential(nn.Linear(5, 3, dtype=torch.float32)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    device = torch.device("cpu")
    if kind == "disk":
        accelerate.disk_offload(model, folder / "offload", execution_device=device)
    else:
        accelerate.cpu_offload(model, execution_device=device, offload_buffers=kind == "cpu with buffers")
    return model, state


@pytest.mark.parametrize("kind", ["cpu", "cpu with buffers", "disk"])
@pytest.mark.parametrize("ran", [False, True])
def test_offloaded_weights_are_saved_with_their_values(run: Run, folder: Path, kind: str, ran: bool) -> None:
    model, state = offloaded(kind, folder)
    model.eval()
    if ran:
        model(torch.zeros(2, 4))
    assert model[0].weight.is_meta
    assert_bits(saved(run, model), state)
    plain = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Sequential(nn.Linear(5, 3)))
    run[0].restore(plain)
    assert torch.equal(plain[2][0].weight, state["2.0.weight"])


def test_a_value_of_another_shape_is_not_taken_for_the_offloaded_one(run: Run, folder: Path) -> None:
    model, _ = offloaded("cpu", folder)
    model[0]._hf_hook.weights_map.dataset["0.weight"] = torch.zeros(1)
    with pytest.raises(TypeError, match=r"'0\.weight' is on the meta device and no hook of accelerate holds its"):
        run.checkpoint(0, model)


def test_nothing_is_restored_into_an_offloaded_network(run: Run, folder: Path) -> None:
    model, _ = offloaded("cpu", folder)
    run.checkpoint(0, model)
    with pytest.raises(RuntimeError, match=r"'0\.weight' of the model is on the meta device, which holds no values"):
        run[0].restore(model)


# Sharded


@pytest.fixture
def processes() -> Iterator[Callable[[int], Any]]:
    """Make this process one of so many, of which the others only seem to be there, and return the mesh of all."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def start(n: int) -> Any:
        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=n)
        return init_device_mesh("cpu", (n,))

    yield start
    dist.destroy_process_group()


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("ran", [False, True])
def test_a_network_that_is_sharded_over_one_process_is_saved_whole_and_restored(
    run: Run, processes: Callable[[int], Any], ran: bool
) -> None:
    from torch.distributed.fsdp import fully_shard

    model, plain = (nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(2))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    fully_shard(model[2], mesh=(mesh := processes(1)))
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.Adam(model.parameters())
    if ran:
        model(torch.zeros(2, 4)).sum().backward()
        optimizer.step()
        state = {name: value.full_tensor() for name, value in model.state_dict().items()}
    run.checkpoint(0, model, optimizer)
    assert_bits(run[0].weights(), state)
    run[0].restore(plain)
    with torch.no_grad():
        model[0].weight.zero_()
    run[0].restore(model, optimizer)
    assert torch.equal(model[0].weight.full_tensor(), plain[0].weight)
    assert all(type(state["exp_avg"]) is type(model[0].weight) for state in optimizer.state.values())
    model(torch.zeros(2, 4)).sum().backward()
    optimizer.step()


@pytest.mark.usefixtures("no_warnings")
def test_a_network_that_is_sharded_over_several_processes_is_refused_without_waiting_for_them(
    run: Run, processes: Callable[[int], Any]
) -> None:
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = processes(2)
    model = nn.Sequential(nn.Linear(4, 6))
    bias = nn.Parameter(distribute_tensor(model[0].bias.data, mesh, [Replicate()], src_data_rank=None))
    model[0].register_parameter("bias", bias)
    assert_bits(saved(run, model), {"0.weight": model[0].weight, "0.bias": bias.to_local()})  # whole in each process
    weight = distribute_tensor(model[0].weight.data, mesh, [Shard(0)], src_data_rank=None)
    model[0].register_parameter("weight", nn.Parameter(weight))
    message = (
        r"'0\.weight' is sharded over 2 processes; gather it in all of them .*get_model_state_dict.*full_state_dict"
        ".*; give weights=None to record activations alone"
    )
    with pytest.raises(TypeError, match=message):
        run.checkpoint(1, model)
    optimizer = torch.optim.SGD([model[0].weight], momentum=0.5)
    optimizer.state[model[0].weight]["momentum_buffer"] = weight
    with pytest.raises(TypeError, match=r"state\[0\]\['momentum_buffer'\] is sharded over 2 processes.*optimizer=None"):
        run.checkpoint(1, nn.Identity(), optimizer)


def test_a_wrapper_whose_state_dict_would_wait_for_other_processes_is_not_asked_for_it(run: Run) -> None:
    class FullyShardedDataParallel(nn.Sequential):
        """As that of torch looks, which needs a GPU."""

        process_group = dist.ProcessGroup(0, 2)

        def state_dict(self, *_: Any, **__: Any) -> Any:
            pytest.fail("the other process would be waited for")

    for model, part in (
        (FullyShardedDataParallel(nn.Linear(2, 2)), "model itself"),
        (nn.Sequential(FullyShardedDataParallel(nn.Linear(2, 2))), "part '0'"),
    ):
        with pytest.raises(TypeError, match=f"the {part} is sharded over 2 processes; gather it in all of them"):
            run.checkpoint(0, model)


def test_partitioned_parameters_are_not_saved_empty(run: Run) -> None:
    model = nn.Sequential(nn.Linear(4, 5))
    model[0].weight.data = torch.zeros(0)
    model[0].weight.ds_numel = 20
    with pytest.raises(TypeError, match=r"'0\.weight' is partitioned over several processes; gather it in all of them"):
        run.checkpoint(0, model)


# Tied


class Tied(nn.Module):
    def __init__(self, tie: str = "parameter") -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        if tie == "parameter":
            self.head.weight = self.embed.weight
        elif tie == "memory":
            self.head.weight = nn.Parameter(self.embed.weight.data)
        elif tie == "view":
            self.head = nn.Linear(4, 2, bias=False)
            self.head.weight = nn.Parameter(self.embed.weight.data[1:3])


@pytest.mark.parametrize("tie", ["parameter", "memory", "view", "none"])
def test_tied_weights_are_restored_and_stay_tied(run: Run, tie: str) -> None:
    model, other = Tied(tie), Tied(tie)
    assert_bits(saved(run, model), dict(model.state_dict()))
    run[0].restore(other)
    assert_bits(dict(other.state_dict()), dict(model.state_dict()))
    with torch.no_grad():
        other.embed.weight.fill_(3)
    assert bool((other.head.weight == 3).all()) == (tie != "none")


@pytest.mark.parametrize("tie", ["parameter", "memory", "view"])
def test_a_file_with_one_name_of_each_tied_group_is_loaded(folder: Path, tie: str) -> None:
    model, other = Tied(tie), Tied(tie)
    safetensors.torch.save_model(model, str(folder / "w.safetensors"))
    weights = read_weights(folder / "w.safetensors")
    assert len(weights) == 1
    load_weights(other, weights)
    assert_bits(dict(other.state_dict()), dict(model.state_dict()))


@pytest.mark.parametrize(
    ("tie", "names", "message"),
    [
        ("none", ["embed.weight"], r"of another model\. Missing: 'head\.weight'\.$"),
        ("view", ["head.weight"], r"of another model\. Missing: 'embed\.weight'\.$"),
        ("parameter", [], r"Missing: 'embed\.weight', 'head\.weight'\.$"),
        ("parameter", ["embed.weight", "tail"], r"of another model\. Unexpected: 'tail'\.$"),
        ("none", ["embed.weight", "tail"], r"Missing: 'head\.weight'\. Unexpected: 'tail'\.$"),
    ],
)
def test_a_file_that_lacks_a_weight_is_refused(tie: str, names: list[str], message: str) -> None:
    model = Tied(tie)
    state = {**model.state_dict(), "tail": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=message):
        load_weights(Tied(tie), {name: state[name] for name in names})


def test_of_many_names_some_are_listed() -> None:
    with pytest.raises(RuntimeError, match=r"Missing: '0\.weight', .*'2\.weight' and 3 more\.$"):
        load_weights(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))), {})


def test_different_values_for_tied_weights_are_refused() -> None:
    untied = Tied("none")
    for tie in ("parameter", "memory"):
        with pytest.raises(
            RuntimeError, match=r"'embed\.weight', 'head\.weight' different values, but in the model they"
        ):
            load_weights(Tied(tie), untied.state_dict())
    halves = {name: value.half() for name, value in Tied().state_dict().items()}
    load_weights(Tied(), halves)  # of another type, but alike


def test_weights_that_are_renormalized_in_a_forward_pass_are_those_that_were_recorded(run: Run) -> None:
    stimuli = Stimuli.of(range(4), [0, 1] * 2, ["test"] * 4, np.arange(4))
    with Run.create(run.path.parent / "other", {}, stimuli) as other:
        model = nn.Sequential(nn.Embedding(4, 3, max_norm=0.5), nn.Linear(3, 2))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        other.checkpoint(0, model, capture=Capture(model, "*"))
        assert_bits(other[0].weights(), before)
        assert_bits(dict(model.state_dict()), before)
        other.checkpoint(1, model, capture=Capture(model, "*"))
        assert_bits(other[1].weights(), before)
        np.testing.assert_array_equal(other[1]["1"][:], other[0]["1"][:])
        fresh = nn.Sequential(nn.Embedding(4, 3, max_norm=0.5), nn.Linear(3, 2))
        other[0].restore(fresh)
        expected = fresh(torch.from_numpy(stimuli.inputs)).detach()  # type: ignore[arg-type]
        np.testing.assert_allclose(other[0]["1"][:], expected, rtol=1e-5)


def test_reading_a_run_imports_no_torch(run: Run) -> None:
    model = nn.Linear(4, 2)
    run.checkpoint(0, model, capture=Capture(model, "**"), weights=None)
    code = (
        "import sys; from checkpoints import Run; run = Run.open(sys.argv[1]); run.verify(); run.last().activations; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True)
