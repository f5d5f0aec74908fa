"""Cutting of a module whose children run in sequence into segments, at boundaries after named children."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Blocks", "Measured", "check_equal_outputs", "cut", "join", "measure"]

Blocks = dict[str, nn.Module]  # by name, in the order in which a batch passes through them
Measured = tuple[list[tuple[int, ...]], int]  # shape of one example after each segment but the last; number of outputs


def cut(module: Any, boundaries: Sequence[str] | None) -> list[Blocks]:
    """Return the blocks of each segment of a module, or of named or numbered blocks.

    With None for the boundaries, one lies before every block with a weight of two or more axes, except the first.
    """
    blocks = _blocks(module, boundaries or ())
    if boundaries is None:
        with_weights = [name for name, block in blocks.items() if any(p.ndim > 1 for p in block.parameters())]
        starts = set(with_weights[1:])
    else:
        starts = _starts(list(blocks), boundaries)
    segments: list[Blocks] = [{}]
    for name, block in blocks.items():
        if name in starts:
            segments.append({})
        segments[-1][name] = block
    if len(segments) < 2:
        raise ValueError(
            f"The network has the blocks {_listed(blocks)}, of which fewer than two have weights, so it has no "
            "boundary where a rule could act. Give it as several blocks, or name boundaries."
        )
    _check_not_shared(segments)
    return segments


def join(blocks: Blocks) -> nn.Module:
    """Return the blocks of a segment as one module: a block that is alone as it is, others in sequence."""
    if len(blocks) == 1:
        return next(iter(blocks.values()))
    sequence = nn.Sequential()
    for name, block in blocks.items():
        sequence.add_module(name.replace(".", "_"), block)
    return sequence


@torch.no_grad()
def measure(segments: Sequence[Blocks], X: Tensor) -> Measured:
    """Return the shapes that an example has between segments, from a forward pass of copies in evaluation mode."""
    with _fixed_draws(X):
        outputs = _outputs(copy.deepcopy(list(segments)), X, training=False)
    *inner, last = outputs
    if last.ndim != 2:
        raise ValueError(
            f"The network returns shape {tuple(last.shape)} for {len(X)} examples; expected ({len(X)}, n_outputs), one "
            "vector of logits per example."
        )
    return [tuple(h.shape[1:]) for h in inner], int(last.shape[1])


@torch.no_grad()
def check_equal_outputs(module: nn.Module, segments: Sequence[Blocks], X: Tensor) -> None:
    """Raise ValueError unless a module computes the sequence of its blocks, in evaluation and in training mode.

    Both run on copies and draw the same random numbers, so that dropout outside the blocks is noticed too.
    """
    for training in (False, True):
        whole, parts = copy.deepcopy((module, list(segments)))
        with _fixed_draws(X):
            expected = _called(whole.train(training), X, type(module).__name__)
        with _fixed_draws(X):
            found = _outputs(parts, X, training=training)[-1]
        if expected.shape != found.shape or not torch.allclose(expected, found, rtol=1e-4, atol=1e-5, equal_nan=True):
            mode = "training" if training else "evaluation"
            raise ValueError(
                f"The forward method of {type(module).__name__} is not the sequence of its children "
                f"{_listed(name for blocks in segments for name in blocks)}: in {mode} mode the outputs differ. Give "
                "an nn.Sequential, or a list of blocks, that computes the same."
            )


def _fixed_draws(X: Tensor) -> Any:
    """Return a context in which torch draws from seed 0, and after which its generators are as before."""
    return _FixedDraws([X.device] if X.is_cuda else [])


class _FixedDraws:
    def __init__(self, devices: list[torch.device]) -> None:
        self._fork = torch.random.fork_rng(devices)

    def __enter__(self) -> None:
        self._fork.__enter__()
        torch.default_generator.manual_seed(0)  # torch.manual_seed reseeds every GPU too

    def __exit__(self, *error: Any) -> None:
        self._fork.__exit__(*error)


def _outputs(segments: Sequence[Blocks], X: Tensor, *, training: bool) -> list[Tensor]:
    """Return the output of each segment."""
    outputs, h = [], X
    for number, blocks in enumerate(segments, start=1):
        for name, block in blocks.items():
            h = _called(block.train(training), h, name)
        outputs.append(h)
        if number < len(segments):
            _check_boundary(h, list(blocks)[-1])
    return outputs


def _check_boundary(h: Tensor, name: str) -> None:
    """Raise ValueError unless a gradient can be chosen for what the block below a boundary returns."""
    if not h.is_floating_point():
        raise ValueError(f"Block '{name}' returns {h.dtype}; a boundary needs real numbers.")
    if h.ndim < 2:
        raise ValueError(
            f"Block '{name}' returns one number per example, shape {tuple(h.shape)}; a boundary needs one vector per "
            "example, or more axes."
        )


def _called(block: nn.Module, h: Tensor, name: str) -> Tensor:
    """Return the output of a block, which is one tensor with one row per example."""
    try:
        output = block(h)
    except Exception as error:  # the user's code may raise anything
        raise ValueError(
            f"Block '{name}' cannot run on its input of shape {tuple(h.shape)} and type {h.dtype} "
            f"({type(error).__name__}: {str(error) or 'no message'}). The first axis is that of the examples."
        ) from error
    if not isinstance(output, Tensor):
        raise ValueError(
            f"Block '{name}' returns a {type(output).__name__}; expected one tensor. Wrap it in a module that returns "
            "the tensor that the next block takes."
        )
    if output.ndim < 1 or len(output) != len(h):
        raise ValueError(
            f"Block '{name}' returns shape {tuple(output.shape)} for {len(h)} examples; the first axis must be that of "
            "the examples."
        )
    return output


def _blocks(module: Any, boundaries: Iterable[str]) -> Blocks:
    """Return the blocks of a module, or of a list, or a dict, of modules, by name."""
    if isinstance(module, nn.Module):
        return _children(module, boundaries)
    pairs = module.items() if isinstance(module, Mapping) else enumerate(module)
    blocks = {}
    for name, block in pairs:
        named = block if isinstance(block, tuple) and len(block) == 2 else (name, block)
        if not isinstance(named[1], nn.Module):
            raise ValueError(f"Block '{named[0]}' is a {type(named[1]).__name__}; expected a torch.nn.Module.")
        if str(named[0]) in blocks:
            raise ValueError(f"Two blocks are named '{named[0]}'; give each a name of its own.")
        blocks[str(named[0])] = named[1]
    return blocks


def _children(module: nn.Module, boundaries: Iterable[str], prefix: str = "") -> Blocks:
    """Return the children of a module by name; lists of modules, and sequences that a boundary lies in, are opened."""
    if own := [*module._parameters, *module._buffers]:
        raise ValueError(
            f"{type(module).__name__} holds '{prefix}{own[0]}' itself, outside its children, so it cannot be cut into "
            "them. Move it into a child."
        )
    blocks: Blocks = {}
    for name, child in module._modules.items():
        if child is None:
            continue
        full = prefix + name
        is_opened = isinstance(child, nn.Sequential) and any(each.startswith(f"{full}.") for each in boundaries)
        if is_opened or isinstance(child, nn.ModuleList | nn.ModuleDict):
            blocks |= _children(child, boundaries, f"{full}.")
        else:
            blocks[full] = child
    return blocks


def _starts(names: list[str], boundaries: Sequence[str]) -> set[str]:
    """Return the blocks that follow the named boundaries."""
    if isinstance(boundaries, str):
        raise ValueError(f"boundaries is the text '{boundaries}'; expected a list of names, such as ['{boundaries}'].")
    for name in boundaries:
        inner = [each for each in names if each.startswith(f"{name}.")]
        if name not in names and not inner:
            raise ValueError(f"There is no block '{name}' to cut after. Choose from: {_listed(names)}.")
        if name == names[-1] or (inner and inner[-1] == names[-1]):
            raise ValueError(
                f"Boundary '{name}' lies after the last block, which is the output. Choose from: {_listed(names[:-1])}."
            )
    if len(set(boundaries)) < len(boundaries):
        raise ValueError(f"boundaries are {_listed(boundaries)}; expected each once.")
    lasts = [[each for each in names if each == name or each.startswith(f"{name}.")][-1] for name in boundaries]
    return {names[names.index(name) + 1] for name in lasts}


def _check_not_shared(segments: Sequence[Blocks]) -> None:
    """Raise ValueError if two segments hold the same parameter, buffer or module with any."""
    owners: dict[int, tuple[int, str]] = {}
    for number, blocks in enumerate(segments):
        for name, block in blocks.items():
            for part, tensor in [*block.named_parameters(), *block.named_buffers()]:
                first, where = owners.setdefault(id(tensor), (number, f"{name}.{part}"))
                if first != number:
                    raise ValueError(
                        f"'{where}' and '{name}.{part}' are one tensor in two segments, which learn from different "
                        "gradients. Give each segment its own, or put no boundary between them."
                    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
