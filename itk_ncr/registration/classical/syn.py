"""Symmetric normalisation of ITK, ``itk.SyNImageRegistrationMethod``.

The wheels of ITK do not wrap the adaptors that carry a field from level to level. So each level is
a run of its own on images of its own, the moving one seen through what was found before, and the
displacements (and their inverses) of all runs are composed.

Masks are given to the metric, which then counts no window centred in them; coarse images are made
without what is masked.

References
----------
Avants et al., "Symmetric diffeomorphic image registration with cross-correlation", Med Image Anal
12, 2008, doi:10.1016/j.media.2007.06.004.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops import warp
from itk_ncr.registration.classical.images import itk_image, itk_mask
from itk_ncr.registration.classical.libraries import itk_threads, require_itk
from itk_ncr.registration.classical.task import Task, after, levels, resized, to_voxels, used
from itk_ncr.registration.results import Deformation
from itk_ncr.registration.solver import Pair

FACTORS = (4.0, 2.0, 1.0)
# Iterations at each level, coarsest first: those of antsRegistrationSyN.
ITERATIONS = (100, 70, 20)
RADIUS = 3
HISTOGRAM_BINS = 32
LEARNING_RATE = 0.25
# In voxels squared: the defaults of ANTs.
UPDATE_VARIANCE, TOTAL_VARIANCE = 3.0, 0.0
CONVERGENCE_THRESHOLD, CONVERGENCE_WINDOW = 1e-6, 10


def syn(task: Task) -> Deformation:
    """Local correlation (mutual information for two contrasts), and the inverse that SyN keeps."""
    itk = require_itk("SyNImageRegistrationMethod", "syn", "syn")
    displacement = torch.zeros(1, task.dimension, *(1,) * task.dimension)
    inverse = displacement
    pyramid = levels(task.pair, FACTORS)
    schedule = ITERATIONS[-len(pyramid) :]
    work = [n * pair.fixed.numel() for n, pair in zip(schedule, pyramid, strict=True)]
    done, iterations = 0, 0
    with itk_threads(task.threads):
        for pair, most in zip(pyramid, schedule, strict=True):
            displacement, inverse = resized(displacement, pair), resized(inverse, pair)
            watch = _Watch(task, most, done / sum(work), pair.fixed.numel() / sum(work))
            step, back = _run(itk, task, pair, displacement, most, watch)
            displacement, inverse = after(step, displacement), after(inverse, back)
            iterations += watch.iterations
            done += most * pair.fixed.numel()
    return Deformation(displacement, inverse, iterations)


def _run(
    itk: Any, task: Task, pair: Pair, displacement: Tensor, iterations: int, watch: _Watch
) -> tuple[Tensor, Tensor]:
    """One run from no displacement: the step it makes, and its inverse."""
    fixed = itk_image(pair.fixed, pair.spacing)
    moving = itk_image(warp(pair.moving, displacement), pair.spacing)
    kind = type(fixed)
    if task.multimodal:
        metric = itk.MattesMutualInformationImageToImageMetricv4[kind, kind].New()
        metric.SetNumberOfHistogramBins(HISTOGRAM_BINS)
    else:
        metric = itk.ANTSNeighborhoodCorrelationImageToImageMetricv4[kind, kind].New()
        metric.SetRadius([RADIUS] * task.dimension)
    seen = None if pair.known_moving is None else warp(pair.known_moving, displacement)
    for tensor, given in (
        (used(pair.foreground, pair.known), metric.SetFixedImageMask),
        (used(pair.foreground, seen), metric.SetMovingImageMask),
    ):
        if tensor is not None:
            use = itk.ImageMaskSpatialObject[task.dimension].New()
            use.SetImage(itk_mask(tensor, pair.spacing))
            use.Update()
            given(use)
    method = itk.SyNImageRegistrationMethod[kind, kind].New()
    method.SetFixedImage(fixed)
    method.SetMovingImage(moving)
    method.SetMetric(metric)
    method.SetNumberOfLevels(1)
    method.SetShrinkFactorsPerLevel([1])
    method.SetSmoothingSigmasPerLevel([0])
    method.SetNumberOfIterationsPerLevel([iterations])
    method.SetLearningRate(LEARNING_RATE)
    method.SetGaussianSmoothingVarianceForTheUpdateField(UPDATE_VARIANCE)
    method.SetGaussianSmoothingVarianceForTheTotalField(TOTAL_VARIANCE)
    method.SetConvergenceThreshold(CONVERGENCE_THRESHOLD)
    method.SetConvergenceWindowSize(CONVERGENCE_WINDOW)
    identity = itk.TranslationTransform[itk.D, task.dimension].New()
    identity.SetIdentity()
    method.SetFixedInitialTransform(identity)
    method.SetMovingInitialTransform(identity)
    watch.method = method
    number = method.AddObserver(itk.IterationEvent(), watch)
    method.Update()
    method.RemoveObserver(number)
    watch.method = None
    if watch.raised is not None:
        raise watch.raised
    transform = method.GetTransform()
    fields = transform.GetDisplacementField(), transform.GetInverseDisplacementField()
    step, back = (to_voxels(itk.array_from_image(field), pair.spacing) for field in fields)
    return step, back


class _Watch:
    """Iteration observer: reports progress, and ends the run where the caller aborts."""

    def __init__(self, task: Task, most: int, begun: float, share: float) -> None:
        self.task, self.most, self.begun, self.share = task, most, begun, share
        self.iterations = 0
        self.method: Any = None
        self.raised: BaseException | None = None

    def __call__(self) -> None:
        self.iterations += 1
        try:
            self.task.report(self.begun + self.share * min(self.iterations, self.most))
            self.task.check()
        except BaseException as error:  # ITK would print and lose it: it is raised after the run
            self.raised = error
            self.method.SetNumberOfIterationsPerLevel([0])
