"""Links out of docs/, right where pages are read as files, lead to what stands for those files on the site."""

import os
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

# A page that stands for a file includes it, with its links as they are seen from where it is.
ELSEWHERE = {
    "README.md": "start.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "benchmarks/RESULTS.md": "project/results.md",
    "benchmarks/RULES.md": "project/rules.md",
    "tests/faults/README.md": "project/faults.md",
    "examples": "gallery/index.rst",
}
ELSEWHERE |= {f"examples/{path.name}": f"gallery/{path.stem}.rst" for path in (ROOT / "examples").glob("*.py")}


def setup(app):
    """Connect what is defined here."""
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def relink(text, folder):
    """Return the text of a page whose links out of docs/ lead to the pages of the site that stand for those files.

    Parameters
    ----------
    text : str
    folder : Path
        Of the page, or of the file that it includes, from the root.
    """

    def target(found):
        path, _, fragment = found[1].partition("#")
        if "://" in path or not path:
            return found[0]
        name = os.path.relpath((ROOT / folder / path).resolve(), ROOT)
        if name not in ELSEWHERE:
            return found[0]
        return f"](/{ELSEWHERE[name]}{'#' + fragment if fragment else ''})"

    return re.sub(r"\]\(([^)\s]+)\)", target, text)


def read_page(app, name, content):
    """Mend the links of a page in docs/."""
    if Path(app.env.doc2path(name)).suffix == ".md":
        content[0] = relink(content[0], Path("docs", name).parent)


def read_included(app, relative_path, parent, content):
    """Mend the links of a file that a page includes."""
    path = (ROOT / "docs" / relative_path).resolve()
    if path.suffix == ".md":
        content[0] = relink(content[0], path.parent.relative_to(ROOT))
