"""One self-contained HTML page of a comparison: every number leads to its runs, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fgsam.files import write_atomically
from fgsam.report.page_plot import PLOT_WIDTH
from fgsam.report.page_view import View

if TYPE_CHECKING:
    import jinja2

    from fgsam.report.comparison import Comparison

NAME = "index.html"
TEMPLATES = Path(__file__).parent / "template"


@dataclass(frozen=True)
class Picture:
    """A figure as the page holds it.

    Attributes:
        name: Of its kind.
        caption: What it shows.
        alt: The same in short, for those who cannot see it.
        source: Its SVG, in a ``data:`` address: as an image it can neither run nor load anything.
    """

    name: str
    caption: str
    alt: str
    source: str


def write_page(comparison: Comparison, folder: str | Path) -> Path:
    """Write ``index.html`` into a folder and return its path; equal results give equal bytes.

    Args:
        comparison: What to show.
        folder: An existing folder.

    Raises:
        RuntimeError: If jinja2 is not installed.
        OSError: If the folder cannot be written to.
    """
    path = Path(folder) / NAME
    write_atomically(path, page_html(comparison).encode())
    return path


def page_html(comparison: Comparison) -> str:
    """Return the page of a comparison.

    A content security policy allows the page's own style and script by their digests and nothing else, so that no text
    of a grid could do anything, were it ever to slip through the escaping.

    Raises:
        RuntimeError: If jinja2 is not installed.
    """
    environment = _environment()
    css, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = {
        "default-src": "'none'",
        "style-src": _digest(css),
        "script-src": _digest(script),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return environment.get_template("page.html.jinja").render(
        view=View(comparison.results, comparison.findings, comparison.tables),
        pictures=[*_pictures(comparison)],
        policy="; ".join(f"{key} {value}" for key, value in policy.items()),
        css=css,
        script=script,
        width=PLOT_WIDTH,
    )


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise RuntimeError(
            "Expected jinja2 to be installed for the page of a report. Run: pip install 'fgsam[report]'"
        ) from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _pictures(comparison: Comparison) -> Iterator[Picture]:
    """Draw every figure that there are results for."""
    from fgsam.report.drawing import svg
    from fgsam.report.figures import FIGURES

    for name, figure in comparison.figures.items():
        caption = FIGURES[name].caption
        yield Picture(name, caption, caption.partition(". ")[0], _address(svg(figure)))


def _address(content: str) -> str:
    """Write an SVG as an address without any letter that means something in an HTML attribute of double quotes.

    Where its letters are shapes, quotes only stand around the values of attributes, so that single ones do as well. A
    quarter shorter than base64.
    """
    unindented = re.sub(r"\s*\n\s*", "\n", content)
    return "data:image/svg+xml," + quote(unindented.replace('"', "'"), safe=" /:;=,+()'!*@$?[]{}|")
