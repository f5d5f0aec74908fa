"""Gradients of a loss with respect to the outputs of modules, one row per stimulus; the network is not changed."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from checkpoints import Capture, SpatialMean
from checkpoints.storage.hdf5_files.activation_file import LayerValues
from tests.checkpoints.small_runs import assert_same, weights

N = 11


def summed(output: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output, labels, reduction="sum")


def each(output: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output, labels, reduction="none")


def build() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 6),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(6),
        nn.Dropout(0.5),
        nn.Linear(6, 5),
        nn.Tanh(),
        nn.Linear(5, 3),
    )


def data(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(N, *shape), torch.arange(N) % 3


def record(model: nn.Module, layers: Any, X: Any, y: Any, loss: Any = summed, **options: Any) -> dict[str, LayerValues]:
    return Capture(model, layers, side="gradient", loss=loss, **options).record(X, y)


def expected(model: nn.Sequential, X: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return the gradient at each module of a chain, by a loop without operations in place."""
    model.eval()
    h, activations = X.clone().requires_grad_(), {}
    for name, module in model.named_children():
        h = torch.relu(h) if isinstance(module, nn.ReLU) else module(h)
        activations[name] = h
    model.train()
    return dict(zip(activations, torch.autograd.grad(summed(h, y), list(activations.values())), strict=True))


# Values


@pytest.mark.parametrize("loss", [summed, each])
@pytest.mark.parametrize("batch_size", [None, 4])
def test_gradients_are_those_of_autograd(loss: Callable[..., Tensor], batch_size: int | None) -> None:
    model, (X, y) = build(), data(4)
    model(X)  # running statistics
    gradients = record(model, ["*", ""], X, y, loss, batch_size=batch_size)
    assert list(gradients) == [*map(str, range(7)), "(network)"]
    for name, gradient in expected(model, X, y).items():
        layer = gradients[name]
        np.testing.assert_allclose(layer.values, gradient.numpy(), rtol=1e-5, atol=1e-7)
        assert (layer.side, layer.module, layer.source_dtype) == ("gradient", name, "torch.float32")
    np.testing.assert_array_equal(gradients["(network)"].values, gradients["6"].values)


def test_gradients_have_the_shapes_and_reductions_of_activations() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    X, y = data(2, 6, 6)
    gradients = record(model, "*", X, y, reduce={"1": SpatialMean(channels="first")})
    h = model[0](X)
    g = torch.autograd.grad(summed(model[1:](h), y), h)[0]
    assert gradients["0"].feature_shape == (4, 4, 4)
    np.testing.assert_allclose(gradients["0"].values, g.flatten(1).numpy(), rtol=1e-5, atol=1e-7)
    assert (gradients["1"].feature_shape, gradients["1"].source_shape) == ((4,), (4, 4, 4))
    h = h.relu().detach().requires_grad_()
    g = torch.autograd.grad(summed(model[2:](h), y), h)[0]
    np.testing.assert_allclose(gradients["1"].values, g.mean((2, 3)).numpy(), rtol=1e-5, atol=1e-7)


def test_tuples_several_calls_and_several_inputs_have_gradients() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.rnn, self.shared = nn.Embedding(9, 4), nn.LSTM(4, 5), nn.Linear(5, 5)
            self.out = nn.Linear(5, 3)

        def forward(self, ids: Tensor, scale: Tensor) -> dict[str, Tensor]:
            h, _ = self.rnn(self.embed(ids).transpose(0, 1))  # time first
            return {"logits": self.out(self.shared(self.shared(h[-1]) * scale))}

    model, (_, y) = Twice(), data(1)
    inputs = {"ids": torch.randint(9, (N, 7)), "scale": torch.rand(N, 1)}
    with pytest.warns(
        UserWarning,
        match=r"Not recorded, because the loss does not depend on it: rnn\[1\]\[0\] \(1, 11, 5\), rnn\[1\]\[1\]",
    ):
        gradients = record(model, ["embed", "rnn", "shared"], inputs, y, lambda output, y: summed(output["logits"], y))
    assert gradients["rnn[0]"].feature_shape == (7, 5)  # the axis of the stimuli is moved to the front
    assert {"embed", "shared#0", "shared#1"} <= set(gradients)
    h, _ = model.rnn(model.embed(inputs["ids"]).transpose(0, 1))
    last = h[-1].detach().requires_grad_()
    logits = model.out(model.shared(first := model.shared(last) * inputs["scale"]))
    g, at_last = torch.autograd.grad(summed(logits, y), [first, last])
    np.testing.assert_allclose(gradients["shared#0"].values, (g * inputs["scale"]).numpy(), rtol=1e-4, atol=1e-6)
    rows = gradients["rnn[0]"].values.reshape(N, 7, 5)
    np.testing.assert_allclose(rows[:, -1], at_last.numpy(), rtol=1e-4, atol=1e-6)
    assert not rows[:, :-1].any()  # only the last time is read


def test_regression_targets_are_labels_too() -> None:
    model, X, y = nn.Sequential(nn.Linear(4, 2)), torch.randn(N, 4), np.random.default_rng(0).normal(size=(N, 2))
    gradients = record(model, "0", X, y, lambda output, y: (output - y).square().sum())
    np.testing.assert_allclose(gradients["0"].values, 2 * (model(X).detach().numpy() - y), rtol=1e-5, atol=1e-6)


# Rows


