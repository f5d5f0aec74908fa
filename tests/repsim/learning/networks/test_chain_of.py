"""Chains cut from modules of the user: where boundaries lie, what is refused, and that they compute the same."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repsim.learning import Chain, Learner, stream

X = torch.randn(4, 6, generator=stream(0, "test"))


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.linear(h).relu()


class Stack(nn.Module):
    """A network in its user's own form."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Linear(6, 8), nn.ModuleList([Residual(), Residual()]), nn.Linear(8, 3)

    def forward(self, h: Tensor) -> Tensor:
        h = self.stem(h)
        for block in self.blocks:
            h = block(h)
        return self.head(h)


def test_by_default_a_segment_starts_at_each_block_with_weight_matrices() -> None:
    net = small()
    chain = Chain.of(net, example=X)
    assert chain.shapes == ((8,), (7,))
    assert chain.n_outputs == 3
    assert [type(part) for part in chain.segments[0]] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert chain.output is net[5]


def test_boundaries_lie_after_named_children_also_inside_lists() -> None:
    assert Chain.of(Stack(), ["blocks.0"], example=X).shapes == ((8,),)
    assert len(Chain.of(Stack(), ["stem", "blocks"], example=X).boundaries) == 2
    assert len(Chain.of(Stack(), example=X).boundaries) == 3
    nested = nn.Sequential(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), nn.Linear(4, 3))
    assert Chain.of(nested, ["0.0"], example=X).shapes == ((5,),)


def test_a_chain_computes_what_the_module_computes_and_shares_its_weights() -> None:
    net = Stack()
    chain = Chain.of(net, example=X)
    assert torch.equal(chain(X), net(X))
    assert {id(p) for p in chain.parameters()} == {id(p) for p in net.parameters()}


def test_cutting_changes_neither_the_module_nor_generators() -> None:
    net, state = small().train(), torch.get_rng_state()
    before = {name: each.clone() for name, each in net.state_dict().items()}
    Chain.of(net, example=X)
    assert net.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], each) for name, each in net.state_dict().items())


def test_blocks_can_be_a_list_or_a_dict() -> None:
    blocks = [nn.Linear(6, 8), Residual(), nn.Linear(8, 3)]
    for given in (blocks, dict(zip("abc", blocks, strict=True)), list(zip("abc", blocks, strict=True))):
        assert Chain.of(given, example=X).shapes == ((8,), (8,))


def test_rows_are_given_to_the_module_in_the_shape_of_an_example() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    assert Chain.of(net, example=X.repeat(1, 2)[:, :9], input_shape=(1, 3, 3)).shapes == ((8,),)


def test_shapes_are_unknown_without_an_example() -> None:
    chain = Chain.of(small())
    with pytest.raises(ValueError, match=r"^The shapes at the boundaries are unknown; give Chain\.of an example"):
        _ = chain.shapes
    with pytest.raises(ValueError, match=r"^The number of outputs is unknown; give Chain\.of an example"):
        Learner.with_rule(chain, "noise")
    chain.measure(X[:1])
    assert (chain.shapes, chain.n_outputs) == (((8,), (7,)), 3)
    with pytest.raises(ValueError, match=r"^The shapes at the boundaries are \(\(8,\), \(7,\)\), but the chain was"):
        Chain(list(chain.hidden.values()), chain.output, [8, 9]).measure(X)


class Skips(Stack):
    def forward(self, h: Tensor) -> Tensor:
        return self.head(self.stem(h))


class DropsOut(Stack):
    def forward(self, h: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(h), 0.5, self.training)


class Holds(Stack):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))


class Twice(nn.Module):
    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return h, h


class Sums(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.sum(dim=0)


class OneNumber(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.sum(dim=1)


class Rounds(nn.Module):
    def forward(self, h: Tensor) -> Tensor:
        return h.long()


shared = nn.Linear(6, 6)


@pytest.mark.parametrize(
    ("module", "boundaries", "message"),
    [
        (Skips(), None, r"forward method of Skips is not the sequence of its children .* in evaluation mode"),
        (DropsOut(), None, r"forward method of DropsOut is not the sequence of its children .* in training mode"),
        (Holds(), None, r"^Holds holds 'scale' itself, outside its children"),
        (
            nn.Sequential(shared, nn.ReLU(), shared),
            None,
            r"^'0\.weight' and '2\.weight' are one tensor in two segments",
        ),
        (small(), ["9"], r"^There is no block '9' to cut after\. Choose from: 0, 1, 2"),
        (small(), ["5"], r"^Boundary '5' lies after the last block"),
        (small(), ["0", "0"], r"^boundaries are 0, 0; expected each once"),
        (small(), "0", r"^boundaries is the text '0'; expected a list of names"),
        (nn.Sequential(nn.Linear(6, 3)), None, r"^The network has the blocks 0, of which fewer than two have weights"),
        ([nn.Linear(6, 6), 3], None, r"^Block '1' is a int; expected a torch\.nn\.Module"),
        ([("a", nn.Linear(6, 6)), ("a", nn.Linear(6, 3))], None, r"^Two blocks are named 'a'"),
        ([nn.Linear(6, 6), Twice(), nn.Linear(6, 3)], None, r"^Block '1' returns a tuple; expected one tensor"),
        ([nn.Linear(6, 6), Sums(), nn.Linear(6, 3)], None, r"^Block '1' returns shape \(6,\) for 4 examples"),
        ([nn.Linear(5, 6), nn.Linear(6, 3)], None, r"^Block '0' cannot run on its input of shape \(4, 6\) and type"),
        ([nn.Linear(6, 6), OneNumber()], ["0"], r"^The network returns shape \(4,\) for 4 examples"),
        ([nn.Linear(6, 6), OneNumber(), nn.Linear(4, 3)], ["1"], r"^Block '1' returns one number per example"),
        ([nn.Linear(6, 6), Rounds(), nn.Linear(6, 3)], ["1"], r"^Block '1' returns torch.int64; a boundary needs real"),
        (Chain.of(small(), example=X), None, r"^The module is a Chain already"),
    ],
)
def test_what_cannot_be_cut_is_refused(module: Any, boundaries: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Chain.of(module, boundaries, example=X)


def test_a_module_of_unknown_form_needs_an_example() -> None:
    with pytest.raises(ValueError, match=r"^Stack may compute more than its children in sequence"):
        Chain.of(Stack())
