"""Checkpoints: run directories, capture of activations from any network, and the store that holds them."""

from checkpoints.activations import Activations, Layer
from checkpoints.capture import Capture, match_layers
from checkpoints.checkpoint import Checkpoint
from checkpoints.errors import Damaged
from checkpoints.lock import Locked
from checkpoints.run import Run
from checkpoints.stimuli import Stimuli

__all__ = ["Activations", "Capture", "Checkpoint", "Damaged", "Layer", "Locked", "Run", "Stimuli", "match_layers"]