def test_a_mean_over_the_batch_is_warned_of() -> None:
    model, (X, y) = build(), data(4)
    with pytest.warns(
        UserWarning, match=r"The gradients of a stimulus depend on the other .* mean over the batch does t"
    ):
        record(model, "6", X, y, F.cross_entropy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record(model, "6", X, y)


def test_rows_follow_their_stimuli_also_if_the_network_sorts_them() -> None:
    class Sorted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.out = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, X: Tensor) -> Tensor:
            order = X[:, 0].argsort()
            return self.out(self.inner(X[order])[order.argsort()])

    model, (X, y) = Sorted(), data(4)
    with pytest.warns(UserWarning, match="Not recorded, because no axis indexes the stimuli: inner"):
        assert list(record(model, "*", X, y)) == ["out"]


# The network


def test_the_network_and_its_gradients_are_as_before() -> None:
    model, (X, y) = build(), data(4)
    summed(model(X), y).backward()
    before, grads = weights(model), [parameter.grad.clone() for parameter in model.parameters()]
    random, inputs = torch.random.get_rng_state(), X.clone()
    gradients = record(model, "*", X, y)
    assert_same(weights(model), before)
    assert all(torch.equal(parameter.grad, grad) for parameter, grad in zip(model.parameters(), grads, strict=True))
    assert torch.equal(torch.random.get_rng_state(), random)
    assert torch.equal(X, inputs)
    assert not X.requires_grad
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    np.testing.assert_array_equal(record(model, "*", X, y)["0"].values, gradients["0"].values)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_frozen_network_has_gradients_in_any_mode(mode: Callable[[], Any]) -> None:
    model, (X, y) = build(), data(4)
    wanted = record(model, "*", X, y)
    model.requires_grad_(False)
    with mode():
        found = record(model, "*", X, y)
        assert torch.is_grad_enabled() is (mode is torch.enable_grad)
    for name, layer in wanted.items():
        np.testing.assert_array_equal(found[name].values, layer.values)
    assert not any(parameter.requires_grad for parameter in model.parameters())


# What cannot be had


class Parts(nn.Module):
    """A network with outputs that have no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.codes, self.unused, self.out = (
            nn.Linear(4, 4),
            nn.Identity(),
            nn.Identity(),
            nn.Linear(4, 3),
        )

    def forward(self, X: Tensor) -> Tensor:
        h = self.first(X).detach()
        self.codes((h > 0).long())
        self.unused(h.requires_grad_() * 2)
        return self.out(h)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("first", "the loss does not depend on it"),
        ("codes", "whole numbers have no gradient"),
        ("unused", "the loss does not depend on it"),
    ],
)
def test_outputs_without_gradient_are_refused_by_name_and_left_out_otherwise(layer: str, reason: str) -> None:
    model, (X, y) = Parts(), data(4)
    with pytest.raises(ValueError, match=rf"Layer '{layer}' has shape \(\d+, 4\) for 11 stimuli, and {reason}\."):
        record(model, layer, X, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert list(record(model, "*", X, y)) == ["out"]
    assert any(re.match(f"Not recorded, because {reason}: .*{layer}", str(each.message)) for each in caught)


def test_an_output_without_graph_is_refused() -> None:
    class Cut(nn.Sequential):
        def forward(self, X: Tensor) -> Tensor:
            with torch.no_grad():
                X = self[0](X)
            return self[1](X)

    X, y = data(4)
    with pytest.raises(ValueError, match=r"Layer '0' has .* it was computed without a graph, as by detach or no_grad"):
        record(Cut(nn.Linear(4, 4), nn.Linear(4, 3)), "0", X, y)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda output, y: 3.0, "The loss returned a float; expected a tensor"),
        (
            lambda output, y: output,
            r"The loss returned a tensor of shape \(\d+, 3\) for \d+ stimuli; expected one number",
        ),
        (lambda output, y: summed(output.detach(), y), "The loss has no graph, so that it has no gradients"),
        (lambda output, y: output.argmax(1), "The loss has no graph, so that it has no gradients"),
    ],
)
def test_a_loss_without_gradient_is_refused(loss: Callable[..., Any], message: str) -> None:
    X, y = data(4)
    with pytest.raises(ValueError, match=message):
        record(build(), "*", X, y, loss)


def test_an_error_of_the_loss_is_not_hidden() -> None:
    def wrong(output: Tensor, labels: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    X, y = data(4)
    with pytest.raises(ZeroDivisionError, match="mine"):
        record(build(), "*", X, y, wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"side": "gradient"}, "Side 'gradient' needs a loss: a function"),
        ({"loss": summed}, "The loss is only used with side 'gradient', and side is 'output'; leave out one of them"),
        ({"layers": "0:input", "side": "gradient", "loss": summed}, "with respect to outputs; leave ':input' out"),
        ({"side": "gradients"}, "Unknown side 'gradients'. Choose one of: output, input, both, gradient"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Capture(build(), **options)


def test_labels_are_needed_by_a_loss_alone() -> None:
    model, (X, y) = build(), data(4)
    with pytest.raises(ValueError, match="The loss of the side 'gradient' needs labels; give one per stimulus"):
        record(model, "*", X, None)
    with pytest.raises(ValueError, match="The labels are not one per stimulus; expected 11 rows"):
        record(model, "*", X, y[:5])
    with pytest.raises(
        ValueError, match="Labels are only used by a loss; leave them out, or record the side 'gradient'"
    ):
        Capture(model).record(X, y)
