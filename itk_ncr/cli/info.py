"""``itk-ncr info``: installed versions and how the kernels were built."""

from __future__ import annotations

import json
from typing import Any

import click

from itk_ncr import runs


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def info(as_json: bool) -> None:
    """Print versions, the build of the kernels, threads and models."""
    found = runs.environment()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, text in _lines(found):
        click.echo(f"{name:<12} {text}")


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [(name, version or "not installed") for name, version in found["versions"].items()]
    build = dict(found["kernels"])
    if build.pop("compiled"):
        details = ", ".join(f"{name} {_word(value)}" for name, value in build.items())
        lines.append(("kernels", f"compiled: {details}"))
    else:
        lines.append(("kernels", f"not compiled, some ten times slower ({build['reason']})"))
    set_by = f" (OMP_NUM_THREADS={found['threads_set']})" if found["threads_set"] else ""
    lines += [
        ("platform", found["platform"]),
        ("processors", f"{found['processors']} usable{set_by}"),
        ("CUDA driver", found["cuda_driver"] or "none"),
        ("models", ", ".join(found["models"]) or "none; registering a pair needs none"),
    ]
    return lines


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "/".join(map(str, value)) or "none"
    return str(value)
