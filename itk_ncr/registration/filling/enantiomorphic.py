"""Enantiomorphic normalisation: lesions are filled from the other side, and not masked.

References
----------
Nachev et al., "Enantiomorphic normalization of focally lesioned brains", NeuroImage 39, 2008,
doi:10.1016/j.neuroimage.2007.10.002.

Where ours differs: the fill (see ``fill``), and our own deformable registration without a mask in
place of that of SPM. A lesion that cannot be filled is masked instead.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from itk_ncr.fields import resize_velocity
from itk_ncr.images import Image
from itk_ncr.ops import exponential_pair
from itk_ncr.registration.classical.task import Task
from itk_ncr.registration.filling.fill import NoOtherSide, mirror_filled
from itk_ncr.registration.preparation import as_tensor
from itk_ncr.registration.results import Deformation
from itk_ncr.registration.solver import solve
from itk_ncr.settings import RegistrationSettings

# Share of the work that goes into each fill, for the progress.
FILL_SHARE = 0.3


def enantiomorphic(task: Task) -> Deformation:
    """Mirror fills of both images, as far as lesions are given; then our solver, unmasked."""
    fixed, known, notes = _mirrored(task, "fixed", task.pair.fixed, task.lesion)
    moving, known_moving, more = _mirrored(task, "moving", task.pair.moving, task.moving_lesion)
    pair = replace(
        task.pair,
        fixed=fixed,
        moving=moving,
        known=task.pair.known if known else None,
        known_moving=task.pair.known_moving if known_moving else None,
    )
    begun = 2 * FILL_SHARE

    def report(share: float, _text: str) -> None:
        task.check()
        task.report(begun + (1 - begun) * share)

    solution = solve(pair, task.solver, find_mask=False, progress=report)
    u, u_inverse = exponential_pair(resize_velocity(solution.velocity, fixed.shape[2:]))
    return Deformation(u, u_inverse, len(solution.energies), warnings=(*notes, *more))


def _mirrored(
    task: Task, role: str, image: Tensor, lesion: Tensor | None
) -> tuple[Tensor, bool, tuple[str, ...]]:
    """An image with its lesion filled, whether it stays masked instead, and why."""
    if lesion is None or not bool(lesion.any()):
        return image, False, ()
    settings = RegistrationSettings(working_voxels=max(lesion.numel(), 8**3))
    done = FILL_SHARE if role == "moving" else 0.0
    begun = done

    def report(share: float, _text: str) -> None:
        nonlocal done
        done = max(done, begun + FILL_SHARE * share)  # a second start begins at 0 again
        task.check()
        task.report(done)

    try:
        found = mirror_filled(
            Image(image[0, 0].numpy(), task.grid),
            Image(lesion[0, 0].numpy().astype(np.uint8), task.grid),
            settings,
            progress=report,
        )
    except NoOtherSide as reason:
        return image, True, (f"no mirror fill of the {role} image: {reason}; it was masked.",)
    return as_tensor(found.image.array), False, found.warnings
