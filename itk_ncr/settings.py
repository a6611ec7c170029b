"""Every setting of a registration, stated once: name, default, bounds and help.

The command line, and the ``Set`` and ``Get`` of the filters, are made from
:class:`RegistrationSettings`; :func:`itk_ncr.register` takes its fields as keywords, and a test
holds the table of docs/command-line.md to it. This module imports no torch, so that ``--help`` is
quick. It is longer than most because a table of settings is read as one.
"""

from __future__ import annotations

import dataclasses
import numbers
import os
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from itk_ncr.errors import ArgumentError

METHODS = (
    "ncr",
    "network",
    "instance",
    "affine",
    "demons",
    "symmetric-demons",
    "bspline",
    "syn",
    "ants-syn",
    "elastix",
    "greedy",
    "enantiomorphic",
    "varreg",
    "chen",
    "em",
)
"""Values of ``method``: "ncr", or a row of ``itk_ncr.registration.REGISTRATIONS``."""

ENGINES = ("auto", "network", "instance")
"""Values of ``engine``: whichever fits, a trained network, the solver alone."""
PRESETS = ("auto", "brain-t1", "oct", "mri-3d", "mri-2d", "multimodal")
"""Values of ``preset``: "auto", or a row of ``CONTRASTS`` or ``SOLVER_PRESETS``."""

FILLS = ("smooth", "partner", "mirror")
"""Kinds of fill of :func:`itk_ncr.fill_lesion`."""

TEMPLATE_ITERATIONS = 3
"""How often :func:`itk_ncr.template` registers all images to their mean."""

# Of a training.
RECIPES = (
    "mri-2d",
    "mri-3d",
    "oct",
    "brain-t1-2d",
    "brain-t1-3d",
    "synthetic-2d",
    "synthetic-3d",
    "oct-2d",
)
"""Values of ``preset`` of a training."""
BUDGETS = ("full", "small")
"""Length of a training: the full recipe, or what two CPU cores can do."""
VARIANTS = ("regnet", "ncr-b", "ncr-u", "ncr-s", "voxelmorph")
"""Variants of the network; see docs/training.md."""
PRECISIONS = ("float32", "bfloat16")
"""Number types of the convolutions."""
ARCHITECTURES = ("ncr-net", "ncr-pyramid")
"""Networks that a training can make."""
SCHEDULES = ("steps", "cosine")
"""Schedules of the learning rate."""

