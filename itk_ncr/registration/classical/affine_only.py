"""The affine pre-alignment alone, from which every other method starts."""

from __future__ import annotations

import torch

from itk_ncr.registration.classical.task import Task
from itk_ncr.registration.results import Deformation


def affine_only(task: Task) -> Deformation:
    """No deformation at all."""
    shape = task.pair.fixed.shape[2:]
    nothing = torch.zeros(1, task.dimension, *shape)
    return Deformation(nothing, nothing, 0)
