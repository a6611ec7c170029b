"""Every knob of a registration, in one frozen record that travels with the result."""

from __future__ import annotations

import dataclasses
import numbers
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from itk_ncr.errors import ArgumentError
from itk_ncr.geometry import AffineMap
from itk_ncr.images import as_affine
from itk_ncr.images.transform_files import READABLE

Progress = Callable[[float, str], None]
"""Gets the share of the work that is done, in [0, 1], and a word about it."""

ENGINES = ("auto", "network", "instance")

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
)
"""What ``method`` may be: "ncr", or a row of ``REGISTRATIONS``."""

Abort = Callable[[], bool]
"""Says whether to stop."""

GIVEN = "given"
"""The word for an affine that the caller brought, in a record of settings."""

# Far above what any machine of ours has; so many that cannot start end the process.
MOST_THREADS = 1024

# What the generators of all tools take.
MOST_SEED = 2**31 - 1

# A working grid has 8 voxels along every axis, where the fixed image has them.
LEAST_WORKING_VOXELS = 8**3


@dataclass(frozen=True)
class RegistrationSettings:
    """Settings of one registration; the defaults suit two images of one contrast.

    Attributes
    ----------
    method : str
        "ncr" is ours, by network or by the pair alone as ``engine`` says; else a row of
        ``itk_ncr.registration.REGISTRATIONS``, most of them the pipelines of other toolkits.
    method_options : mapping, kept as pairs
        Options that this method alone has, by name.
    preset : str
        "auto", a row of ``itk_ncr.registration.CONTRASTS`` (what the images show) or one of
        ``SOLVER_PRESETS`` (how to solve).
    engine : str
        "network" begins with a trained network, "instance" with nothing but the pair itself;
        "auto" takes the network where ``model`` or ``preset`` says which.
    model : str or None
        Name of a model that comes with the package, or the folder of one; None goes by the preset.
    refine : int or None
        Iterations of the per-pair solver after the network; 0 takes the network's word, None is
        what the model recommends.
    affine : str
        "auto" aligns the whole images first, "none" trusts the physical coordinates, "given" is
        said where the caller brought a map.
    smoothness : float
        Factor on the smoothness of the velocity; 2 is twice as stiff. Positive.
    mask_price : float
        Factor on the price of a masked voxel; larger means smaller masks. Positive.
    mask : str
        "auto" finds the noncorrespondence, "none" is ordinary registration.
    mask_threshold : float
        Probability above which a voxel counts as noncorresponding, in [0, 1].
    seed : int
        Seed of every random draw. The per-pair solver draws nothing: it is recorded for methods
        that do.
    threads : int or None
        CPU threads; None leaves torch's choice. The result does not depend on it.
    working_voxels : int
        Largest number of voxels the pair is solved on; larger images are solved on a coarser grid
        and their velocity is exponentiated on the fixed grid.
    """

    method: str = "ncr"
    method_options: tuple[tuple[str, Any], ...] = ()
    preset: str = "auto"
    engine: str = "auto"
    model: str | None = None
    refine: int | None = None
    affine: str = "auto"
    smoothness: float = 1.0
    mask_price: float = 1.0
    mask: str = "auto"
    mask_threshold: float = 0.5
    seed: int = 0
    threads: int | None = None
    working_voxels: int = 1_500_000

    def __post_init__(self) -> None:
        self._take_numbers()
        self._take_options()
        for name in ("smoothness", "mask_price"):
            value = getattr(self, name)
            if not (isinstance(value, float) and 0 < value < float("inf")):
                raise ArgumentError(
                    f"{name} must be a positive number; got {value!r}. 1 is the usual choice."
                )
        if not (isinstance(self.mask_threshold, float) and 0 <= self.mask_threshold <= 1):
            raise ArgumentError(
                f"mask_threshold must lie in [0, 1]; got {self.mask_threshold!r}. "
                "0.5 is the usual cut."
            )
        if not _one_of(self.method, METHODS):
            raise ArgumentError(
                f"method must be one of {', '.join(map(repr, METHODS))}; got {self.method!r}."
            )
        if not _one_of(self.engine, ENGINES):
            raise ArgumentError(
                f"engine must be one of {', '.join(map(repr, ENGINES))}; got {self.engine!r}."
            )
        if self.model is not None:
            if not isinstance(self.model, (str, os.PathLike)):
                raise ArgumentError(
                    f"model must be a name, a folder or None; got {self.model!r}. "
                    "Save a network with itk_ncr.checkpoints.save_model first."
                )
            object.__setattr__(self, "model", os.fspath(self.model))
        if self.refine is not None and not _whole(self.refine, 0):
            raise ArgumentError(
                f"refine must be a number of iterations, 0 or more; got {self.refine!r}. "
                "0 takes the network's word."
            )
        if not _one_of(self.affine, ("auto", "none", GIVEN)):
            raise ArgumentError(
                f"affine must be 'auto', 'none', an AffineMap or the path of a transform file "
                f"({', '.join(READABLE)}); got {self.affine!r}. Correct the word."
            )
        if not _one_of(self.mask, ("auto", "none")):
            raise ArgumentError(
                f"mask must be 'auto' or 'none'; got {_short(self.mask)}. "
                "Give a known lesion as lesion_mask instead."
            )
        if self.threads is not None and not _whole(self.threads, 1, MOST_THREADS):
            raise ArgumentError(
                f"threads must be a whole number from 1 to {MOST_THREADS}; got {self.threads!r}. "
                "Leave it out for all cores."
            )
        if not _whole(self.seed, 0, MOST_SEED):
            raise ArgumentError(
                f"seed must be a whole number from 0 to {MOST_SEED}; got {self.seed!r}. "
                "0 is the usual choice."
            )
        if not _whole(self.working_voxels, LEAST_WORKING_VOXELS):
            raise ArgumentError(
                f"working_voxels must be a whole number, {LEAST_WORKING_VOXELS} or more; "
                f"got {self.working_voxels!r}. Leave it out for the default."
            )

    def _take_numbers(self) -> None:
        """Numbers of numpy become those of Python, which a record can hold."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool):
                continue
            if field.type == "float" and isinstance(value, numbers.Real):
                object.__setattr__(self, field.name, float(value))
            elif isinstance(value, numbers.Integral):
                object.__setattr__(self, field.name, int(value))

    def _take_options(self) -> None:
        """A mapping becomes pairs, which a frozen record can hold."""
        given = self.method_options
        try:
            pairs: dict[str, Any] | None = dict(given)
        except (TypeError, ValueError):
            pairs = None
        if pairs is None or not all(isinstance(name, str) for name in pairs):
            raise ArgumentError(
                f"method_options must map names to values; got {_short(given)}. "
                "Give a dictionary, {'alpha': 1.0} for example."
            )
        object.__setattr__(self, "method_options", tuple(pairs.items()))

    def as_dict(self) -> dict[str, Any]:
        """The settings by name."""
        return {**dataclasses.asdict(self), "method_options": dict(self.method_options)}


def affine_of(value: Any) -> tuple[str, AffineMap | None]:
    """What ``affine`` says: the word for the settings, and the map if the caller brought one.

    Raises
    ------
    ArgumentError, GeometryError
        If it is neither a word nor an affine map; words are checked by the settings.
    """
    if isinstance(value, str) and value == GIVEN:
        raise ArgumentError(
            f"affine must be 'auto', 'none', an AffineMap or the path of a transform file; got "
            f"{value!r}, the word of a record. Pass the map itself."
        )
    if isinstance(value, str) and not value.lower().endswith(READABLE):
        return value, None
    return GIVEN, as_affine(value)


def _one_of(value: Any, words: tuple[str, ...]) -> bool:
    return isinstance(value, str) and value in words


def _whole(value: Any, least: int, most: int | None = None) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return least <= value and (most is None or value <= most)


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, (str, int, float)) else type(value).__name__
