"""Sections that a user adds to a report: tables, figures and HTML, stored in one JSON file."""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from checkpoints import Damaged
from checkpoints.storage.commit import replace_file
from checkpoints.storage.manifest import encode_json, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = [
    "SECTIONS_FILE",
    "UserSection",
    "insert_sections",
    "make_section",
    "own_titles",
    "read_sections",
    "write_sections",
]

SECTIONS_FILE = "report_sections.json"
_FORMAT = {"format": "repsim-report-sections", "format_version": 1}
_MOST_BYTES = 12_000_000  # of all sections of a report
_MOST_CELLS = 100_000  # of a table
_MOST_SVG = 1_000_000  # bytes; a larger figure becomes a PNG
_MOST_CHARACTERS = 200  # of a title
_PARTS = ("links", "sections")  # of the page; the template has a place for each

# HTML is shown in a frame without rights. Its policy holds also if that of the page changes; its height, with that of a
# scroll bar, is told to the page, which cannot look inside.
_FRAME_START = (
    '<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src '
    "'unsafe-inline' 'unsafe-eval' blob:; style-src 'unsafe-inline'; img-src data: blob:; font-src data:\">"
    "<style>body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: #1d2433; } body > :first-child { "
    "margin-top: 0; } body > :last-child { margin-bottom: 0; }</style><script>"
    "new ResizeObserver(() => { const { offsetHeight, clientHeight } = document.documentElement; "
    "parent.postMessage({ heightOfSection: offsetHeight + innerHeight - clientHeight }, '*'); })"
    ".observe(document.documentElement);</script>"
)


@dataclass(frozen=True, kw_only=True)
class UserSection:
    """One section of the user.

    Attributes
    ----------
    title : str
        Heading, and the words of the link to it.
    kind : str
        A key of ``_CHECKS``: "table", "svg", "png" or "html".
    content : object
        A table as a dict of ``columns`` and ``rows`` of text and numbers; an SVG or HTML as text; a PNG in base 64.
    caption, alt : str
        The text below it, and what a picture shows, in words.
    """

    title: str
    kind: str
    content: Any
    caption: str = ""
    alt: str = ""

    @property
    def source(self) -> str:
        """Data URL of a picture, in which scripts do not run."""
        if self.kind == "png":
            return f"data:image/png;base64,{self.content}"
        return f"data:image/svg+xml;base64,{base64.b64encode(self.content.encode()).decode()}"

    @property
    def frame(self) -> str:
        """The document of a frame that shows HTML."""
        return f"{_FRAME_START}{self.content}"

    @property
    def table(self) -> str:
        """A table as HTML, with its texts escaped."""
        import pandas as pd

        rows = [["" if cell is None else cell for cell in row] for row in self.content["rows"]]
        return pd.DataFrame(rows, columns=self.content["columns"]).to_html(border=0, escape=True, index=False)


# From what people have


def make_section(title: str, content: Any, caption: str = "", alt: str = "") -> UserSection:
    """Return a section of a DataFrame, a matplotlib figure or its axes, or HTML as text.

    Raises
    ------
    TypeError, ValueError
        If the title or content is of another type, or empty or too large; or if ``alt`` is given without a figure.
    """
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    _check_texts(title, caption, alt)
    if isinstance(content, Axes):
        content = content.get_figure(root=True)
    if isinstance(content, Figure):
        kind, picture = _picture(content, title)
        return UserSection(title=title, kind=kind, content=picture, caption=caption, alt=alt or caption or title)
    if alt:
        raise ValueError(f"alt describes a figure in words, and section '{title}' is none. Use caption instead.")
    if isinstance(content, pd.DataFrame):
        return UserSection(title=title, kind="table", content=_cells(content, title), caption=caption)
    if not isinstance(content, str):
        raise TypeError(
            f"Section '{title}' is of type {type(content).__name__}; expected a pandas DataFrame, a matplotlib figure "
            "or axes, or HTML as text."
        )
    if not content.strip():
        raise ValueError(f"The HTML of section '{title}' is empty.")
    return UserSection(title=title, kind="html", content=content, caption=caption)


def _check_texts(title: str, caption: str, alt: str) -> None:
    for name, text in {"title": title, "caption": caption, "alt": alt}.items():
        if not isinstance(text, str):
            raise TypeError(f"The {name} of a section is text; this one is of type {type(text).__name__}.")
    if not title.strip() or not title.isprintable() or len(title) > _MOST_CHARACTERS:
        raise ValueError(
            f"The title of a section is one line of 1 to {_MOST_CHARACTERS} printable characters; this one is "
            f"{title[:_MOST_CHARACTERS]!r}."
        )


