"""B-splines of elastix, through itk-elastix.

References
----------
Klein et al., "elastix: a toolbox for intensity-based medical image registration", IEEE TMI 29,
2010, doi:10.1109/TMI.2009.2035616.
"""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from itk_ncr.registration.classical.images import itk_image, itk_mask
from itk_ncr.registration.classical.libraries import itk_threads, quiet, require_itk
from itk_ncr.registration.classical.task import Task, to_voxels
from itk_ncr.registration.results import Deformation

# Distance of the control points at the last resolution, in voxels of the finest axis.
CONTROL_SPACING_VOXEL = 8.0
RESOLUTIONS = 3
FEWEST_VOXELS_ALONG_AN_AXIS = 8


def elastix(task: Task) -> Deformation:
    """The default B-spline parameter map; its rigid and affine stages are left to our affine."""
    itk = require_itk("ElastixRegistrationMethod", "elastix", "elastix")
    spacing = task.pair.spacing
    fixed, moving = (itk_image(image, spacing) for image in (task.pair.fixed, task.pair.moving))
    kind = type(fixed)
    shape = task.pair.fixed.shape[2:]
    resolutions = max(
        1, min(RESOLUTIONS, int(np.log2(min(shape) / FEWEST_VOXELS_ALONG_AN_AXIS)) + 1)
    )
    parameters = itk.ParameterObject.New()
    control_spacing = CONTROL_SPACING_VOXEL * min(spacing)
    row = parameters.GetDefaultParameterMap("bspline", resolutions, control_spacing)
    row["RandomSeed"] = [str(task.tool_seed)]
    row["WriteResultImage"] = ["false"]
    parameters.AddParameterMap(row)
    with itk_threads(task.threads), tempfile.TemporaryDirectory() as folder, quiet():
        method = itk.ElastixRegistrationMethod[kind, kind].New()
        method.SetFixedImage(fixed)
        method.SetMovingImage(moving)
        for use, setter in (
            (task.use_fixed, method.SetFixedMask),
            (task.use_moving, method.SetMovingMask),
        ):
            if use is not None:
                setter(itk_mask(use, spacing))
        method.SetParameterObject(parameters)
        method.SetOutputDirectory(folder)
        method.SetLogToConsole(False)
        method.SetLogToFile(False)
        # Its own number of threads is left alone: with two, itk-elastix 0.25 crashes.
        method.Update()
        field = _field(itk, moving, method.GetTransformParameterObject(), folder)
        iterations = resolutions * int(row["MaximumNumberOfIterations"][0])
    return Deformation(to_voxels(field, spacing), None, iterations)


def _field(itk: Any, moving: Any, transform: Any, folder: str) -> np.ndarray:
    """The displacement; transformix writes a copy of it, unasked, into the folder."""
    transformix = itk.TransformixFilter[type(moving)].New()
    transformix.SetMovingImage(moving)
    transformix.SetTransformParameterObject(transform)
    transformix.SetComputeDeformationField(True)
    transformix.SetOutputDirectory(folder)
    transformix.SetLogToConsole(False)
    transformix.Update()
    field: np.ndarray = itk.array_from_image(transformix.GetOutputDeformationField())
    return field
