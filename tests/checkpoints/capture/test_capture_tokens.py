"""Recordings with one row per token, against a loop over the tokens of every sequence."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from checkpoints import Capture, Run, Stimuli

N, T, D = 11, 6, 6  # as many features as tokens, so that sizes say nothing
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 20, (N, T))
LENGTHS = RNG.integers(1, T + 1, N)
MASK = (np.arange(T) < LENGTHS[:, None]).astype(np.int64)
INPUTS = {"input_ids": TOKENS, "attention_mask": MASK}


class Encoder(nn.Module):
    """An encoder whose layers have tokens in different places."""

    def __init__(self, fixed: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, D)
        self.attend = nn.MultiheadAttention(D, 2)
        self.conv = nn.Conv1d(D, T, 3, padding=1)  # (n, T channels, T tokens)
        self.lstm = nn.LSTM(D, 4, batch_first=True)
        self.pooled = nn.Linear(D, T)
        self.positions = nn.Parameter(torch.randn(T, D)) if fixed else None

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        h = self.embed(input_ids) if self.positions is None else self.embed(input_ids) + self.positions
        across = h.transpose(0, 1)
        h = h + self.attend(across, across, across, key_padding_mask=attention_mask == 0)[0].transpose(0, 1)
        h = h + self.conv(h.transpose(1, 2)).transpose(1, 2)
        packed = nn.utils.rnn.pack_padded_sequence(
            h, attention_mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
        )
        self.lstm(packed)
        return self.pooled(h.mean(1))


@pytest.fixture
def model() -> Encoder:
    torch.manual_seed(0)
    return Encoder().eval()


def tokens_of(values: Tensor, mask: Any = MASK) -> np.ndarray:
    """Take the tokens of every sequence in turn from (n, T, d)."""
    return np.stack([values[n, t].detach().numpy().ravel() for n in range(N) for t in range(T) if mask[n][t]])


def expected(model: Encoder) -> dict[str, np.ndarray]:
    seen: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: seen.__setitem__(name, output))
        for name, module in model.named_children()
    ]
    model(torch.tensor(TOKENS), torch.tensor(MASK))
    for hook in hooks:
        hook.remove()
    lstm, _ = nn.utils.rnn.pad_packed_sequence(seen["lstm"][0], batch_first=True, total_length=T)
    return {
        "embed": tokens_of(seen["embed"]),
        "attend[0]": tokens_of(seen["attend"][0].transpose(0, 1)),
        "conv": tokens_of(seen["conv"].transpose(1, 2)),
        "lstm[0]": tokens_of(lstm),
    }


@pytest.mark.parametrize("batch_size", [None, 3])
def test_rows_are_the_tokens_wherever_a_layer_has_them(model: Encoder, batch_size: int | None) -> None:
    with pytest.warns(UserWarning) as caught:
        layers = Capture(model, "*", batch_size=batch_size).record(INPUTS, mask=MASK)
    said = "\n".join(str(each.message) for each in caught)
    assert re.search(r"Not recorded, because no axis indexes the tokens: .*pooled \(\d+, 6\)", said)
    assert re.search(r"Not recorded, because several axes index the tokens: attend\[1\] \(\d+, 6, 6\)", said)
    wanted = expected(model)
    assert set(wanted) <= set(layers)
    assert "pooled" not in layers
    for name, values in wanted.items():
        np.testing.assert_allclose(layers[name].values, values, atol=1e-5)
        assert layers[name].feature_shape == values.shape[1:]


def test_attention_maps_have_two_axes_of_tokens_and_are_left_out() -> None:
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Softmax(-1)
            self.embed = nn.Embedding(20, 4)

        def forward(self, X: Tensor) -> Tensor:
            h = self.embed(X)
            return self.scores(h @ h.transpose(1, 2)) @ h

    capture = Capture(Maps(), ["scores", "embed"])
    with pytest.raises(
        ValueError, match=r"Layer 'scores' has shape .* and several axes index the tokens\. Choose other l"
    ):
        capture.record(TOKENS, mask=MASK)
    with pytest.warns(UserWarning, match=r"several axes index the tokens: scores"):
        assert list(Capture(Maps(), "*").record(TOKENS, mask=MASK)) == ["embed"]


def test_a_layer_with_a_token_more_is_left_out() -> None:
    class WithClass(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.block = nn.Embedding(20, 4), nn.Linear(4, 4)

        def forward(self, X: Tensor) -> Tensor:
            h = self.embed(X)
            return self.block(torch.cat([h[:, :1], h], 1))

    with pytest.warns(UserWarning, match=r"there are 7 tokens and not 6: block"):
        assert list(Capture(WithClass(), "*").record(TOKENS, mask=MASK)) == ["embed"]


def test_a_network_of_one_length_is_warned_of_and_features_are_not_taken_for_tokens() -> None:
    torch.manual_seed(0)
    model = Encoder(fixed=True).eval()
    with pytest.warns(UserWarning) as caught:
        layers = Capture(model, "*").record(INPUTS, mask=MASK)
    said = [str(each.message) for each in caught]
    assert any(
        "runs on sequences of 6 positions only, so the axis of the tokens was taken by its size" in s for s in said
    )
    assert any("2 axes have the size of 6 tokens" in s and "embed" in s and "conv" in s for s in said)
    assert list(layers) == ["lstm[0]"]
    np.testing.assert_allclose(layers["lstm[0]"].values, expected(model)["lstm[0]"], atol=1e-5)


def test_patches_of_images_are_rows_by_a_mask_of_their_own() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch, self.block = nn.Conv2d(1, 5, 2, 2), nn.Linear(5, 7)

        def forward(self, X: Tensor) -> Tensor:
            return self.block(self.patch(X).flatten(2).transpose(1, 2)).mean(1)

    model, images = Patches(), RNG.normal(size=(N, 1, 8, 8)).astype(np.float32)
    with pytest.warns(UserWarning, match=r"taken by its size, and could not be verified, in: block"):
        layers = Capture(model, "block").record(images, mask=np.ones((N, 16)))
    h = model.patch(torch.tensor(images)).flatten(2).transpose(1, 2)
    np.testing.assert_allclose(layers["block"].values, model.block(h).detach().reshape(-1, 7), atol=1e-5)


def test_a_run_of_tokens_has_their_rows_and_ids(model: Encoder, tmp_path: Path) -> None:
    stimuli = Stimuli.of_tokens([f"s{k}" for k in range(N)], TOKENS % 3, ["train"] * N, INPUTS, mask="attention_mask")
    capture = Capture(model, ["embed", "conv"], batch_size=2)
    with Run.create(tmp_path / "run", {}, stimuli) as run:
        run.checkpoint(0, model, capture=capture, compress=True)
    run = Run.open(tmp_path / "run")
    layer = run.last().activations["conv"]
    assert layer.shape == (MASK.sum(), T)
    np.testing.assert_allclose(layer[:], expected(model)["conv"], atol=1e-5)
    assert layer.stimulus_ids.tolist() == [f"s{n}:{t}" for n in range(N) for t in range(T) if MASK[n, t]]
    assert layer.stimuli is not None
    run.last().verify("sha256")


@pytest.mark.parametrize(
    ("options", "mask", "message"),
    [
        ({"reduce": "token(0)"}, MASK, r"Reductions make one row per stimulus, and the mask asks for one per token"),
        (
            {},
            MASK[:3],
            r"The mask is not one row per stimulus with a token in each; expected shape \(11, n_positions\)",
        ),
        ({}, 0 * MASK, r"The mask is not one row per stimulus with a token in each"),
    ],
)
def test_a_mask_that_cannot_be_followed_is_refused(model: Encoder, options: Any, mask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Capture(model, "embed", **options).record(INPUTS, mask=mask)


def test_gradients_of_tokens_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(4 * T, 2))
    gradients = Capture(model, "0", side="gradient", loss=lambda output, _: output.sum(1))
    with pytest.raises(ValueError, match=r"Gradients have one row per stimulus and none per token; leave out the loss"):
        gradients.record(TOKENS, np.zeros(N), mask=MASK)
    stimuli = Stimuli.of_tokens(range(N), [0] * N, ["train"] * N, TOKENS, mask=MASK)
    with (
        Run.create(tmp_path / "run", {}, stimuli) as run,
        pytest.raises(ValueError, match=r"and the rows of this run are"),
    ):
        run.checkpoint(0, model, gradients=gradients)


def test_a_mask_of_another_width_than_all_layers_is_explained() -> None:
    model = nn.Sequential(nn.Embedding(20, 4))
    with pytest.raises(
        ValueError,
        match=r"none of them gives one row per token in a forward pass\. The mask has 9 positions; of layer '0' "
        r"\(11, 6, 4\), no axis indexes the tokens\. ",
    ):
        Capture(model, "*").record(TOKENS, mask=np.ones((N, 9)))
