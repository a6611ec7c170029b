"""
Retinal scans with SimpleITK
============================

SimpleITK images, files and transforms, on two scans of one eye.

Run: python examples/simpleitk_registration.py [folder for the results]
"""

from __future__ import annotations

import sys
from pathlib import Path

import SimpleITK as sitk
from pictures import show

from itk_ncr.images import as_image
from itk_ncr.sitk import NCRRegistration

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_results")
folder.mkdir(parents=True, exist_ok=True)

# Two scans of one eye with age-related macular degeneration: fluid comes and goes.
data = Path(sys.argv[0]).parent / "data"
fixed, moving = (sitk.ReadImage(data / f"oct_{name}.png") for name in ("fixed", "moving"))

registration = NCRRegistration()
registration.SetPreset("oct")
registration.SetSmoothness(1.5)
registration.SetMaskThreshold(0.6)
messages: list[str] = []
registration.AddCommand(
    sitk.sitkProgressEvent, lambda: messages.append(registration.GetProgressMessage())
)
displacement = registration.Execute(fixed, moving)
print("steps:", ", ".join(dict.fromkeys(messages)))
print("displacement:", displacement.GetSize(), displacement.GetPixelIDTypeAsString())
print(f"masked: {registration.GetQuality().masked_fraction:.1%}")

# The transform works wherever SimpleITK takes one; labels go with nearest neighbours.
transform = registration.GetTransform()
labels = sitk.Cast(moving > 90, sitk.sitkUInt8)
carried = sitk.Resample(labels, fixed, transform, sitk.sitkNearestNeighbor, 0)

sitk.WriteImage(registration.GetWarpedImage(), folder / "warped.nii.gz")
sitk.WriteImage(registration.GetMask(), folder / "mask.nii.gz")
sitk.WriteImage(carried, folder / "labels.nii.gz")
sitk.WriteTransform(registration.GetTransform(composite=True), folder / "transform.h5")
print("written:", ", ".join(sorted(path.name for path in folder.iterdir())))

show(fixed=as_image(fixed), moving=as_image(moving))
show(
    warped=as_image(registration.GetWarpedImage()),
    mask=as_image(registration.GetMask()),
)
