"""Modules of equal shape as one: parameters gain a first axis, and one batched product serves all.

``stack`` is how several seeds are trained at once (the first axis is the replica), and how estimators at several
boundaries are evaluated at once (the first axis is the boundary). Modules that are only arrangements of others are
copied and their parts stacked; the usual layers have a batched form here; any other module is mapped over by
``torch.vmap``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from repsim.learning.draws import Draws

__all__ = ["stack", "unstack"]


def stack(modules: Sequence[nn.Module]) -> nn.Module:
    """Return one module that does for inputs (n, *shape) what each of n modules does for its own input.

    Parameters
    ----------
    modules : sequence of nn.Module
        Of one structure, one set of shapes and one set of settings. They are copied; hooks are left behind. What draws
        from the global generator (dropout) draws for all at once, so not what each would have drawn.

    Returns
    -------
    nn.Module
        Its ``state_dict`` has the keys of one of them, with values stacked along a new first axis. ``unstack`` undoes
        it.

    Raises
    ------
    ValueError
        If there is nothing to stack, the modules differ in more than values, or a parameter is used in two places.

    Examples
    --------
    >>> import torch
    >>> both = stack([torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)])
    >>> both(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 2])
    """
    if not modules:
        raise ValueError("There are no modules to stack; expected one or more.")
    first, *others = [_describe(module) for module in modules]
    for other in others:
        _check_alike(first, other)
    shared = _shared_parameter(modules[0])
    if shared:
        raise ValueError(
            f"Parameter '{shared}' is used in two places; modules that share parameters cannot be stacked."
        )
    return _stack(modules)


def unstack(state: dict[str, Tensor], index: int) -> dict[str, Tensor]:
    """Return the ``state_dict`` of one of the modules, given that of their stack; values are views."""
    return {name: value[index] for name, value in state.items()}


def _describe(module: nn.Module) -> dict[str, Any]:
    """Return all that modules must have in common to be stacked, by name."""
    found: dict[str, Any] = {}
    for name, part in module.named_modules():
        found[name] = f"a {type(part).__name__}"
        found |= {f"{name}.{setting}".lstrip("."): value for setting, value in _settings(part).items()}
    return found | {name: f"{tuple(t.shape)} of {t.dtype}" for name, t in module.state_dict().items()}


def _settings(module: nn.Module) -> dict[str, Any]:
    """Return the plain public attributes of a module: stride, momentum, options of a rule."""
    plain = (bool, int, float, str, tuple, frozenset)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and (isinstance(value, plain) or name == "options")
    }


def _check_alike(first: dict[str, Any], other: dict[str, Any]) -> None:
    for name in first | other:
        if first.get(name) != other.get(name):
            where = f" at '{name}'" if name else ""
            raise ValueError(
                "Only modules of one type and of equal shapes and settings can be stacked; "
                f"these differ{where}: {first.get(name, 'nothing')} and {other.get(name, 'nothing')}."
            )


def _shared_parameter(module: nn.Module) -> str | None:
    once = {name for name, _ in module.named_parameters()}
    return next((name for name, _ in module.named_parameters(remove_duplicate=False) if name not in once), None)


def _stack(modules: Sequence[nn.Module]) -> nn.Module:
    stacked = _stacked(modules)
    stacked.training = modules[0].training
    return stacked


def _stacked(modules: Sequence[nn.Module]) -> nn.Module:
    first = modules[0]
    kind = type(first)
    if isinstance(first, _CONTAINERS) or getattr(first, "stacks_by_parts", False):
        return _stack_parts(modules)
    if kind in _CONDITIONS and not _CONDITIONS[kind](first):
        return Vmapped(modules)
    if kind in BATCHED:
        return BATCHED[kind](modules)
    if kind in _ELEMENTWISE:
        return _copy(first)
    return Merged(first) if kind in _EXAMPLEWISE else Vmapped(modules)


def _stack_parts(modules: Sequence[nn.Module]) -> nn.Module:
    stacked = _without_hooks(copy.copy(modules[0]))
    stacked._parameters = _stacked_parameters(modules)
    stacked._buffers = _stacked_buffers(modules)
    stacked._modules = {
        name: None if part is None else _stack([module.get_submodule(name) for module in modules])
        for name, part in modules[0]._modules.items()
    }
    return stacked


def _copy(module: nn.Module) -> nn.Module:
    copied = copy.deepcopy(module)
    for part in copied.modules():
        _without_hooks(part)
    return copied


def _without_hooks(module: nn.Module) -> nn.Module:
    vars(module).update({name: value for name, value in vars(nn.Module()).items() if "hook" in name})
    return module


def _stacked_parameters(modules: Sequence[nn.Module]) -> dict[str, nn.Parameter | None]:
    """Return the parameters that modules hold themselves, as those of a stack."""
    return {
        name: None if p is None else _stack_parameters([module._parameters[name] for module in modules])
        for name, p in modules[0]._parameters.items()
    }


def _stacked_buffers(modules: Sequence[nn.Module]) -> dict[str, Tensor | None]:
    return {
        name: None if b is None else torch.stack([module.get_buffer(name) for module in modules])
        for name, b in modules[0]._buffers.items()
    }


def _stack_parameters(parameters: Sequence[Any]) -> nn.Parameter:
    values = torch.stack([parameter.detach() for parameter in parameters])
    return nn.Parameter(values, requires_grad=parameters[0].requires_grad)


class StackedLinear(nn.Module):
    """Linear maps as one batched product: weight (*lead, n_out, n_in), X (*lead, N, ..., n_in)."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self._parameters = _stacked_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return X Wᵀ + b, shape (*lead, N, ..., n_out); in memory examples are the last axis."""
        n_lead = self.weight.ndim - 2
        Xt = X.flatten(n_lead, -2).flatten(0, n_lead - 1).mT
        weight = self.weight.flatten(0, n_lead - 1)
        if self.bias is None:
            product = torch.bmm(weight, Xt)
        else:
            product = torch.baddbmm(self.bias.view(-1, self.bias.shape[-1], 1), weight, Xt)
        return product.mT.view(*X.shape[:-1], product.shape[1])


