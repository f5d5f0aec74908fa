"""The axis of a module's activations that holds the features (channels): axis 1 or the last one."""

from __future__ import annotations

import re
from itertools import chain

from torch import nn
from torch.nn.modules import batchnorm
from torch.nn.parameter import UninitializedParameter

__all__ = ["feature_axis"]


def feature_axis(module: nn.Module, shape: tuple[int, ...], default: str) -> tuple[str, bool]:
    """Infer which axis of a module's activations holds the features.

    The type of a ``torch.nn`` layer settles it. For other modules three indications are compared: the lengths of the
    one-dimensional parameters (biases, scales of norms), which have one value per feature; the types of the layers
    inside; and the shape, in which the two axes of a square image are equal. Return ``"first"`` for (n, features, …) or
    ``"last"`` for (n, …, features), and whether that is certain; ``default`` if nothing indicates an axis.
    """
    if (own := _axis_by_type(module)) is not None:
        return own, True
    sized, looks = _axis_by_sizes(module, shape), _axis_by_look(shape)
    types = {axis for axis in map(_axis_by_type, module.modules()) if axis is not None}
    if not types:
        unsized = default, looks == default or (len(shape) == 3 and default == "last")
        return unsized if sized is None else (sized, True)
    typed = next(iter(types)) if len(types) == 1 else None
    if typed is not None and sized in (None, typed):
        return typed, sized is not None or looks in (None, typed)
    return looks or sized or default, looks in (sized, typed) if looks else sized == default


def _axis_by_type(module: nn.Module) -> str | None:
    """Return the axis that a layer of torch treats as features; None for others and for elementwise layers."""
    if declared := _DATA_FORMATS.get(str(getattr(module, "data_format", ""))):
        return declared
    if not _forward_is_of_torch(module):  # torchvision's LayerNorm2d permutes, though it is an nn.LayerNorm
        return _axis_by_name(type(module).__name__)
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return "last" if len(module.normalized_shape) == 1 else None
    if isinstance(module, nn.PReLU):
        return "first" if module.num_parameters > 1 else None
    known = (axis for axis, kinds in _KINDS.items() if isinstance(module, kinds))
    named = (axis for base in type(module).__mro__ if (axis := _axis_by_name(base.__name__)))
    return next(chain(known, named), None)


def _forward_is_of_torch(module: nn.Module) -> bool:
    owner = next(each for each in type(module).__mro__ if "forward" in vars(each))
    return owner.__module__.startswith("torch.")


def _axis_by_name(name: str) -> str | None:
    """Return the axis by naming convention: Conv2d and BatchNormAct2d, Linear4bit and LinearReLU."""
    if re.search(r"[a-z0-9][123]d$", name):
        return "first"
    return "last" if name.startswith("Linear") else None


def _axis_by_sizes(module: nn.Module, shape: tuple[int, ...]) -> str | None:
    """Return the axis that is as long as a bias or scale of the module, if only one of them is."""
    each = [part for part in module.parameters() if not isinstance(part, UninitializedParameter)]
    lengths = {part.shape[0] for part in each if part.ndim == 1} - {1}
    fits = [axis for axis, size in (("first", shape[1]), ("last", shape[-1])) if size in lengths]
    return fits[0] if len(fits) == 1 else None


def _axis_by_look(shape: tuple[int, ...]) -> str | None:
    """Return the axis of the features of (n, …) if the other axes are those of a square image."""
    if len(shape) < 4 or (shape[1] == shape[2]) == (shape[-2] == shape[-1]):
        return None
    return "first" if shape[-2] == shape[-1] else "last"


_DATA_FORMATS = {"channels_first": "first", "channels_last": "last"}

# Layers of torch to which the naming convention does not apply.
_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "first": (
        batchnorm._NormBase,  # also of the instance norms
        nn.GroupNorm,
        nn.LocalResponseNorm,
        nn.CrossMapLRN2d,
        nn.FeatureAlphaDropout,
        nn.Upsample,
        nn.PixelShuffle,
        nn.PixelUnshuffle,
        nn.ChannelShuffle,
        nn.Fold,
        nn.Unfold,
    ),
    "last": (
        nn.Linear,
        nn.Bilinear,
        nn.Embedding,
        nn.MultiheadAttention,
        nn.RNNBase,
        nn.Transformer,
        nn.TransformerEncoder,
        nn.TransformerDecoder,
        nn.TransformerEncoderLayer,
        nn.TransformerDecoderLayer,
    ),
}
