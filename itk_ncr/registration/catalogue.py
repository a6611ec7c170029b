"""Catalogue of methods: what each finds, needs and costs (``itk-ncr register --method list``)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from itk_ncr.registration.classical import CLASSICAL
from itk_ncr.settings import METHODS


@dataclass(frozen=True)
class MethodEntry:
    """A line about a method.

    Attributes
    ----------
    finds : str
    needs : str
        Besides two images.
    seconds : str
        Processor time of one thread for a pair of slices of 192 x 224 voxels and for a pair of
        volumes of 96 x 112 x 96, without the affine; "-" where it was not measured.
    """

    finds: str
    needs: str
    seconds: str


_MAP, _BOTH = "map", "map and masks"
CATALOGUE: dict[str, MethodEntry] = {
    "ncr": MethodEntry(_BOTH, "nothing", "0.8, 9"),
    "network": MethodEntry(_BOTH, "a model or a preset that has one", "-, -"),
    "instance": MethodEntry(_BOTH, "nothing", "0.8, 9"),
    "affine": MethodEntry("affine map", "nothing", "0, 0"),
    "demons": MethodEntry(_MAP, "nothing", "0.7, 13"),
    "symmetric-demons": MethodEntry(_MAP, "nothing", "0.8, -"),
    "bspline": MethodEntry(_MAP, "nothing", "3.1, -"),
    "syn": MethodEntry(_MAP, "extra [syn]", "3.7, -"),
    "ants-syn": MethodEntry(_MAP, "extra [ants]", "0.6, -"),
    "elastix": MethodEntry(_MAP, "extra [elastix]", "1.3, -"),
    "greedy": MethodEntry(_MAP, "extra [greedy]", "0.3, 10"),
    "enantiomorphic": MethodEntry(_MAP, "a lesion mask, symmetric anatomy", "-, -"),
    "varreg": MethodEntry(_MAP, "nothing", "-, -"),
    "chen": MethodEntry(_BOTH, "nothing", "-, -"),
    "em": MethodEntry(_BOTH, "nothing", "-, -"),
}


def catalogue() -> str:
    """The table as text."""
    rows = [("method", "finds", "needs", "CPU s, 2D and 3D", "options")]
    rows += [
        (name, CATALOGUE[name].finds, CATALOGUE[name].needs, CATALOGUE[name].seconds, _said(name))
        for name in METHODS
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        "  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]).rstrip() for row in rows
    )


def _said(name: str) -> str:
    """The options of a method with their defaults."""
    kind = CLASSICAL[name].options if name in CLASSICAL else None
    if kind is None:
        return ""
    return " ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))
