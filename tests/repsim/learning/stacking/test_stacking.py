import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn

from repsim.learning import residual_net, stack, unstack
from repsim.learning.draws import Draws
from repsim.learning.estimators.class_vectors import ClassVectors
from repsim.learning.stacking.stacked_layers import (
    BATCHED,
    Merged,
    StackedBatchNorm,
    StackedConv2d,
    StackedGroupNorm,
    StackedLayerNorm,
    StackedLinear,
    Vmapped,
)

R, N = 3, 7
ELEMENTWISE = [nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid]


class Centered(nn.Module):
    """A module that `stack` does not know, with a parameter, and a buffer that it changes in training."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))
        self.register_buffer("offset", torch.zeros(6))

    def forward(self, X: Tensor) -> Tensor:
        if self.training:
            self.offset += 0.1 * X.detach().mean(dim=0)
        return self.scale * (X - self.offset)


class Around(nn.Module):
    """A module that `stack` does not know, around ones that it does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6))

    def forward(self, X: Tensor) -> Tensor:
        return X + self.inner(X).tanh()


VECTOR, MAP = (6,), (4, 6, 5)
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], type[nn.Module]]] = {
    "linear": (lambda: nn.Linear(6, 5), VECTOR, StackedLinear),
    "linear without bias": (lambda: nn.Linear(6, 5, bias=False), VECTOR, StackedLinear),
    "linear, last of three axes": (lambda: nn.Linear(6, 5), (2, 6), StackedLinear),
    "batch norm": (lambda: nn.BatchNorm1d(6), VECTOR, StackedBatchNorm),
    "batch norm with settings": (lambda: nn.BatchNorm1d(6, momentum=0.3, eps=0.1), VECTOR, StackedBatchNorm),
    "batch norm of sequences": (lambda: nn.BatchNorm1d(4), (4, 6), StackedBatchNorm),
    "batch norm without scale": (lambda: nn.BatchNorm1d(6, affine=False), VECTOR, Vmapped),
    "batch norm of maps": (lambda: nn.BatchNorm2d(4), MAP, StackedBatchNorm),
    "conv": (lambda: nn.Conv2d(4, 6, 3, padding=1), MAP, StackedConv2d),
    "conv without bias": (lambda: nn.Conv2d(4, 6, 3, bias=False), MAP, StackedConv2d),
    "strided conv": (lambda: nn.Conv2d(4, 6, (3, 2), stride=2, padding=(2, 1)), MAP, StackedConv2d),
    "grouped, dilated conv": (lambda: nn.Conv2d(4, 6, 2, dilation=2, groups=2), MAP, StackedConv2d),
    "conv that reflects": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), MAP, Vmapped),
    "layer norm": (lambda: nn.LayerNorm(6), VECTOR, StackedLayerNorm),
    "layer norm without bias": (lambda: nn.LayerNorm(6, bias=False), VECTOR, StackedLayerNorm),
    "layer norm of two axes": (lambda: nn.LayerNorm((6, 5)), MAP, StackedLayerNorm),
    "layer norm without scale": (lambda: nn.LayerNorm(6, elementwise_affine=False), VECTOR, Vmapped),
    "group norm": (lambda: nn.GroupNorm(2, 6), VECTOR, StackedGroupNorm),
    "group norm of maps": (lambda: nn.GroupNorm(2, 4, eps=0.1), MAP, StackedGroupNorm),
    "group norm without scale": (lambda: nn.GroupNorm(2, 4, affine=False), MAP, Vmapped),
    **{kind.__name__: (kind, VECTOR, kind) for kind in ELEMENTWISE},
    "unflatten from the end": (lambda: nn.Unflatten(-1, (2, 3)), VECTOR, nn.Unflatten),
    "unflatten from the start": (lambda: nn.Unflatten(1, (2, 3)), VECTOR, Vmapped),
    "flatten": (nn.Flatten, MAP, Vmapped),
    "max pool": (lambda: nn.MaxPool2d(2), MAP, Merged),
    "mean pool": (lambda: nn.AvgPool2d(2), MAP, Merged),
    "adaptive mean pool": (lambda: nn.AdaptiveAvgPool2d((2, 2)), MAP, Merged),
    "adaptive max pool": (lambda: nn.AdaptiveMaxPool2d(2), MAP, Merged),
    "sequential": (lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh()), VECTOR, nn.Sequential),
    "own module": (Centered, VECTOR, Vmapped),
    "own module around others": (Around, VECTOR, Vmapped),
    "residual net": (
        lambda: residual_net((4, 8, 8), 3, depth=2, width=4, generator=Generator()),
        (4 * 8 * 8,),
        nn.Module,
    ),
}


