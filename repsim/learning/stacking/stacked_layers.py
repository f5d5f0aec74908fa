"""Batched forms of layers: modules that hold the parameters of several layers along a first axis."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from repsim.learning.draws import Draws

__all__ = ["BATCHED", "Batched", "Vmapped", "drop_hooks", "stack_buffers", "stack_parameters"]


class StackedLinear(nn.Module):
    """Linear maps as one batched product, with weight (*lead, n_out, n_in) and X (*lead, N, ..., n_in)."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self._parameters = stack_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return X Wᵀ + b, shape (*lead, N, ..., n_out), whose last axis in memory is that of examples."""
        n_lead = self.weight.ndim - 2
        Xt = X.flatten(n_lead, -2).flatten(0, n_lead - 1).mT
        weight = self.weight.flatten(0, n_lead - 1)
        if self.bias is None:
            product = torch.bmm(weight, Xt)
        else:
            product = torch.baddbmm(self.bias.view(-1, self.bias.shape[-1], 1), weight, Xt)
        return product.mT.view(*X.shape[:-1], product.shape[1])


class StackedBatchNorm(nn.Module):
    """Batch norms as one batch norm over all channels, for X (*lead, N, channels) or (*lead, N, channels, *size)."""

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.momentum, self.eps = layers[0].momentum, layers[0].eps
        self._parameters, self._buffers = stack_parameters(layers), stack_buffers(layers)

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
    """Convolutions as one grouped convolution; weight (*lead, n_out, n_in, height, width), X (*lead, N, n_in, ...)."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        first = layers[0]
        names = ("stride", "padding", "dilation", "groups")
        self.geometry: dict[str, Any] = getattr(first, "geometry", None) or {
            name: getattr(first, name) for name in names
        }
        self._parameters = stack_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return maps (*lead, N, n_out, height', width')."""
        lead = X.shape[:-4]
        bias = None if self.bias is None else self.bias.flatten()
        geometry = self.geometry | {"groups": self.geometry["groups"] * lead.numel()}
        maps = F.conv2d(_channels_of_all(X, len(lead)), self.weight.flatten(0, -4), bias, **geometry)
        return _maps_of_each(maps, lead)


def _channels_of_all(X: Tensor, n_lead: int) -> Tensor:
    """Return X (*lead, N, channels, *size) as (N, lead · channels, *size), without a copy after another such layer."""
    return X.flatten(0, n_lead - 1).transpose(0, 1).flatten(1, 2)


def _maps_of_each(maps: Tensor, lead: torch.Size) -> Tensor:
    """Return maps (N, lead · channels, *size) as (*lead, N, channels, *size)."""
    return maps.unflatten(1, (lead.numel(), -1)).transpose(0, 1).unflatten(0, lead)


class StackedLayerNorm(nn.Module):
    """Layer norms: X (*lead, N, ..., *shape) is normalised at once, then scaled and shifted by each norm."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.normalized_shape, self.eps = layers[0].normalized_shape, layers[0].eps
        self._parameters = stack_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return the normalised X."""
        normal = F.layer_norm(X, self.normalized_shape, eps=self.eps)
        lead = self.weight.ndim - len(self.normalized_shape)
        return _scale_and_shift(normal, self.weight, self.bias, lead, X.ndim - self.weight.ndim)


