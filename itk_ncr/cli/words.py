"""Parameter types shared by several commands."""

from __future__ import annotations

from typing import Any

import click


class Numbers(click.ParamType):
    """Two or three comma-separated numbers."""

    def __init__(self, kind: type, name: str) -> None:
        self.kind, self.name = kind, name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Parse the numbers; anything else is a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(self.kind(word) for word in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (2, 3) or not all(abs(n) < float("inf") for n in numbers):
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return numbers
