"""Solver settings by kind of image; the paper's own weights are in ``losses.presets``."""

from __future__ import annotations

from dataclasses import replace

from itk_ncr.errors import ArgumentError
from itk_ncr.registration.solver.levels import Level, Stage
from itk_ncr.registration.solver.masks import LearntMasks
from itk_ncr.registration.solver.settings import LOCAL, InstanceSettings

# Slices have few voxels: a coarser level costs nothing and reaches further. What evidence the path
# shows was learnt with its windows.
_SLICE_MASKS = LearntMasks(
    path=(
        Stage(10.0, (Level(8, 8, 20), Level(4, 4, 30), Level(2, 4, 15)), radius=2),
        Stage(1.0, (Level(4, 4, 20), Level(2, 4, 15)), radius=2),
        Stage(0.15, (Level(4, 4, 15), Level(2, 4, 25)), radius=2),
    )
)
# A window of radius 2 has 25 pixels in a slice and 125 voxels in a volume: too few to tell tissue
# from noise. Eleven validation pairs of slices gave .469 (radius 2), .479 (3), .484 (4), .486 (5).
# Smaller objects get smaller windows.
_SLICE_LOCAL = replace(LOCAL, similarity_settings={"radius": 4, "noise": 0.03})
_SLICES = InstanceSettings(
    functional=_SLICE_LOCAL,
    levels=(Level(8, 8, 60), Level(4, 4, 60), Level(2, 2, 60), Level(1, 2, 40), Level(1, 1, 40)),
    masks=_SLICE_MASKS,
)
_SELF_SIMILARITY = replace(LOCAL, similarity="mse", similarity_settings={}, descriptor="mind")

# The values of "mri-3d" were chosen on lesion-free and lesioned pairs of brains from the benchmark
# (benchmarks/registration.py); the others use them too, with the exceptions noted beside them.
SOLVER_PRESETS: dict[str, InstanceSettings] = {
    "mri-3d": InstanceSettings(),
    "mri-2d": _SLICES,
    "oct": replace(
        _SLICES,
        # This price has the largest pooled Dice (.44) on sixteen phantoms that nothing was fitted
        # on.
        functional=replace(LOCAL, tau=0.4),
        masks=replace(_SLICE_MASKS, learnt_from="retinas"),
    ),
    "multimodal": InstanceSettings(functional=_SELF_SIMILARITY),
}


# What the images show, and the row of SOLVER_PRESETS for it by the number of axes. A contrast also
# picks the network that was trained on it, where there is one.
CONTRASTS: dict[str, dict[int, str]] = {
    "brain-t1": {2: "mri-2d", 3: "mri-3d"},
    "oct": {2: "oct", 3: "mri-3d"},
}


def solver_preset(name: str, dimension: int) -> InstanceSettings:
    """The settings of a preset; "auto" depends on the number of axes."""
    if name == "auto":
        name = "mri-3d" if dimension == 3 else "mri-2d"
    row = CONTRASTS.get(name, {}).get(dimension, name)
    if row not in SOLVER_PRESETS:
        names = dict.fromkeys([*CONTRASTS, *SOLVER_PRESETS])
        raise ArgumentError(f"preset must be 'auto' or one of {', '.join(names)}; got {name!r}.")
    if row == "multimodal" and dimension == 2:
        # Squared local correlation has no sign, and a window of a slice shows two tissues as a
        # rule. The four self-similarities of a pixel say less: on slices whose contrast was
        # remapped their Jaccard was .87 to .90 of that of one contrast, with 1.4 % masked.
        return _SLICES
    return SOLVER_PRESETS[row]