def _cells(frame: DataFrame, title: str) -> dict[str, Any]:
    """Return a table as columns and rows; an index that is more than a count of the rows becomes the first columns."""
    import pandas as pd

    if frame.size > _MOST_CELLS:
        raise ValueError(
            f"The table of section '{title}' has {frame.size} cells; a section shows at most {_MOST_CELLS}. Give the "
            "part that matters, such as table.head(100)."
        )
    index, levels = frame.index, range(0 if isinstance(frame.index, pd.RangeIndex) else frame.index.nlevels)
    names = ["" if index.names[k] is None else str(index.names[k]) for k in levels]
    names += [", ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame]
    columns = [index.get_level_values(k).tolist() for k in levels]
    columns += [frame.iloc[:, k].tolist() for k in range(frame.shape[1])]
    rows = zip(*columns, strict=True)
    return {"columns": names, "rows": [[_plain(cell) for cell in row] for row in rows]}


def _plain(value: Any) -> Any:
    """Return a cell as text, a finite number or None."""
    import pandas as pd

    if isinstance(value, str | bool | int):
        return value
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return value if isinstance(value, float) and abs(value) != float("inf") else str(value)


def _picture(figure: Figure, title: str) -> tuple[str, str]:
    """Return a figure as "svg" and its text, or, if that is large, as "png" in base 64."""
    import matplotlib as mpl

    with TemporaryDirectory() as folder, mpl.rc_context({"svg.hashsalt": title}):
        svg, png = Path(folder, "figure.svg"), Path(folder, "figure.png")
        figure.savefig(svg, metadata={"Date": None}, bbox_inches="tight")
        if svg.stat().st_size <= _MOST_SVG:
            return "svg", svg.read_text(encoding="utf-8")
        figure.savefig(png, dpi=150, bbox_inches="tight")
        return "png", base64.b64encode(png.read_bytes()).decode()


# The file


def read_sections(folder: Path) -> list[UserSection]:
    """Return the sections of the report in a folder, in order.

    Raises
    ------
    Damaged
        If the file of sections is not one that ``write_sections`` wrote.
    """
    path = folder / SECTIONS_FILE
    if not path.exists():
        return []
    content = read_json(path)
    try:
        if not isinstance(content, dict) or not _FORMAT.items() <= content.items():
            raise ValueError("it is of another format")
        sections = [UserSection(**entry) for entry in content["sections"]]
        for section in sections:
            _check_section(section)
        if len({section.title for section in sections}) < len(sections):
            raise ValueError("two sections have one title")
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(
            f"{path} is not a file of report sections ({error}). Move it away, and add the sections again."
        ) from error
    return sections


def _check_section(section: UserSection) -> None:
    _check_texts(section.title, section.caption, section.alt)
    if section.kind not in _CHECKS or not _CHECKS[section.kind](section.content):
        raise ValueError(f"the content of '{section.title}' cannot be shown")


def _is_table(content: Any) -> bool:
    if not isinstance(content, dict) or set(content) != {"columns", "rows"}:
        return False
    columns, rows = content["columns"], content["rows"]
    cells = [*columns, *(cell for row in rows for cell in row)]
    return all(len(row) == len(columns) for row in rows) and all(
        isinstance(cell, str | bool | int | float | None) for cell in cells
    )


def _is_base64(content: Any) -> bool:
    try:
        return isinstance(content, str) and bool(base64.b64decode(content, validate=True))
    except binascii.Error:
        return False


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "table": _is_table,
    "svg": lambda content: isinstance(content, str),
    "png": _is_base64,
    "html": lambda content: isinstance(content, str),
}


def write_sections(folder: Path, sections: Sequence[UserSection]) -> None:
    """Replace the sections of the report in a folder; ValueError if they are too large together."""
    content = encode_json({**_FORMAT, "sections": [asdict(section) for section in sections]}) if sections else b""
    if len(content) > _MOST_BYTES:
        raise ValueError(
            f"The sections of the report would have {len(content) / 1e6:.1f} MB together; at most "
            f"{_MOST_BYTES / 1e6:.0f} MB are kept. Remove one, or give a smaller table or picture."
        )
    if sections:
        replace_file(folder / SECTIONS_FILE, content)
    else:
        (folder / SECTIONS_FILE).unlink(missing_ok=True)


# The page


def own_titles(page: Path) -> set[str]:
    """Return the headings of the sections of a report that are not the user's, and the words of the links to them."""
    content = page.read_bytes()
    for part in _PARTS:
        start, end = _marks(part)
        content = content.partition(start)[0] + content.partition(end)[2]
    navigation = content.partition(b"<nav")[2].partition(b"</nav>")[0]
    found = re.findall(rb"<h2>(.*?)</h2>", content) + re.findall(rb"<a [^>]*>(.*?)</a>", navigation)
    return {html.unescape(each.decode("utf-8", "replace")) for each in found}


def _marks(part: str) -> tuple[bytes, bytes]:
    """Return the comments around the place of the user's sections or of the links to them."""
    return f"<!-- begin of the user: {part} -->".encode(), f"<!-- end of the user: {part} -->".encode()


def insert_sections(page: Path, sections: Sequence[UserSection]) -> bytes:
    """Return the content of a report with these sections in place of those that it has.

    Raises
    ------
    ValueError
        If the page has no place for sections.
    """
    from analysis.report.page import render

    content = page.read_bytes()
    for part in _PARTS:
        start, end = _marks(part)
        if content.count(start) != 1 or content.count(end) != 1:
            raise ValueError(
                f"{page} has no place for sections of yours; an earlier version of repsim wrote it. Make it again with "
                "the command at its end."
            )
        before, after = content.partition(start)[0], content.partition(end)[2]
        shown = render("user_sections.html.j2", part=part, sections=sections) if sections else ""
        content = before + start + shown.encode("utf-8", "backslashreplace") + end + after
    return content
