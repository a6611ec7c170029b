"""The rows of the tables: what each is called and how it registers a pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from itk_ncr.registration.classical import CLASSICAL

# Compared by the star: the best among the versions of NCR-Net.
NCR_VERSIONS = ("ncr-b", "ncr-u", "ncr-s")


@dataclass(frozen=True)
class Method:
    """One way to register.

    Attributes
    ----------
    title : str
        In tables and figures.
    variant : str, optional
        The network that is trained for it.
    options : mapping
        For ``itk_ncr.register``, beside the model.
    preset : bool
        Whether the images' preset of the per-pair solver is given to it.
    """

    title: str
    variant: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    preset: bool = False

    @property
    def registers(self) -> bool:
        """False for the images as they are."""
        return self.variant is not None or bool(self.options)

    @property
    def finds_mask(self) -> bool:
        """Whether it returns a noncorrespondence mask of its own."""
        if self.variant is not None:
            return self.variant in NCR_VERSIONS
        row = self.options.get("method")
        if row is not None:
            return CLASSICAL[row].finds_mask
        return self.options.get("engine") == "instance"


def _network(title: str, variant: str, **options: Any) -> Method:
    return Method(title, variant, {"engine": "network", "refine": 0} | options)


def _classical(title: str, row: str) -> Method:
    return Method(title, options={"method": row})


METHODS: dict[str, Method] = {
    "without": Method("w/o reg."),
    "affine": Method("affine", options={"method": "affine", "affine": "auto"}),
    "regnet": _network("RegNet", "regnet"),
    "ncr-b": _network("NCR-Net b", "ncr-b"),
    "ncr-u": _network("NCR-Net u", "ncr-u"),
    "ncr-s": _network("NCR-Net s", "ncr-s"),
    "voxelmorph": _network("VoxelMorph", "voxelmorph"),
    "demons": _classical("demons", "demons"),
    "bspline": _classical("B-spline", "bspline"),
    "syn": _classical("SyN (ITK)", "syn"),
    "ants-syn": _classical("SyN (ANTs)", "ants-syn"),
    "elastix": _classical("elastix", "elastix"),
    "greedy": _classical("greedy", "greedy"),
    "varreg": _classical("VarReg", "varreg"),
    "chen": _classical("Chen", "chen"),
    "em": _classical("EM", "em"),
    "refined": _network("NCR-Net s + refinement", "ncr-s", refine=60),
    "instance": Method("per-pair solver", options={"engine": "instance"}, preset=True),
}

# Rows of the paper whose methods this package does not have yet.
SLOTS = {2: (), 3: ("ProbReg",), 4: (), 5: ("DRAMMS",)}
