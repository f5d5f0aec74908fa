"""Sections added by the user to a finished report."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.comparison.analysis_plan import OUTCOME, read_outcome
from analysis.execution.cache import Cache
from analysis.report.user_sections import (
    UserSection,
    insert_sections,
    make_section,
    own_titles,
    read_sections,
    write_sections,
)
from checkpoints.storage.commit import replace_file
from checkpoints.storage.lock import Lock

if TYPE_CHECKING:
    from analysis.comparison.result import ComparisonResult

__all__ = ["Report"]

_PAGE = "report.html"


class Report:
    """The report of a finished analysis or comparison, to which sections of your own can be added.

    The sections are stored beside the report, in ``report_sections.json``, and shown again whenever the report is made
    anew. They are shown as they were added: a table or figure that follows from the results of each analysis is
    registered instead (``analysis.register``).

    Parameters
    ----------
    source : path or ComparisonResult
        The folder that ``repsim analyze`` or ``repsim compare`` wrote, or the result of ``analyze_run``,
        ``compare_runs`` and so on.

    Raises
    ------
    FileNotFoundError
        If the folder holds no finished report.
    Damaged
        If the stored sections cannot be read.

    Examples
    --------
    >>> report = Report("runs/comparison")  # doctest: +SKIP
    >>> report.add("Remarks", "<p>Seed 3 was trained on another machine.</p>")  # doctest: +SKIP
    >>> report.add("Best layers", table, caption="By accuracy on test.", before="Remarks")  # doctest: +SKIP
    >>> report.titles  # doctest: +SKIP
    ['Best layers', 'Remarks']
    """

    def __init__(self, source: str | Path | ComparisonResult) -> None:
        self.folder = Path(source) if isinstance(source, str | Path) else _folder_of(source)
        self._check()
        read_sections(self.folder)

    @property
    def path(self) -> Path:
        """The page, which works offline."""
        return self.folder / _PAGE

    @property
    def titles(self) -> list[str]:
        """Titles of the added sections, in order."""
        return [section.title for section in read_sections(self.folder)]

    def __repr__(self) -> str:
        """Return the path and the titles."""
        return f"Report({str(self.path)!r}, added sections: {self.titles})"

    def add(
        self,
        title: str,
        content: Any,
        *,
        caption: str = "",
        alt: str = "",
        before: str | None = None,
        replace: bool = False,
    ) -> None:
        """Add a section to the page; nothing else of the analysis is written or computed.

        Parameters
        ----------
        title : str
            Heading of the section, at most 200 characters; the navigation of the page links it.
        content : DataFrame, matplotlib Figure or Axes, or str
            A table of at most 100,000 cells, whose texts are escaped. A figure, shown as SVG, or, if that is larger
            than 1 MB, as PNG. Text is HTML, shown in a frame of its own: its scripts can neither reach the page nor
            load anything.
        caption : str, optional
            Text below the content.
        alt : str, optional
            Of a figure: what it shows, in words; the caption, or else the title, by default.
        before : str, optional
            Title of the added section in front of which this one is placed; the end by default.
        replace : bool, default False
            Whether a section of the same title is replaced. It keeps its place unless ``before`` is given.

        Raises
        ------
        ValueError
            If the title is taken, also by a section of the page itself; if ``before`` is the title of no section; or if
            the content is too large.
        TypeError
            If the content is of another type.
        Locked
            If an analysis is writing the folder.
        """
        section = make_section(title, content, caption, alt)
        if title.strip().casefold() in {each.casefold() for each in own_titles(self.path)}:
            raise ValueError(f"'{title}' is the title of a section of the page itself. Choose another title.")
        with self._editing() as sections:
            _place(sections, section, before, replace=replace)

    def remove(self, title: str) -> None:
        """Remove an added section from the page; ValueError if there is none of this title."""
        with self._editing() as sections:
            del sections[_position(sections, title)]

    @contextmanager
    def _editing(self) -> Iterator[list[UserSection]]:
        """Yield the sections to change; then store them and show them in the page."""
        lock = _lock(self.folder)
        try:
            self._check()
            sections = read_sections(self.folder)
            yield sections
            page = insert_sections(self.path, sections)
            write_sections(self.folder, sections)
            self._replace_page(page)
        finally:
            lock.release()

    def _replace_page(self, page: bytes) -> None:
        """Write the page, and its new size into ``analysis.json``, which otherwise counts it as changed."""
        outcome = read_outcome(self.folder)
        assert outcome is not None  # checked under the lock
        replace_file(self.path, page)
        outcome["files"][_PAGE] = len(page)
        replace_file(self.folder / OUTCOME, (json.dumps(outcome, indent=1) + "\n").encode())

    def _check(self) -> None:
        if read_outcome(self.folder) is None or not self.path.is_file():
            inside = self.folder / "analysis"
            advice = f"Give {inside}" if read_outcome(inside) else "Make one with repsim analyze or repsim compare"
            raise FileNotFoundError(f"{self.folder} holds no finished report. {advice}.")


def _folder_of(result: Any) -> Path:
    from analysis.comparison.result import ComparisonResult

    if not isinstance(result, ComparisonResult):
        raise TypeError(
            f"A report is opened by the folder of an analysis, or by its result; this is a {type(result).__name__}."
        )
    return result.tables.folder


def _lock(folder: Path) -> Lock:
    """Take the lock that an analysis holds while it writes the folder."""
    cache = Cache(folder)
    cache.make_folder()
    return Lock(cache.path / "lock")


def _place(sections: list[UserSection], section: UserSection, before: str | None, *, replace: bool) -> None:
    """Put a section into its place in the list."""
    taken = [index for index, each in enumerate(sections) if each.title == section.title]
    if taken and not replace:
        raise ValueError(
            f"The report has a section '{section.title}' already. Choose another title, or give replace=True."
        )
    if before == section.title:
        raise ValueError(f"Section '{before}' cannot be placed before itself.")
    place = len(sections) if before is None else _position(sections, before)
    if taken and before is None:
        sections[taken[0]] = section
        return
    sections.insert(place, section)
    if taken:
        del sections[taken[0] + (taken[0] >= place)]


def _position(sections: Sequence[UserSection], title: str) -> int:
    titles = [section.title for section in sections]
    if title not in titles:
        known = f"Those that were added: {', '.join(titles)}." if titles else "None has been added."
        raise ValueError(f"The report has no added section '{title}'. {known}")
    return titles.index(title)