@pytest.fixture(params=MODULES)
def case(request: pytest.FixtureRequest) -> tuple[list[nn.Module], Tensor, type[nn.Module]]:
    make, shape, kind = MODULES[request.param]
    generator = Generator().manual_seed(0)
    return several(make, generator), normal(generator, R, N, *shape), kind


def normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def several(make: Callable[[], Any], generator: Generator, n: int = R) -> list[Any]:
    """Return modules whose parameters and buffers all differ."""
    modules = [make().double() for _ in range(n)]
    for tensor in (t for module in modules for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()):
        tensor.data.uniform_(0.5, 1.5, generator=generator).mul_(torch.randn((), generator=generator).sign())
    for module in modules:
        for name, buffer in module.named_buffers():
            if "var" in name:
                buffer.abs_()
    return modules


def run(module: nn.Module, X: Tensor, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the output for X, and the gradient there of its product with a direction."""
    X = X.clone().requires_grad_()
    output = module(X)
    (output * (torch.ones_like(output).cumsum(-1) if direction is None else direction)).sum().backward()
    assert X.grad is not None
    return output.detach(), X.grad


def assert_same(ours: Tensor, theirs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-12, atol=1e-12)


def assert_same_module(together: nn.Module, alone: list[nn.Module]) -> None:
    for name, values in together.state_dict().items():
        assert_same(values, [module.state_dict()[name] for module in alone])
    for name, parameter in together.named_parameters():
        gradients = [dict(module.named_parameters())[name].grad for module in alone]
        assert parameter.grad is not None
        assert_same(parameter.grad, [g for g in gradients if g is not None])


def test_every_batched_form_has_a_case():
    of_layers = {kind for kind in BATCHED if kind.__module__.startswith("torch")}
    assert {type(make()) for make, _, _ in MODULES.values()} >= of_layers


@pytest.mark.parametrize("training", [True, False])
def test_a_stack_does_what_each_module_does(case: Any, training: bool):
    alone, X, kind = case
    together = stack([module.train(training) for module in alone])
    assert isinstance(together, kind)
    for batch in (X, X.flip(1) * 1.5):  # two, so that running statistics move twice
        own = [run(module, own) for module, own in zip(alone, batch, strict=True)]
        output, to_X = run(together, batch)
        assert_same(output, [output for output, _ in own])
        assert_same(to_X, [gradient for _, gradient in own])
    assert_same_module(together, alone)


def test_a_stack_of_stacks_does_what_each_module_does(case: Any):
    modules, X, _ = case
    alone = [copy.deepcopy(module) for module in (*modules, *reversed(modules))]
    X = torch.stack([X, X.flip(1)])
    together = stack([stack(alone[:R]), stack(alone[R:])])
    own = [run(module, own) for module, own in zip(alone, X.flatten(0, 1), strict=True)]
    output, to_X = run(together, X)
    assert_same(output.flatten(0, 1), [output for output, _ in own])
    assert_same(to_X.flatten(0, 1), [gradient for _, gradient in own])
    for name, values in together.state_dict().items():
        assert_same(values.flatten(0, 1), [module.state_dict()[name] for module in alone])
    for name, parameter in together.named_parameters():
        gradients: list[Any] = [dict(module.named_parameters())[name].grad for module in alone]
        assert parameter.grad is not None
        assert_same(parameter.grad.flatten(0, 1), gradients)


def test_unstack_undoes_stack(case: Any):
    modules, _, _ = case
    state = stack(modules).state_dict()
    for i, module in enumerate(modules):
        fresh = copy.deepcopy(modules[(i + 1) % R])
        fresh.load_state_dict(unstack(state, i))
        for name, values in module.state_dict().items():
            assert torch.equal(fresh.state_dict()[name], values)


def test_a_stack_is_a_copy(case: Any):
    modules, X, _ = case
    before = [copy.deepcopy(module.state_dict()) for module in modules]
    together = stack(modules)
    run(together, X)
    with torch.no_grad():
        for parameter in together.parameters():
            parameter.add_(1)
    for module, state in zip(modules, before, strict=True):
        assert all(torch.equal(module.state_dict()[name], values) for name, values in state.items())
        assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_each_part_is_kept(training: bool):
    def make() -> nn.Module:
        module = nn.Sequential(Around(), Around())
        module[1].inner[1].eval()
        return module.double() if training else module.double().eval()

    together, X = stack([make() for _ in range(R)]), normal(Generator().manual_seed(0), R, N, 6)
    alone = [make() for _ in range(R)]
    for module, state in zip(alone, range(R), strict=True):
        module.load_state_dict(unstack(together.state_dict(), state))
    together(X)
    for module, own in zip(alone, X, strict=True):
        module(own)
    for name, values in together.state_dict().items():
        assert_same(values, [module.state_dict()[name] for module in alone])


def test_frozen_parameters_stay_frozen():
    layers = [nn.Linear(2, 2) for _ in range(R)]
    for layer in layers:
        layer.bias.requires_grad_(False)
    together = stack(layers)
    assert together.weight.requires_grad
    assert not together.bias.requires_grad


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(6, 6), nn.ReLU, lambda: nn.Sequential(nn.Linear(6, 6)), Around, lambda: nn.MaxPool2d(1)]
)
def test_a_stack_has_no_hooks(make: Callable[[], nn.Module]):
    called = []
    modules = [make() for _ in range(R)]
    for part in (part for module in modules for part in module.modules()):
        part.register_forward_hook(lambda *_: called.append(1))
    stack(modules)(torch.ones(R, N, 6, 6, 6) if isinstance(modules[0], nn.MaxPool2d) else torch.ones(R, N, 6))
    assert not called


@pytest.mark.parametrize("labels", ["classes", "the same classes for all", "targets"])
def test_stacked_class_vectors_add_what_each_adds(labels: str):
    generator = Generator().manual_seed(0)
    alone = several(lambda: ClassVectors(4, (2, 3)), generator)
    y = {
        "classes": torch.randint(4, (R, N), generator=generator),
        "the same classes for all": torch.randint(4, (1, N), generator=generator),
        "targets": normal(generator, R, N, 4),
    }[labels]
    together = stack(alone)
    direction = normal(generator, R, N, 2, 3)
    output = together(y)
    expected = [module(own) for module, own in zip(alone, y.expand(R, *y.shape[1:]), strict=True)]
    (output * direction).sum().backward()
    (torch.stack(expected) * direction).sum().backward()
    assert_same(output, expected)
    assert_same_module(together, alone)


def test_stacked_draws_draw_what_each_would_have_drawn():
    alone, zeros = [Draws(seed, 1) for seed in range(R)], torch.zeros(R, N, dtype=torch.float64)
    together: Any = stack(alone)
    for _ in range(2):
        assert torch.equal(together.normal_like(zeros), torch.stack([d.normal_like(zeros[0]) for d in alone]))
    assert together.count.tolist() == [2] * R


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (nn.Linear(3, 2), nn.Linear(2, 2), "The modules differ at 'in_features': 3 and 2"),
        (
            nn.Linear(2, 2),
            nn.Linear(2, 2, bias=False),
            r"The modules differ at 'bias': \(2,\) of torch.float32 and nothing",
        ),
        (
            nn.Linear(2, 2),
            nn.Linear(2, 2).double(),
            r"The modules differ at 'weight': \(2, 2\) of torch.float32 and \(2, 2\) of",
        ),
        (nn.ParameterList([torch.ones(2)]), nn.ParameterList([torch.ones(3)]), r"at '0': \(2,\) of .* and \(3,\) of"),
        (nn.ReLU(), nn.Tanh(), "The modules differ: a ReLU and a Tanh"),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.Tanh()), "The modules differ at '0': a ReLU and a Tanh"),
        (nn.BatchNorm1d(2, momentum=0.2), nn.BatchNorm1d(2), "The modules differ at 'momentum': 0.2 and 0.1"),
        (nn.Sequential(), nn.Sequential(nn.ReLU()), "The modules differ at '0': nothing and a ReLU"),
        (
            nn.Sequential(nn.ReLU()),
            nn.Sequential(nn.ReLU().eval()),
            "The modules differ at '0.training': True and False",
        ),
    ],
)
def test_modules_that_differ_in_more_than_values_cannot_be_stacked(one: nn.Module, other: nn.Module, told: str):
    with pytest.raises(ValueError, match=f"{told}.* Only modules of the same type"):
        stack([one, one, other])


def test_an_empty_stack_is_refused():
    with pytest.raises(ValueError, match="There are no modules to stack; expected one or more"):
        stack([])


def test_shared_parameters_cannot_be_stacked():
    def tied() -> Iterator[nn.Module]:
        while True:
            layer = nn.Linear(2, 2)
            yield nn.Sequential(layer, nn.ReLU(), layer)

    with pytest.raises(ValueError, match=r"Parameter '2\.weight' is used in two places; modules that share parameters"):
        stack([next(tied()), next(tied())])
