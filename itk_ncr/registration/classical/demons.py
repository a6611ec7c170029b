"""Diffeomorphic demons of SimpleITK, coarse to fine, with masks.

Demons compare intensities voxel by voxel and know no mask. Here they run a few iterations at a
time, and before each run the fixed image is set equal to the moved one wherever a mask says so: a
masked voxel exerts no force, and the Gaussian smoothing of the field carries the motion of its
surroundings into it. That is cost-function masking for this cost, not in-painting: nothing is made
up that tissue could be matched with.

References
----------
Thirion, "Image matching as a diffusion process", Med Image Anal 2, 1998,
doi:10.1016/S1361-8415(98)80022-4; Vercauteren et al., "Diffeomorphic demons", NeuroImage 45, 2009,
doi:10.1016/j.neuroimage.2008.10.040.
"""

from __future__ import annotations

import torch

from itk_ncr.ops import warp
from itk_ncr.registration.classical.images import sitk_field, sitk_image
from itk_ncr.registration.classical.libraries import sitk_threads
from itk_ncr.registration.classical.task import (
    Task,
    as_bright,
    ignored,
    levels,
    resized,
    to_voxels,
)
from itk_ncr.registration.results import Deformation

FACTORS = (8.0, 4.0, 2.0, 1.0)
# Iterations at each level, coarsest first, for the levels that there are.
ITERATIONS = (80, 80, 60, 40)
# Iterations for which a masked region stays as it was when they began.
RUN = 2
# Sigma of the Gaussian that smooths the field after each iteration, in voxels of the level.
FIELD_SIGMA = 1.5


def demons(task: Task) -> Deformation:
    """Thirion's forces, along the gradient of the fixed image."""
    return _descend(task, "Fixed")


def symmetric_demons(task: Task) -> Deformation:
    """Fast symmetric forces, along the mean gradient of the fixed and the moved image."""
    return _descend(task, "Symmetric")


def _descend(task: Task, gradient: str) -> Deformation:
    import SimpleITK as sitk

    displacement = torch.zeros(1, task.dimension, *(1,) * task.dimension)
    pyramid = levels(task.pair, FACTORS)
    schedule = ITERATIONS[-len(pyramid) :]
    # A voxel of a finer level costs as much time as one of a coarser level.
    work = [n * pair.fixed.numel() for n, pair in zip(schedule, pyramid, strict=True)]
    done, iterations = 0.0, 0
    with sitk_threads(task.threads):
        for pair, most in zip(pyramid, schedule, strict=True):
            displacement = resized(displacement, pair)
            moving = sitk_image(pair.moving, pair.spacing)
            left = most
            while left > 0:
                task.check()
                run = min(RUN, left)
                forces = sitk.DiffeomorphicDemonsRegistrationFilter()
                forces.SetUseGradientType(getattr(forces, gradient))
                forces.SetNumberOfIterations(run)
                forces.SetStandardDeviations(FIELD_SIGMA)
                moved = warp(pair.moving, displacement)
                masked = ignored(pair, displacement)
                fixed = as_bright(pair.fixed, moved, masked)
                if masked is not None:
                    fixed = torch.where(masked > 0.5, moved, fixed)
                fixed = sitk_image(fixed, pair.spacing)
                field = forces.Execute(fixed, moving, sitk_field(displacement, pair.spacing))
                displacement = to_voxels(sitk.GetArrayViewFromImage(field), pair.spacing)
                left -= run
                iterations += run
                done += run * pair.fixed.numel()
                task.report(done / sum(work))
    return Deformation(displacement, None, iterations)