class StackedBatchNorm(nn.Module):
    """Batch norms as one over the channels of all: X (*lead, N, channels) or, for maps, (*lead, N, channels, *size)."""

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.momentum, self.eps = layers[0].momentum, layers[0].eps
        self._parameters, self._buffers = _stacked_parameters(layers), _stacked_buffers(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return the normalised X."""
        if self.training:
            self.num_batches_tracked += 1
        if X.ndim == self.weight.ndim + 1:
            columns = X.mT.reshape(1, -1, X.shape[-2])  # (1, lead · channels, N), no copy after a StackedLinear
            return self._normalise(columns).view(X.mT.shape).mT
        maps = _channels_of_all(X, self.weight.ndim - 1)
        return _maps_of_each(self._normalise(maps), X.shape[: self.weight.ndim - 1])

    def _normalise(self, X: Tensor) -> Tensor:
        statistics = (self.running_mean.view(-1), self.running_var.view(-1), self.weight.view(-1), self.bias.view(-1))
        return F.batch_norm(X, *statistics, self.training, self.momentum, self.eps)


class StackedConv2d(nn.Module):
    """Convolutions as one grouped convolution: weight (*lead, n_out, n_in, height, width), X (*lead, N, n_in, ...)."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        first = layers[0]
        names = ("stride", "padding", "dilation", "groups")
        self.geometry: dict[str, Any] = getattr(first, "geometry", None) or {
            name: getattr(first, name) for name in names
        }
        self._parameters = _stacked_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return maps (*lead, N, n_out, height', width')."""
        lead = X.shape[:-4]
        bias = None if self.bias is None else self.bias.flatten()
        geometry = self.geometry | {"groups": self.geometry["groups"] * lead.numel()}
        maps = F.conv2d(_channels_of_all(X, len(lead)), self.weight.flatten(0, -4), bias, **geometry)
        return _maps_of_each(maps, lead)


def _channels_of_all(X: Tensor, n_lead: int) -> Tensor:
    """Return X (*lead, N, channels, *size) as (N, lead · channels, *size): no copy after another such layer."""
    return X.flatten(0, n_lead - 1).transpose(0, 1).flatten(1, 2)


def _maps_of_each(maps: Tensor, lead: torch.Size) -> Tensor:
    """Return maps (N, lead · channels, *size) as (*lead, N, channels, *size)."""
    return maps.unflatten(1, (lead.numel(), -1)).transpose(0, 1).unflatten(0, lead)


class StackedLayerNorm(nn.Module):
    """Layer norms: what is normalised as one is scaled and shifted by each; X (*lead, N, ..., *shape)."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.normalized_shape, self.eps = layers[0].normalized_shape, layers[0].eps
        self._parameters = _stacked_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return the normalised X."""
        normal = F.layer_norm(X, self.normalized_shape, eps=self.eps)
        lead = self.weight.ndim - len(self.normalized_shape)
        return _scale_and_shift(normal, self.weight, self.bias, lead, X.ndim - self.weight.ndim)


class StackedGroupNorm(nn.Module):
    """Group norms: what is normalised as one is scaled and shifted by each; X (*lead, N, channels, ...)."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.num_groups, self.eps = layers[0].num_groups, layers[0].eps
        self._parameters = _stacked_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return the normalised X."""
        lead = self.weight.ndim - 1
        normal = F.group_norm(X.flatten(0, lead), self.num_groups, eps=self.eps).view(X.shape)
        return _scale_and_shift(normal, self.weight, self.bias, lead, 1)


def _scale_and_shift(X: Tensor, weight: Tensor, bias: Tensor | None, lead: int, n_between: int) -> Tensor:
    """Return weight · X + bias for parameters (*lead, *shape) and X with axes between these two, and perhaps after."""
    shape = [*weight.shape[:lead], *[1] * n_between, *weight.shape[lead:]]
    shape += [1] * (X.ndim - len(shape))
    return X * weight.view(shape) if bias is None else torch.addcmul(bias.view(shape), X, weight.view(shape))


class Vmapped(nn.Module):
    """Modules that have no batched form, mapped over by ``torch.vmap``; running statistics are kept for each."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._one = [_copy(modules[0])]  # in a list, so that its parameters are not counted as ours
        shell = _copy(modules[0])
        for name, part in shell.named_modules():
            parts = [module.get_submodule(name) for module in modules]
            part._parameters, part._buffers = _stacked_parameters(parts), _stacked_buffers(parts)
        self._parameters, self._buffers, self._modules = shell._parameters, shell._buffers, shell._modules
        self._non_persistent_buffers_set = shell._non_persistent_buffers_set

    def forward(self, X: Tensor) -> Tensor:
        """Return what each module makes of its part of X, shape (n, N, ...)."""
        one = self._one[0]
        for name, part in one.named_modules():
            part.training = self.get_submodule(name).training
        state = dict(self.named_parameters()) | dict(self.named_buffers())
        return torch.vmap(lambda state, X: functional_call(one, state, (X,)), randomness="different")(state, X)


class Merged(nn.Module):
    """A module without state that treats each example alone: the first two axes of X are one batch to it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = _copy(module)

    def forward(self, X: Tensor) -> Tensor:
        """Return the module's output, shape (n, N, ...)."""
        return self.module(X.flatten(0, 1)).unflatten(0, X.shape[:2])


_ELEMENTWISE = {nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Unflatten}
_EXAMPLEWISE = {nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, Merged}
_CONTAINERS = (nn.Sequential, nn.ModuleDict, nn.ModuleList)
BATCHED: dict[type[nn.Module], Callable[[Sequence[Any]], nn.Module]] = {
    nn.Linear: StackedLinear,
    StackedLinear: StackedLinear,
    nn.BatchNorm1d: StackedBatchNorm,
    nn.BatchNorm2d: StackedBatchNorm,
    StackedBatchNorm: StackedBatchNorm,
    nn.Conv2d: StackedConv2d,
    StackedConv2d: StackedConv2d,
    nn.LayerNorm: StackedLayerNorm,
    StackedLayerNorm: StackedLayerNorm,
    nn.GroupNorm: StackedGroupNorm,
    StackedGroupNorm: StackedGroupNorm,
    Draws: Draws.stacked,
}


def _has_statistics(norm: Any) -> bool:
    return norm.affine and norm.track_running_stats and norm.momentum is not None


_CONDITIONS: dict[type[nn.Module], Callable[[Any], bool]] = {  # the forms for all at once do not know every option
    nn.BatchNorm1d: _has_statistics,
    nn.BatchNorm2d: _has_statistics,
    nn.Conv2d: lambda layer: layer.padding_mode == "zeros",
    nn.LayerNorm: lambda layer: layer.elementwise_affine,
    nn.GroupNorm: lambda layer: layer.affine,
    nn.Unflatten: lambda layer: layer.dim < 0,
}