GIVEN = "given"
"""Value of ``affine`` in a record of settings where the caller gave a map."""
FACTORS = (1e-6, 1e6)
"""Bounds of the factors; what they multiply stays finite in float32."""


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes
    ----------
    name : str
    kind : str
        "str", "int", "float" or "mapping".
    optional : bool
        Whether it may be None.
    default : any
    help : str
        For the command line, the docs and ``help(itk_ncr.register)``.
    words : tuple of str
        Allowed values; empty for a number or any text.
    least, most : int, optional
        Inclusive bounds.
    positive : bool
        Whether it is a factor: greater than 0, and within ``FACTORS``.
    advice : str
        Last sentence of the error.
    metavar : str
        Placeholder of its value on the command line.
    """

    name: str
    kind: str
    optional: bool
    default: Any
    help: str
    words: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    positive: bool = False
    advice: str = "Correct the value."
    metavar: str | None = None

    @property
    def rule(self) -> str:
        """The condition on a value, for the error."""
        if self.words:
            listed = [repr(word) for word in self.words]
            return "be " + (
                " or ".join(listed) if len(listed) == 2 else f"one of {', '.join(listed)}"
            )
        if self.kind == "mapping":
            return "map names to values"
        if self.kind == "str":
            return "be a name, a folder or None"
        if self.kind == "float":
            if self.positive:
                return "be a positive number from {:g} to {:g}".format(*FACTORS)
            return f"lie in [{self.least}, {self.most}]"
        bounds = (
            f", {self.least} or more" if self.most is None else f" from {self.least} to {self.most}"
        )
        return f"be a whole number{bounds}"

    def checked(self, value: Any) -> Any:
        """A value with numpy's numbers made Python's, paths text and mappings pairs.

        Raises
        ------
        ArgumentError
            If it is out of bounds or of another type.
        """
        given = value
        if value is None and self.optional:
            return None
        if self.kind == "mapping":
            value = _pairs(() if value is None else value)
        elif self.kind == "str" and isinstance(value, os.PathLike):
            value = os.fspath(value)
        elif self.kind == "float" and isinstance(value, numbers.Real):
            value = float(value)
        elif self.kind == "int" and isinstance(value, numbers.Integral):
            value = int(value)
        if isinstance(given, bool) or not self._holds(value):
            raise ArgumentError(f"{self.name} must {self.rule}; got {_short(given)}. {self.advice}")
        return value

    def _holds(self, value: Any) -> bool:
        wanted: dict[str, type] = {"str": str, "int": int, "float": float, "mapping": tuple}
        fits = isinstance(value, wanted[self.kind])
        if not fits or (self.words and value not in self.words):
            return False
        if self.positive and not FACTORS[0] <= value <= FACTORS[1]:
            return False
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most)

    @property
    def documented(self) -> str:
        """The setting in numpydoc."""
        kind = " or ".join(map(repr, self.words)) if 0 < len(self.words) < 4 else self.kind
        usual = "optional" if self.default in (None, ()) else f"default {self.default!r}"
        lines = textwrap.wrap(self.help, 92, initial_indent="    ", subsequent_indent="    ")
        return "\n".join([f"{self.name} : {kind}, {usual}", *lines])


def _pairs(value: Any) -> tuple[tuple[str, Any], ...] | None:
    """A mapping as pairs, which a frozen record can hold; None for anything else."""
    try:
        pairs = dict(value)
    except (TypeError, ValueError):
        return None
    return tuple(pairs.items()) if all(isinstance(name, str) for name in pairs) else None


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, (str, int, float)) else type(value).__name__


def _setting(default: Any, help: str, **details: Any) -> Any:
    return field(default=default, metadata={"help": help, **details})


@dataclass(frozen=True)
class RegistrationSettings:
    """Settings of one registration; the defaults suit two images of one contrast.

    Attributes
    ----------
    {settings}

    Raises
    ------
    ArgumentError
        If a value is outside its bounds.
    """

    method: str = _setting(
        "ncr",
        "Registration method. ncr is this package's own; network and instance are its two "
        f"engines. Others: {', '.join(METHODS[3:])}. `itk-ncr register --method list` prints what "
        "each finds, needs and costs.",
        words=METHODS,
        metavar="NAME",
    )
    method_options: tuple[tuple[str, Any], ...] = _setting(
        (),
        "Options that the method alone has, by name; --method list names them.",
        advice="Give a dictionary, {'alpha': 1.0} for example.",
        metavar="NAME=VALUE",
    )
    preset: str = _setting(
        "auto",
        "Image type (brain-t1, oct), which also selects the network trained on it, or solver "
        "settings (the others); auto decides by dimension and by the images.",
        words=PRESETS,
    )
    engine: str = _setting(
        "auto",
        "Start from a trained network, or run the per-pair solver alone (instance); auto takes the "
        "network where model or preset names one that fits.",
        words=ENGINES,
    )
    model: str | None = _setting(
        None,
        "Network to start from: a name of `itk-ncr models list`, or a model folder. Default: that "
        "of the preset.",
        advice="Save a network with itk_ncr.checkpoints.save_model first.",
        metavar="NAME|DIR",
    )
    refine: int | None = _setting(
        None,
        "Iterations of the solver after the network; 0 takes the network as it is. Default: what "
        "the model recommends.",
        least=0,
        advice="0 takes the network as it is.",
        metavar="N",
    )
    affine: str = _setting(
        "auto",
        "Align the whole images first (auto), or trust the headers (none).",
        words=("auto", "none"),
    )
    smoothness: float = _setting(
        1.0,
        "Factor on the stiffness of the deformation; 2 is twice as stiff.",
        positive=True,
        advice="1 is the usual choice.",
        metavar="X",
    )
    mask_price: float = _setting(
        1.0,
        "Factor on the price of a masked voxel; larger means smaller masks.",
        positive=True,
        advice="1 is the usual choice.",
        metavar="X",
    )
    mask: str = _setting(
        "auto",
        "Find what has no counterpart, or register as usual (none).",
        words=("auto", "none"),
        advice="Give a known lesion as lesion_mask instead.",
    )
    mask_threshold: float = _setting(
        0.5,
        "Probability above which a voxel is in the mask.",
        least=0,
        most=1,
        advice="0.5 is the usual cut.",
        metavar="P",
    )
    uncertainty_runs: int = _setting(
        0,
        "Repetitions of the solver with other noise, for the standard deviation of the "
        "displacement; 8 are usual. 0 leaves it out.",
        least=0,
        most=1000,
        advice="8 are usual, 0 leaves it out.",
        metavar="N",
    )
    # What the generators of all tools take. The per-pair solver draws nothing but the noise of
    # uncertainty_runs: the seed is recorded for methods that do.
    seed: int = _setting(
        0,
        "Seed of every random draw.",
        least=0,
        most=2**31 - 1,
        advice="0 is the usual choice.",
        metavar="N",
    )
    # The bound is far above what any machine has; as many as cannot start end the process.
    threads: int | None = _setting(
        None,
        "CPU threads; results do not change. Default: all cores.",
        least=1,
        most=1024,
        advice="Leave it out for all cores.",
        metavar="N",
    )
    # A working grid has 8 voxels along every axis, where the fixed image has them.
    working_voxels: int = _setting(
        1_500_000,
        "Solve larger images on a coarser grid of at most this many voxels.",
        least=8**3,
        advice="Leave it out for the default.",
        metavar="N",
    )

    def __post_init__(self) -> None:
        for name, setting in SETTINGS.items():
            value = getattr(self, name)
            if (name, value) != ("affine", GIVEN):
                object.__setattr__(self, name, setting.checked(value))
        if self.uncertainty_runs == 1:
            raise ArgumentError(
                "uncertainty_runs must be 0 or at least 2; got 1. A deviation needs two values."
            )

    def as_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return {**dataclasses.asdict(self), "method_options": dict(self.method_options)}


def _read(entry: dataclasses.Field[Any]) -> Setting:
    kind, *others = str(entry.type).split(" | ")
    kind = "mapping" if kind.startswith("tuple") else kind
    return Setting(entry.name, kind, others == ["None"], entry.default, **entry.metadata)


SETTINGS = {entry.name: _read(entry) for entry in dataclasses.fields(RegistrationSettings)}
"""All settings by name."""


def document(text: str | None, without: tuple[str, ...] = ()) -> str:
    """A docstring with the settings in place of its line ``{settings}``."""
    parts = "\n".join(s.documented for s in SETTINGS.values() if s.name not in without)
    return re.sub(
        r"^( *)\{settings\}", lambda found: textwrap.indent(parts, found[1]), text or "", flags=re.M
    )


RegistrationSettings.__doc__ = document(RegistrationSettings.__doc__)


class SettingKeywords(TypedDict, total=False):
    """The settings as keywords, for type checkers; ``affine`` may be more than a word there."""

    method: str
    method_options: Mapping[str, Any] | None
    preset: str
    engine: str
    model: str | os.PathLike[str] | None
    refine: int | None
    smoothness: float
    mask_price: float
    mask: str
    mask_threshold: float
    uncertainty_runs: int
    seed: int
    threads: int | None
    working_voxels: int
