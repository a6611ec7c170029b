"""Pages of the API reference: one per public subpackage, every public name on it.

Public are the names in ``__all__`` of ``itk_ncr`` and of its subpackages; of a module without
``__all__``, what it defines without a leading underscore.
"""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import itk_ncr

if TYPE_CHECKING:  # the tests read these pages without Sphinx
    from sphinx.application import Sphinx

ORDER = (  # as one meets them; others follow by name
    "images", "geometry", "registration", "filters", "sitk", "evaluation", "runs",
)  # fmt: skip
# Not in ``itk_ncr.__all__``: they import ITK, nipype and pytest.
ASIDE = {"filters", "nipype", "testing"}
HEADINGS = {"class": "Classes", "function": "Functions", "data": "Constants"}


def rooms() -> list[str]:
    """The public subpackages and modules; ``ASIDE`` needs more than the package brings."""
    found = {name for name in itk_ncr.__all__ if inspect.ismodule(getattr(itk_ncr, name))}
    found |= ASIDE
    return [name for name in ORDER if name in found] + sorted(found - set(ORDER))


def public_names(room: ModuleType) -> list[str]:
    """What a room offers."""
    if hasattr(room, "__all__"):
        return list(room.__all__)
    return [
        name
        for name, value in vars(room).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room.__name__
    ]


def kind(value: Any) -> str:
    """How autodoc calls it."""
    if inspect.isclass(value):
        return "class"
    return "function" if inspect.isroutine(value) else "data"


def _definition(module: ModuleType, name: str) -> ModuleType:
    """The module in which a name is assigned, followed through imports of the package."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("itk_ncr"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(import_module(node.module), alias.name)
    return module


def comment(module: ModuleType, name: str) -> str:
    """What the source says of a constant: the text below it, the comment above or beside it."""
    source = inspect.getsource(_definition(module, name))
    lines, body = source.splitlines(), ast.parse(source).body
    for node, after in zip(body, [*body[1:], None], strict=True):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if name not in [getattr(target, "id", "") for target in targets]:
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            return " ".join(str(after.value.value).split())
        above: list[str] = []
        first = node.lineno - 1
        while first > 0 and lines[first - 1].startswith("#"):
            first -= 1
            above.insert(0, lines[first].lstrip("#: "))
        beside = re.search(r"  # (.+)$", lines[node.lineno - 1])
        return " ".join(above) or (beside[1] if beside else "")
    return ""


# Literals, interpreted text and emphasis: what a star may be part of.
_MARKED = re.compile(r"(``.*?``|`.*?`|(?<!\w)\*{1,2}\w[^*]*\w\*{1,2}(?!\w))")


def plain_stars(line: str) -> str:
    """A line in which the star of ``*spatial`` or ``**settings`` begins no emphasis."""
    parts = _MARKED.split(line)
    parts[::2] = [re.sub(r"(?<![\\\w*])(\*{1,2})(?=\S)", _escaped, part) for part in parts[::2]]
    return "".join(parts)


def _escaped(stars: re.Match[str]) -> str:
    return "".join("\\" + star for star in stars[1])


def _summary(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    if kind(value) == "data":
        return plain_stars(comment(module, name))
    text = inspect.getdoc(value) or ""
    return plain_stars(" ".join(text.split("\n\n")[0].split()))


def _docstring(
    _app: Sphinx, what: str, name: str, _value: Any, _options: Any, lines: list[str]
) -> None:
    """Constants say what their source does; a star in a shape begins no emphasis."""
    if what == "data":
        module, _, constant = name.rpartition(".")
        lines[:] = [comment(import_module(module), constant), ""]
    lines[:] = map(plain_stars, lines)


def _entry(room: str, name: str, value: Any) -> list[str]:
    what = kind(value)
    lines = [f".. auto{what}:: itk_ncr.{room}.{name}"]
    if what == "class":
        lines += ["   :members:", "   :show-inheritance:"]
    if what == "data":
        lines += ["   :no-value:"] if not isinstance(value, (str, int, float, tuple)) else []
    return [*lines, ""]


def page(room: str) -> str:
    """The page of a room, in reStructuredText."""
    module = import_module(f"itk_ncr.{room}")
    found = {name: getattr(module, name) for name in sorted(public_names(module), key=str.lower)}
    title = f"itk_ncr.{room}"
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", "   :no-members:", ""]
    lines += [".. list-table::", "   :widths: auto", "   :class: names", ""]
    for name in found:
        lines += [f"   * - :py:obj:`~{title}.{name}`", f"     - {_summary(module, name)}"]
    for what, heading in HEADINGS.items():
        chosen = {name: value for name, value in found.items() if kind(value) == what}
        if chosen:
            lines += ["", heading, "-" * len(heading), ""]
            for name, value in chosen.items():
                lines += _entry(room, name, value)
    return "\n".join(lines) + "\n"


def index() -> str:
    """The page of the package itself: what is imported from where."""
    lines = ["API reference", "=============", "", ".. py:module:: itk_ncr", ""]
    lines += [
        "What ``import itk_ncr`` offers by itself; everything is imported when it is first used.",
        "",
        ".. list-table::",
        "   :widths: auto",
        "   :class: names",
        "",
    ]
    for name in itk_ncr.__all__:
        value = getattr(itk_ncr, name)
        if inspect.ismodule(value) or name.startswith("__"):
            continue
        home = itk_ncr._HOMES[name]
        target = f":py:obj:`itk_ncr.{name} <itk_ncr.{home}.{name}>`"
        lines += [f"   * - {target}", f"     - {_summary(itk_ncr, name)}"]
    lines += ["", "Subpackages and modules:", "", ".. toctree::", "   :maxdepth: 1", ""]
    return "\n".join([*lines, *(f"   {room}" for room in rooms())]) + "\n"


def write(folder: Path) -> None:
    """Write the pages; those that are unchanged keep their date, and are not read again."""
    folder.mkdir(exist_ok=True)
    pages = {"index": index(), **{room: page(room) for room in rooms()}}
    for old in set(folder.glob("*.rst")) - {folder / f"{name}.rst" for name in pages}:
        old.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def _check(_app: Sphinx, env: Any) -> None:
    """Warn of every public name that no page describes; `make docs` takes warnings for errors."""
    from sphinx.util import logging

    described = env.get_domain("py").objects
    for room in rooms():
        for name in public_names(import_module(f"itk_ncr.{room}")):
            if f"itk_ncr.{room}.{name}" not in described:
                logging.getLogger(__name__).warning("not in the reference: %s.%s", room, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx looks for them, check them when all are read."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "reference"), priority=100)
    # Before numpydoc, which takes what it finds in type lines as it is.
    app.connect("autodoc-process-docstring", _docstring, priority=100)
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True}
