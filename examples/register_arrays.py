"""
Register two arrays
===================

A slice of a head with a lesion, a healthy one, and everything that comes out.

Run: python examples/register_arrays.py
"""

from __future__ import annotations

import numpy as np
from phantom import healthy, lesion_mask, patient
from pictures import show

import itk_ncr
from itk_ncr.images import as_image

# Any array has a place in space once it is told its spacing, origin and direction (x, y, z; mm).
# numpy, torch and xarray will do; images of ITK and SimpleITK bring their own.
array = patient().array
fixed = as_image(array, spacing=(2.0, 2.0), origin=(-79.0, -95.0))
moving = healthy()

result = itk_ncr.register(fixed, moving, seed=0)

quality = result.quality
print(f"distance before {quality.distance_before:.4f}, after {quality.distance_outside:.4f}")
print(f"masked {quality.masked_fraction:.1%}, smallest Jacobian {quality.minimum_jacobian:.2f}")

# The displacement is in mm, (x, y): warped(x) = moving(x + displacement(x)), affine included.
print("displacement", result.displacement.array.shape, "on", result.displacement.grid.spacing, "mm")
print("warped      ", result.warped.array.shape, result.warped.array.dtype)

# The mask says where the patient has no counterpart in the healthy head: found, not given.
found, true = result.mask.array == 1, lesion_mask().array == 1
dice = 2 * (found & true).sum() / (found.sum() + true.sum())
print(f"overlap of the found mask with the lesion: Dice {dice:.2f}")

# A stricter mask costs nothing.
print("masked at 0.7:", int(result.with_threshold(0.7).mask.array.sum()), "pixels")

# Labels of the moving image go along; so do points, forth and back.
labels = itk_ncr.Image((moving.array > 30).astype(np.uint8), moving.grid)
carried = result.resample(labels, mode="nearest")
print("labels carried to the fixed grid:", np.unique(carried.array))
points = np.array([[-20.0, 10.0], [5.0, 40.0]])
there = result.transform_points(points)
back = result.transform_points(there, inverse=True)
print(f"points there and back again: off by {np.abs(back - points).max():.2f} mm")

show(
    patient=fixed,
    healthy=moving,
    warped=result.warped,
    mask_probability=result.noncorrespondence,
    Jacobian=result.jacobian,
)
