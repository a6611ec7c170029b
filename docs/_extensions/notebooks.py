"""The notebooks of examples/ as pages: copied beside the guides, with their data, and executed."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _copy(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "notebooks"
    folder.mkdir(exist_ok=True)
    for file in (*EXAMPLES.glob("*.ipynb"), EXAMPLES / "pictures.py"):
        if not (folder / file.name).exists() or not filecmp.cmp(file, folder / file.name):
            shutil.copy(file, folder)
    data = folder / "data"
    if not data.exists():
        data.symlink_to(EXAMPLES / "data", target_is_directory=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy before Sphinx looks for pages."""
    app.connect("builder-inited", _copy, priority=100)
    return {"parallel_read_safe": True}
