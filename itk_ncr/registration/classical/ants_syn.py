"""SyN of ANTs through antspyx.

References
----------
Avants et al., "A reproducible evaluation of ANTs similarity metric performance in brain image
registration", NeuroImage 54, 2011, doi:10.1016/j.neuroimage.2010.09.025.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from itk_ncr.errors import require_package
from itk_ncr.images import read_displacement
from itk_ncr.registration.classical.libraries import environment, quiet
from itk_ncr.registration.classical.task import Task, scalar, to_voxels
from itk_ncr.registration.results import Deformation


def ants_syn(task: Task) -> Deformation:
    """``ants.registration(..., "SyNOnly")`` with its own defaults: mutual information.

    ANTs reads its number of threads once in a process, when it is first used.
    """
    with environment("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(task.threads)):
        ants = require_package("ants", "method 'ants-syn'", "ants")
        spacing = task.pair.spacing

        def image(array: NDArray[Any]) -> Any:
            # antspyx wants (x, y, z).
            return ants.from_numpy(array.T.astype(np.float32), spacing=spacing[::-1])

        masks = {
            name: image(use)
            for name, use in (("mask", task.use_fixed), ("moving_mask", task.use_moving))
            if use is not None
        }
        with tempfile.TemporaryDirectory() as folder, quiet():
            found = ants.registration(
                image(scalar(task.pair.fixed)),
                image(scalar(task.pair.moving)),
                type_of_transform="SyNOnly",
                initial_transform="Identity",
                outprefix=str(Path(folder) / "ants"),
                random_seed=task.tool_seed,
                **masks,
            )
            there, back = (
                to_voxels(read_displacement(_field(found[name])).array, spacing)
                for name in ("fwdtransforms", "invtransforms")
            )
    return Deformation(there, back, 0)


def _field(files: list[str]) -> str:
    """The displacement field among the files of transforms; the rest is the identity."""
    return next(name for name in files if name.endswith("Warp.nii.gz"))
