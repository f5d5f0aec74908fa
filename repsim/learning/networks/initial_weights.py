"""Initial weights of affine layers, drawn from a given generator."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

__all__ = ["draw_weights"]

Affine = TypeVar("Affine", nn.Linear, nn.Conv2d, nn.Linear | nn.Conv2d)


@torch.no_grad()
def draw_weights(layer: Affine, std: float, generator: torch.Generator | None, bias: float = 0.0) -> Affine:
    """Draw the weights of a layer from N(0, std²), set its biases to a number, and return it.

    Create the layer with ``torch.nn.utils.skip_init``, which does not draw from the global generator.
    """
    layer.weight.normal_(0.0, std, generator=generator)
    if layer.bias is not None:
        layer.bias.fill_(bias)
    return layer
