"""Settings of stimuli that people bring: where they are, what a row is, and their targets and groups."""

from dataclasses import dataclass

from analysis.config.target_table import TargetTable, chosen_table
from repsim.settings import Settings, setting

__all__ = ["StimulusConfig"]


@dataclass(frozen=True, kw_only=True)
class StimulusConfig(Settings):
    """How the stimuli of a network that was trained elsewhere are read; each field is described by its help text."""

    data: str | None = setting(
        None,
        help="Stimuli of the model: an .npz, .npy or .h5 file, a folder of images with one folder per class, texts for "
        "--tokenizer, or module:factory of a torch Dataset or DataLoader. For RUN: an .npz file, or a data set with as "
        "many features.",
        shown="the run's",
    )
    transform: str | None = setting(
        None,
        help="What is made of each image of a folder: module:function of a PIL image in RGB, or "
        "'module:factory(size=64)' that returns one. Its code runs.",
        shown="numbers from 0 to 1, shape (3, height, width)",
    )
    tokenizer: str | None = setting(
        None, help="Folder of a Hugging Face tokenizer for texts (.csv, .jsonl, .txt or .npz). Nothing is downloaded."
    )
    max_length: int | None = setting(
        None, help="Tokens after which texts are cut.", lowest=1, shown="none, all texts are padded to the longest"
    )
    rows: str = setting(
        "stimuli",
        help="What a row of the model's layers is: one of the stimuli, or one of their tokens that are not padding "
        "by the array attention_mask or token_mask of --data.",
        choices=("stimuli", "tokens"),
    )
    targets: str | None = setting(
        None,
        help="A .csv file of further targets of the model's stimuli: one row per stimulus with its id, one column per "
        "target (see docs/stimuli.md).",
    )
    groups: str | None = setting(
        None,
        help="Column of --targets with the group of each stimulus, such as its speaker; the split must not divide one.",
    )

    @property
    def target_table(self) -> TargetTable | None:
        """The table of further targets, if there is one; an error if it cannot be read."""
        return chosen_table(self.targets, self.groups)
