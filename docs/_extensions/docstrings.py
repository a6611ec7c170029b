"""Check the docstrings of all public names with numpydoc.

Usage: python docs/_extensions/docstrings.py; lists the faults and exits with 1. The checks, and the
names that are excluded, are in ``[tool.numpydoc_validation]`` of pyproject.toml.

numpydoc's own command reads files, so it checks private functions as well, and sees neither the
docstrings that are made from settings nor the signatures of dataclasses. What is public is what the
API reference shows.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

from numpydoc.docscrape import get_doc_object  # noqa: E402
from numpydoc.hooks.validate_docstrings import parse_config  # noqa: E402
from numpydoc.validate import Validator, validate  # noqa: E402
from reference import public_names, rooms  # noqa: E402


class PublicName(Validator):
    """numpydoc's validator with the conventions of this package.

    - A field of a dataclass or a named tuple is documented once: under Attributes, under Parameters
      or by a string below it.
    - Protocols and exceptions need no parameters: callers do not construct them.
    - Parameters that are "As for" those of another function need no type.
    - A method without arguments may state in its summary what it returns.
    """

    def __init__(self, obj_name: str) -> None:
        options = {"show_class_members": False}
        super().__init__(get_doc_object(self._load_obj(obj_name), config=options))

    @property
    def signature_parameters(self) -> tuple[str, ...]:
        """What has to be documented."""
        if inspect.isclass(self.obj) and (
            getattr(self.obj, "_is_protocol", False) or issubclass(self.obj, BaseException)
        ):
            return ()
        return tuple(super().signature_parameters)

    @property
    def doc_all_parameters(self) -> dict[str, Any]:
        """What is documented."""
        documented = dict(super().doc_all_parameters)
        if inspect.isclass(self.obj) and (
            dataclasses.is_dataclass(self.obj) or issubclass(self.obj, tuple)
        ):
            fields = {**self._doc_parameters(["Attributes"]), **_described_fields(self.obj)}
            # In any order, and beside properties.
            documented |= {k: fields[k] for k in self.signature_parameters if k in fields}
        return documented

    def parameter_type(self, param: str) -> str:
        """Type of a parameter."""
        _, description = self.doc_all_parameters[param]
        refers = " ".join(description).startswith("As for :")
        return super().parameter_type(param) or ("as there" if refers else "")

    @property
    def method_returns_something(self) -> bool:
        """Whether the docstring needs a section Returns."""
        is_method = "." in self.obj.__qualname__
        if is_method and not self.signature_parameters:
            return False
        return bool(super().method_returns_something)


@functools.cache
def _described_fields(cls: type) -> dict[str, Any]:
    """The fields of a class that have a string below them, as numpydoc holds parameters."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__[:-1]:
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0].body
        except (OSError, TypeError):
            continue
        for node, below in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr):
                found[node.target.id] = (ast.unparse(node.annotation), [below.value.value])
    return found


def public() -> Iterator[str]:
    """Every public function, class and method of the package once, by its full name."""
    seen = set()
    for room in ["", *(f".{room}" for room in rooms()), ".testing"]:
        module = import_module(f"itk_ncr{room}")
        for name in public_names(module):
            value = getattr(module, name)
            for full, part in _with_methods(f"{module.__name__}.{name}", value):
                if id(part) not in seen:
                    seen.add(id(part))
                    yield full


def _with_methods(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A function, or a class and those of its public methods that are defined in the package."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return
    yield name, value
    if not inspect.isclass(value):
        return
    for member in dir(value):
        part = inspect.getattr_static(value, member)
        function = getattr(part, "__func__", part)
        ours = (getattr(function, "__module__", None) or "").startswith("itk_ncr")
        if inspect.isfunction(function) and ours and not member.startswith("_"):
            yield f"{name}.{member}", function


def faults() -> Iterator[str]:
    """Every fault as ``file:line: name: check message``."""
    config = parse_config(ROOT)
    for name in public():
        if config["exclude"] and config["exclude"].search(name):
            continue
        report = validate(name, validator_cls=PublicName)
        for check, message in report["errors"]:
            if check in config["checks"]:
                yield f"{report['file']}:{report['file_line']}: {name}: {check} {message}"


if __name__ == "__main__":
    found = list(faults())
    print("\n".join(found) if found else "All public docstrings are valid.")
    sys.exit(bool(found))
