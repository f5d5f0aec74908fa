"""Someone has a detector of voices, whose weights ship in a package, and asks what its layers know about a sound."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from checkpoints import Run
from tests.conftest import Repsim

RATE, CONTEXT, FRAME = 16_000, 64, 512  # samples per second, before a frame, and in a frame

# The network of Silero VAD 6 (MIT licence) as its users would write it; names and sizes are those of its weights.
MODULE = """
import torch
from torch import nn
from torch.nn import functional as F


class VoiceDetector(nn.Module):
    def __init__(self):
        super().__init__()
        self.stft_conv = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.conv1 = nn.Conv1d(129, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, sound):
        waves = self.stft_conv(F.pad(sound, (0, 64), mode="reflect")[:, None])
        h = torch.linalg.vector_norm(waves.unflatten(1, (2, 129)), dim=1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            h = conv(h).relu()
        state, _ = self.lstm_cell(h.squeeze(-1))
        return self.final_conv(state.relu()[..., None]).sigmoid().flatten(1)
"""


def sounds(n: int) -> tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.float64]]:
    """Return sounds of 32 ms after 4 ms of silence, their kinds and their pitch in Hz."""
    random = np.random.default_rng(0)
    time = np.arange(FRAME) / RATE
    kinds = np.array(["voice", "tone", "buzz"])[np.arange(n) % 3]
    pitch = random.uniform(100, 300, n)
    phases = random.uniform(0, 2 * np.pi, n)
    X = np.zeros((n, CONTEXT + FRAME))
    for row, (kind, f) in enumerate(zip(kinds, pitch, strict=True)):
        partials = np.arange(1, 2 if kind == "tone" else 25)
        formants = np.exp(-(((partials * f - 600) / 300) ** 2)) + 0.5 * np.exp(-(((partials * f - 1500) / 400) ** 2))
        weights = formants if kind == "voice" else np.ones(len(partials)) / len(partials)
        wave = (weights[:, None] * np.sin(2 * np.pi * f * partials[:, None] * time + phases[row])).sum(0)
        X[row, CONTEXT:] = 0.1 * (wave + 0.05 * random.standard_normal(len(time)))
    return X.astype(np.float32), kinds, pitch


def packaged_weights() -> Path:
    found = find_spec("silero_vad")
    if found is None or found.origin is None:
        pytest.skip("silero-vad is not installed")
    return Path(found.origin).parent / "data" / "silero_vad_16k.safetensors"


@pytest.mark.usefixtures("place", "blank_figures")
def test_layers_of_a_packaged_network_are_probed_for_kind_and_pitch(repsim: Repsim) -> None:
    weights = packaged_weights()
    Path("my_networks.py").write_text(MODULE)
    X, kinds, pitch = sounds(150)
    names = [f"sound {k}" for k in range(len(X))]
    np.savez("sounds.npz", X=X, y=kinds, ids=names)
    pd.DataFrame({"id": names, "pitch": pitch}).sample(frac=1, random_state=0).to_csv("pitch.csv", index=False)

    said = repsim(
        f"record --model my_networks:VoiceDetector --weights {weights} --data sounds.npz --targets pitch.csv "
        "--layers 'conv*' --layers 'lstm_cell[0]' --output runs/vad"
    )
    assert (said.code, said.err) == (0, "")
    layers = Run.open("runs/vad").last().activations
    assert list(layers) == ["conv1", "conv2", "conv3", "conv4", "lstm_cell[0]"]

    said = repsim("analyze runs/vad --Cs 1")
    assert said.code == 0, said.err
    probes = pd.read_csv("runs/vad/analysis/probes.csv").set_index(["target", "layer"])
    assert probes.loc[("label", "conv4"), "accuracy"] > 0.8
    assert probes.loc["pitch", "kind"].unique() == ["continuous"]
    assert probes.loc[("pitch", "conv1"), "r2"] > 0.8
    assert "Best probe of pitch, R² on test" in said.out


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.* is deprecated:DeprecationWarning")  # how the package loads it
def test_the_network_of_this_story_computes_what_the_package_computes(place: Path) -> None:
    packaged_weights()
    from silero_vad import load_silero_vad

    Path("my_networks.py").write_text(MODULE)
    import my_networks  # type: ignore[import-not-found]

    package = load_silero_vad()  # a scripted network of later weights
    network = my_networks.VoiceDetector()
    weights = package._model.state_dict().values()
    network.load_state_dict(dict(zip(network.state_dict(), weights, strict=True)))
    X = torch.from_numpy(sounds(30)[0])
    with torch.no_grad():
        expected = package(X[:, CONTEXT:], RATE)  # it starts from silence
        torch.testing.assert_close(network(X), expected, atol=1e-5, rtol=0)
