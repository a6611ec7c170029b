"""Templates, style and script become one file that needs no other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from itk_ncr.errors import MissingDependencyError
from itk_ncr.evaluation.summary import NOTICE
from itk_ncr.images import replacing


def write_page(
    path: str | os.PathLike[str], template: str, scripts: Sequence[str], **content: Any
) -> None:
    """Render a template with its scripts and write it; complete, or not at all.

    Everything in ``content`` is escaped: names of files and patients are nobody's markup.

    Raises
    ------
    MissingDependencyError
        If Jinja2 is not installed.
    """
    page = _environment().get_template(template)
    text = page.render(
        style=_asset("report.css"),
        script="\n".join(_asset(name) for name in ("page.js", *scripts)),
        notice=NOTICE,
        **content,
    )
    # What is no text (a file name of a foreign encoding) is shown as its bytes.
    data = text.encode("utf-8", "backslashreplace")
    target = Path(path)
    with replacing(target, target.suffix) as temporary:
        temporary.write_bytes(data)


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _environment() -> Any:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependencyError(
            "a report needs Jinja2, which is not installed. "
            'Install it with: pip install "itk_ncr[report]"'
        ) from error

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
