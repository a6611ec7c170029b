"""
Masks that are known
====================

A lesion to ignore, a region to use, and what happens without either.

Run: python examples/given_masks.py
"""

from __future__ import annotations

import numpy as np
from phantom import FIXED_GRID, healthy, lesion_mask, patient
from pictures import show

import itk_ncr

fixed, moving, lesion = patient(), healthy(), lesion_mask()

# 1 = ignore. The mask lives in the physical space of the fixed image; its grid may be another.
told = itk_ncr.register(fixed, moving, lesion_mask=lesion)

# Nothing told: the registration finds the region without a counterpart by itself.
alone = itk_ncr.register(fixed, moving)

# Nothing told and nothing sought: ordinary registration, which squeezes tissue into the lesion.
ordinary = itk_ncr.register(fixed, moving, mask="none")

# 1 = use. Here the upper half of the head; below, the map is only carried on smoothly.
upper = itk_ncr.Image((FIXED_GRID.points()[..., 1] < 0).astype(np.uint8), FIXED_GRID)
half = itk_ncr.register(fixed, moving, roi_mask=upper)

inside = lesion.array == 1
for name, result in {"told": told, "alone": alone, "ordinary": ordinary, "half": half}.items():
    change = np.abs(np.log(result.jacobian.array[inside])).mean()
    masked = result.mask.array[inside].mean()
    print(f"{name:9} volume change under the lesion {change:.3f}, lesion masked {masked:.0%}")

# The Jacobian of ordinary registration: red and blue are tissue stretched and squeezed.
show(
    patient=fixed,
    Jacobian_told=told.jacobian,
    Jacobian_alone=alone.jacobian,
    Jacobian_ordinary=ordinary.jacobian,
)
