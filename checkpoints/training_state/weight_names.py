"""Names of weights: how those of a file may correspond to those of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

__all__ = ["Renaming", "renamings"]

_WRAPPERS = frozenset(
    ("_orig_mod", "module", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
)  # attributes of torch.compile, DistributedDataParallel, Fabric and FSDP


@dataclass(frozen=True)
class Renaming:
    """A correspondence of names.

    Attributes
    ----------
    names : mapping of str to str
        The model's name for each name of the file; names that the model does not have are absent.
    removed : str
        Prefix of the names of the file that those of the model lack, without the last dot.
    added : str
        Prefix of the names of the model that those of the file lack, without the last dot.
    wrappers : tuple of str
        Parts that were taken out wherever they occur in a name of the file.
    """

    names: Mapping[str, str]
    removed: str = ""
    added: str = ""
    wrappers: tuple[str, ...] = ()

    def is_inside(self, name: str) -> bool:
        """Return whether a name of the file has the prefix that is removed."""
        return not self.removed or self._shortened(name).startswith(f"{self.removed}.")

    def _shortened(self, name: str) -> str:
        return _without_wrappers(name) if self.wrappers else name

    def __str__(self) -> str:
        """Return what is done to the names of the file, as a part of a sentence, or nothing."""
        done = [f"without '{part}' in the names" for part in self.wrappers]
        done += [f"without the prefix '{self.removed}.'"] * bool(self.removed)
        done += [f"with the prefix '{self.added}.' added"] * bool(self.added)
        return ", ".join(done)


def renamings(given: Iterable[str], wanted: Iterable[str]) -> Iterator[Renaming]:
    """Yield every correspondence of names: the names as they are first, then without wrappers or prefixes.

    Parameters
    ----------
    given, wanted : iterable of str
        Names in the file and in the model.
    """
    given, wanted = tuple(given), tuple(wanted)
    known = set(wanted)
    yield Renaming({name: name for name in given if name in known})
    found = sorted({part for name in given for part in name.split(".")} & _WRAPPERS)
    yield from _with_prefixes(given, wanted, str, ())
    if any(_WRAPPERS.intersection(name.split(".")) for name in (*given, *wanted)):
        yield from _with_prefixes(given, wanted, _without_wrappers, tuple(found))


def _with_prefixes(
    given: tuple[str, ...], wanted: tuple[str, ...], shorten: Callable[[str], str], wrappers: tuple[str, ...]
) -> Iterator[Renaming]:
    short, targets = ({shorten(name): name for name in names} for names in (given, wanted))
    if len(short) < len(given) or len(targets) < len(wanted):
        return  # two names would become one
    for added in _common_prefixes(targets):
        inner = {name.removeprefix(f"{added}.") if added else name: target for name, target in targets.items()}
        by_prefix: dict[str, dict[str, str]] = defaultdict(dict)
        for name, original in short.items():
            for prefix, rest in _splits(name):
                if rest in inner:
                    by_prefix[prefix][original] = inner[rest]
        for prefix, names in by_prefix.items():
            yield Renaming(names, prefix, added, wrappers)


def _common_prefixes(names: Iterable[str]) -> list[str]:
    """Return every prefix that all names share, the empty one first."""
    parts = [name.split(".")[:-1] for name in names]
    shared = [""]
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(".".join(filter(None, (shared[-1], level[0]))))
    return shared


def _splits(name: str) -> Iterator[tuple[str, str]]:
    yield "", name
    parts = name.split(".")
    for count in range(1, len(parts)):
        yield ".".join(parts[:count]), ".".join(parts[count:])


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
