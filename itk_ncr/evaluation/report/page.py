"""Self-contained HTML pages from templates, style and script."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itk_ncr.evaluation.summary import NOTICE
from itk_ncr.images import atomic_write

if TYPE_CHECKING:
    from jinja2 import Environment

FRAME_HEIGHT = 720  # pixels in a notebook: toolbar, planes and verdict of a pair


@dataclass(frozen=True)
class Page:
    """An HTML document that needs no other file and no network.

    Attributes
    ----------
    text : str
        The document.
    """

    text: str

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page atomically.

        Parameters
        ----------
        path : path
            Replaced if it exists.

        Raises
        ------
        ImageWriteError
            If it cannot be written; nothing is left behind.
        """
        # Undecodable text (a file name of a foreign encoding) is shown as its bytes.
        data = self.text.encode("utf-8", "backslashreplace")
        target = Path(path)
        with atomic_write(target, target.suffix) as temporary:
            temporary.write_bytes(data)

    def __repr__(self) -> str:
        """Its size; the document is in ``text``."""
        return f"<Page of {len(self.text) / 1e6:.1f} MB; save it with .save(path)>"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks."""
        text = self.text.encode("utf-8", "backslashreplace").decode("utf-8")
        return (
            f'<iframe srcdoc="{escape(text)}" width="100%" height="{FRAME_HEIGHT}" '
            'style="border:0" sandbox="allow-scripts"></iframe>'
        )


def make_page(template: str, scripts: Sequence[str], **content: Any) -> Page:
    """Render a template with its scripts.

    Everything in ``content`` is escaped: names of files and patients are never markup.
    """
    page = _environment().get_template(template)
    text: str = page.render(
        style=_asset("report.css"),
        script="\n".join(_asset(name) for name in ("page.js", *scripts)),
        notice=NOTICE,
        **content,
    )
    return Page(text)


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> str:
        folder = resources.files(__package__).joinpath("templates")
        return folder.joinpath(name).read_text(encoding="utf-8")

    return Environment(
        loader=FunctionLoader(load),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
