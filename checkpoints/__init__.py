"""Checkpoints: run directories, capture of activations from any network, and the store that holds them."""

from checkpoints.activations import Activations, Layer
from checkpoints.capture import Capture
from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import Damaged
from checkpoints.lock import Locked
from checkpoints.reductions import (
    Reduction,
    SparseProjection,
    SpatialMean,
    SpatialPool,
    Token,
    TokenMean,
    parse_reduction,
)
from checkpoints.run import Run
from checkpoints.selection import match_layers
from checkpoints.stimuli import Stimuli
from checkpoints.weights import read_weights

__all__ = [
    "Activations",
    "Capture",
    "Checkpoint",
    "Damaged",
    "Layer",
    "Locked",
    "Reduction",
    "Run",
    "SparseProjection",
    "SpatialMean",
    "SpatialPool",
    "Stimuli",
    "Token",
    "TokenMean",
    "match_layers",
    "parse_reduction",
    "read_weights",
]
