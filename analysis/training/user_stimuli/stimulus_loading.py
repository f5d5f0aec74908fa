"""Stimuli of a user, from whatever they are given as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from analysis.config.stimulus_files import StimulusConfig
from analysis.training.user_networks.model_spec import build_object
from analysis.training.user_stimuli.array_stimuli import hdf5_stimuli, npy_stimuli, npz_stimuli
from analysis.training.user_stimuli.image_folders import image_stimuli
from analysis.training.user_stimuli.stimulus_columns import GivenStimuli, UserStimuli, stimuli_of
from analysis.training.user_stimuli.text_stimuli import TEXT_FORMATS, text_stimuli
from checkpoints import Stimuli
from checkpoints.stimulus_inputs.input_source import InputSource
from checkpoints.stimulus_inputs.opening import as_source
from checkpoints.stimulus_targets import as_groups

__all__ = ["load_stimuli"]

ARRAY_FORMATS: dict[str, Callable[[Path, Callable[[str], None]], GivenStimuli]] = {
    ".npz": npz_stimuli,
    ".npy": npy_stimuli,
    ".h5": hdf5_stimuli,
    ".hdf5": hdf5_stimuli,
}


def load_stimuli(data: Any, say: Callable[[str], None] | None = None) -> UserStimuli:
    """Return the stimuli that a file, a folder, a data set or a loader holds.

    Those that are not in memory are read once now, for their hash.

    Parameters
    ----------
    data : path, str, StimulusConfig, Stimuli, Dataset, DataLoader or InputSource
        An ``.npz`` file with an array ``X``, the network's only argument, or its arguments by name, such as
        ``input_ids`` and ``attention_mask``, with one row for each stimulus. Optional arrays are ``y`` (labels as
        numbers or text, of shape (n,) or (n, 1), or one-hot rows), ``ids`` (text), ``split`` ("train", "validation" or
        "test") and ``groups`` (text or numbers). An ``.h5`` file with datasets of these names. An ``.npy`` file with
        ``X`` alone. A folder of images, see ``image_stimuli``. Or ``module:factory``, which returns a data set, a
        loader or Stimuli. A StimulusConfig names one of these and how images and texts are read. If it says that rows
        are tokens (see ``Stimuli.of_tokens``), ``token_mask`` of shape (n, n_positions), which the network is not
        shown, or else ``attention_mask`` says which; by default all are. ``y`` may then have that shape too, and the
        split is by sequence. See ``stimuli_of`` for what is not given.
    say : callable, optional
        Called with each sentence about how the data were understood.

    Raises
    ------
    ValueError, OSError
        If the data are missing or not understood, or as ``Stimuli.of``.
    """
    config = data if isinstance(data, StimulusConfig) else StimulusConfig()
    given = data if config is not data else config.data
    say = say or (lambda _: None)
    if isinstance(given, str) and ":" in given and not Path(given).exists():
        _check_no_form(given, config)
        found = replace(_of_object(build_object(given, "Data", _is_data), say), name=given)
    else:
        found = _of_path(Path(given), config, say) if isinstance(given, str | Path) else _of_object(given, say)
    return stimuli_of(found, config) if isinstance(found, GivenStimuli) else _with_targets(found, config)


def _with_targets(found: UserStimuli, config: StimulusConfig) -> UserStimuli:
    """Return stimuli that are complete but for the targets of a table."""
    if config.rows == "tokens" and found.stimuli.mask is None:
        raise ValueError("The data are Stimuli whose rows are not tokens. Make them by Stimuli.of_tokens.")
    table = config.target_table
    if table is None:
        return found
    stimuli = table.added_to(found.stimuli)
    as_groups(stimuli.groups, stimuli.split)  # raises if the split divides one
    return replace(found, stimuli=stimuli)


def _of_path(path: Path, config: StimulusConfig, say: Callable[[str], None]) -> GivenStimuli:
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file {path}; expected an .npz file, another file or folder of stimuli, or module:factory."
        )
    _check_form(path, config)
    if path.is_dir():
        return image_stimuli(path, _transform(config.transform), say)
    if config.tokenizer is not None:
        return text_stimuli(path, config.tokenizer, config.max_length, say)
    if (suffix := path.suffix.lower()) in ARRAY_FORMATS:
        return ARRAY_FORMATS[suffix](path, say)
    if suffix in TEXT_FORMATS:
        raise ValueError(f"{path} holds texts; give the --tokenizer folder that makes tokens of them.")
    expected = ", ".join({**ARRAY_FORMATS, **TEXT_FORMATS})
    raise ValueError(f"{path} is no file of stimuli; expected {expected}, or a folder of images.")


def _check_form(path: Path, config: StimulusConfig) -> None:
    """Raise ValueError if a setting does not belong to the kind of file."""
    if config.transform is not None and not path.is_dir():
        raise ValueError(f"--transform belongs to a folder of images, and {path} is a file; leave it out.")
    if config.tokenizer is not None and path.is_dir():
        raise ValueError(f"--tokenizer belongs to a file of texts, and {path} is a folder; leave it out.")
    if config.max_length is not None and config.tokenizer is None:
        raise ValueError("--max-length belongs to --tokenizer; leave it out.")


def _check_no_form(data: str, config: StimulusConfig) -> None:
    """Raise ValueError if there is a setting of files, and the data are none."""
    for name, owner in (("transform", "a folder of images"), ("tokenizer", "a file of texts"), ("max_length", "texts")):
        if getattr(config, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} belongs to {owner}, and {data} returns what the network takes; leave it out.")


def _of_object(data: Any, say: Callable[[str], None]) -> GivenStimuli | UserStimuli:
    if isinstance(data, UserStimuli):
        return data
    if isinstance(data, Stimuli):
        data.first_inputs(1)  # raises if they were read from a run
        return UserStimuli(data, "the stimuli")
    source = as_source(data, with_labels=True)
    if source is None:
        raise ValueError(
            f"The data are of type {type(data).__name__}; expected a path, a data set, a loader, or Stimuli.of(...) of "
            "your arrays."
        )
    kind = type(data).__name__
    say(f"Reading {len(source)} stimuli of the {kind} once, for their hash.")
    labels = source.labels()
    columns = {} if labels is None else {"y": labels}
    return GivenStimuli(source, columns, kind, _class_names(data))


def _class_names(data: Any) -> list[str] | None:
    """Return the names of classes that a data set lists, as those of torchvision do."""
    dataset = data.dataset if isinstance(data, DataLoader) else data
    names = getattr(dataset, "classes", None)
    is_list = isinstance(names, list | tuple | np.ndarray) and all(isinstance(name, str) for name in names)
    return list(names) if is_list and names is not None and len(set(names)) == len(names) else None


def _transform(spec: str | None) -> Callable[[Any], Any] | None:
    if spec is None:
        return None
    function = build_object(spec, "Transform", None)
    if not callable(function):
        raise ValueError(f"Transform '{spec}' is of type {type(function).__name__}; expected a function of an image.")
    return function


def _is_data(target: Any) -> bool:
    """Return whether an object is data already, and no function that returns them."""
    if isinstance(target, type):
        return False
    return hasattr(target, "__getitem__") or isinstance(target, InputSource | Stimuli) or not callable(target)
