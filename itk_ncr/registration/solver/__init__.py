"""The per-pair solver: velocity and mask of one pair, by descent on the functional itself.

``settings`` puts it together from parts that can be exchanged: the functional
(:class:`itk_ncr.losses.Functional`), the descent of the velocity (``descent``), the search for the
mask (``masks``) and the levels.
"""

from itk_ncr.registration.solver.bootstrap import displacement_deviation
from itk_ncr.registration.solver.energy import moved_by
from itk_ncr.registration.solver.levels import Level, Stage
from itk_ncr.registration.solver.masking import dilate
from itk_ncr.registration.solver.masks import Support, mask_level_set
from itk_ncr.registration.solver.pair import Pair, level_shape
from itk_ncr.registration.solver.presets import CONTRASTS, SOLVER_PRESETS, solver_preset
from itk_ncr.registration.solver.settings import InstanceSettings
from itk_ncr.registration.solver.solve import Solution, refine, solve
from itk_ncr.registration.solver.start import Start, fill

__all__ = [
    "CONTRASTS",
    "SOLVER_PRESETS",
    "InstanceSettings",
    "Level",
    "Pair",
    "Solution",
    "Stage",
    "Start",
    "Support",
    "dilate",
    "displacement_deviation",
    "fill",
    "level_shape",
    "mask_level_set",
    "moved_by",
    "refine",
    "solve",
    "solver_preset",
]
