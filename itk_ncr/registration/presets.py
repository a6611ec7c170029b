"""Solver settings by kind of image; the paper's own weights are in ``losses.presets``."""

from __future__ import annotations

from itk_ncr.errors import ArgumentError
from itk_ncr.registration.instance import InstanceSettings, Level

SOLVER_PRESETS: dict[str, InstanceSettings] = {
    "mri-3d": InstanceSettings(),
    "mri-2d": InstanceSettings(
        levels=(Level(8, 8, 100), Level(4, 4, 100), Level(2, 2, 80), Level(1, 2, 40))
    ),
    "oct": InstanceSettings(
        levels=(Level(8, 8, 100), Level(4, 4, 100), Level(2, 2, 80), Level(1, 2, 40))
    ),
    "multimodal": InstanceSettings(similarity="mind", evidence="mind"),
}


def solver_preset(name: str, dimension: int) -> InstanceSettings:
    """The settings of a preset; "auto" goes by the number of axes."""
    if name == "auto":
        name = "mri-3d" if dimension == 3 else "mri-2d"
    if name not in SOLVER_PRESETS:
        raise ArgumentError(
            f"preset must be 'auto' or one of {', '.join(SOLVER_PRESETS)}; got {name!r}."
        )
    return SOLVER_PRESETS[name]