class StackedGroupNorm(nn.Module):
    """Group norms: X (*lead, N, channels, ...) is normalised at once, then scaled and shifted by each norm."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layers: Sequence[Any]) -> None:
        super().__init__()
        self.num_groups, self.eps = layers[0].num_groups, layers[0].eps
        self._parameters = stack_parameters(layers)

    def forward(self, X: Tensor) -> Tensor:
        """Return the normalised X."""
        lead = self.weight.ndim - 1
        normal = F.group_norm(X.flatten(0, lead), self.num_groups, eps=self.eps).view(X.shape)
        return _scale_and_shift(normal, self.weight, self.bias, lead, 1)


def _scale_and_shift(X: Tensor, weight: Tensor, bias: Tensor | None, lead: int, n_between: int) -> Tensor:
    """Return weight · X + bias for parameters (*lead, *shape) and X (*lead, *between, *shape, *after)."""
    shape = [*weight.shape[:lead], *[1] * n_between, *weight.shape[lead:]]
    shape += [1] * (X.ndim - len(shape))
    return X * weight.view(shape) if bias is None else torch.addcmul(bias.view(shape), X, weight.view(shape))


class Vmapped(nn.Module):
    """Modules without a batched form, mapped over with ``torch.vmap``; each has its own running statistics."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self._one = [copy_without_hooks(modules[0])]  # in a list, so that its parameters are not registered
        shell = copy_without_hooks(modules[0])
        for name, part in shell.named_modules():
            parts = [module.get_submodule(name) for module in modules]
            part._parameters, part._buffers = stack_parameters(parts), stack_buffers(parts)
        self._parameters, self._buffers, self._modules = shell._parameters, shell._buffers, shell._modules
        self._non_persistent_buffers_set = shell._non_persistent_buffers_set

    def forward(self, X: Tensor) -> Tensor:
        """Return the output of each module for its part of X, shape (n, N, ...)."""
        one = self._one[0]
        for name, part in one.named_modules():
            part.training = self.get_submodule(name).training
        state = dict(self.named_parameters()) | dict(self.named_buffers())
        return torch.vmap(lambda state, X: functional_call(one, state, (X,)), randomness="different")(state, X)


class Merged(nn.Module):
    """A module without state that treats examples separately, applied to the first two axes of X as one batch."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = copy_without_hooks(module)

    def forward(self, X: Tensor) -> Tensor:
        """Return the module's output, shape (n, N, ...)."""
        return self.module(X.flatten(0, 1)).unflatten(0, X.shape[:2])


def copy_without_hooks(module: nn.Module) -> nn.Module:
    """Return a deep copy of a module without its hooks."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        drop_hooks(part)
    return copied


def drop_hooks(module: nn.Module) -> nn.Module:
    """Remove the hooks of a module itself, not those of its children, and return it."""
    vars(module).update({name: value for name, value in vars(nn.Module()).items() if "hook" in name})
    return module


def stack_parameters(modules: Sequence[nn.Module]) -> dict[str, nn.Parameter | None]:
    """Return the modules' own parameters, not those of their children, stacked along a new first axis."""
    return {
        name: None if p is None else _stack_parameters([module._parameters[name] for module in modules])
        for name, p in modules[0]._parameters.items()
    }


def stack_buffers(modules: Sequence[nn.Module]) -> dict[str, Tensor | None]:
    """Return the modules' own buffers, not those of their children, stacked along a new first axis."""
    return {
        name: None if b is None else torch.stack([module.get_buffer(name) for module in modules])
        for name, b in modules[0]._buffers.items()
    }


def _stack_parameters(parameters: Sequence[Any]) -> nn.Parameter:
    values = torch.stack([parameter.detach() for parameter in parameters])
    return nn.Parameter(values, requires_grad=parameters[0].requires_grad)


class Batched(NamedTuple):
    """The batched form of a layer: a function from several layers to one module, and the layers that it serves."""

    build: Callable[[Sequence[Any]], nn.Module]
    serves: Callable[[Any], bool] = lambda layer: True  # other settings are mapped over with torch.vmap


def _has_statistics(norm: Any) -> bool:
    return norm.affine and norm.track_running_stats and norm.momentum is not None


_BATCH_NORM = Batched(StackedBatchNorm, _has_statistics)
_ELEMENTWISE = Batched(lambda layers: copy_without_hooks(layers[0]))
_EXAMPLEWISE = Batched(lambda layers: Merged(layers[0]))

BATCHED: dict[type[nn.Module], Batched] = {
    nn.Linear: Batched(StackedLinear),
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
    nn.Conv2d: Batched(StackedConv2d, lambda layer: layer.padding_mode == "zeros"),
    nn.LayerNorm: Batched(StackedLayerNorm, lambda layer: layer.elementwise_affine),
    nn.GroupNorm: Batched(StackedGroupNorm, lambda layer: layer.affine),
    Draws: Batched(Draws.stacked),
    nn.Unflatten: Batched(_ELEMENTWISE.build, lambda layer: layer.dim < 0),
    **dict.fromkeys((nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid), _ELEMENTWISE),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d, Merged), _EXAMPLEWISE),
    # stacks of stacks
    **{
        kind: Batched(kind)
        for kind in (StackedLinear, StackedBatchNorm, StackedConv2d, StackedLayerNorm, StackedGroupNorm)
    },
}
