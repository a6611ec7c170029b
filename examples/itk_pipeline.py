"""
A stage of an ITK pipeline
==========================

From files, through filters, to files; needs the extra ``itk``.

Run: python examples/itk_pipeline.py [folder for the results]
"""

from __future__ import annotations

import sys
from pathlib import Path

import itk
from phantom import healthy, patient
from pictures import show

import itk_ncr
from itk_ncr.images import as_image, to_itk

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "example_results")
folder.mkdir(parents=True, exist_ok=True)
itk.imwrite(to_itk(patient()), folder / "fixed.nrrd")
itk.imwrite(to_itk(healthy()), folder / "moving.nrrd")

# Nothing is read, smoothed or registered yet: these lines only connect.
scalar = itk.Image[itk.F, 2]
fixed = itk.ImageFileReader[scalar].New(FileName=str(folder / "fixed.nrrd"))
moving = itk.ImageFileReader[scalar].New(FileName=str(folder / "moving.nrrd"))
registration = itk_ncr.NCRRegistrationFilter.New(fixed, moving, smoothness=1.5)
warp = itk.WarpImageFilter.New(moving, displacement_field=registration.GetDisplacementField())
fixed.UpdateOutputInformation()  # reads the header, so that the next line knows the grid
warp.SetOutputParametersFromImage(fixed.GetOutput())
writer = itk.ImageFileWriter.New(warp, FileName=str(folder / "warped.nrrd"))

runs: list[str] = []
registration.AddObserver(itk.EndEvent(), lambda: runs.append("registered"))

# The writer pulls, and everything upstream runs once.
writer.Update()
print("after the writer:", runs)

# A new threshold reruns the mask, and nothing else.
mask = registration.GetMask()
for threshold in (0.3, 0.5, 0.7):
    registration.SetMaskThreshold(threshold)
    registration.Update()
    print(f"masked at {threshold}: {itk.array_view_from_image(mask).sum()} pixels")
print("after three thresholds:", runs)

# A change of the registration's own settings makes it run again, when an update is requested.
registration.SetSmoothness(3)
writer.Update()
print("after a new smoothness:", runs)

# The transform carries the affine; ITK, SimpleITK, ANTs and Slicer read the file.
itk.transformwrite([registration.GetTransform(composite=True)], str(folder / "transform.h5"))
resample = itk.ResampleImageFilter.New(
    moving, reference_image=fixed.GetOutput(), use_reference_image=True
)
resample.SetTransform(itk.transformread(str(folder / "transform.h5"))[0])
resample.Update()
difference = itk.array_from_image(resample.GetOutput()) - itk.array_from_image(warp.GetOutput())
print(f"read back and resampled: mean difference {abs(difference).mean():.4f} of 140")
itk.imwrite(registration.GetInverseDisplacementField(), folder / "displacement_inverse.nrrd")
print("written:", ", ".join(sorted(path.name for path in folder.iterdir())))

show(
    fixed=as_image(fixed.GetOutput()),
    moving=as_image(moving.GetOutput()),
    warped=as_image(warp.GetOutput()),
    mask=as_image(mask),
)
