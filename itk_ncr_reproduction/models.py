"""Training of the networks of a reproduction: resumed where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from itk_ncr.checkpoints import ModelDescription, save_model
from itk_ncr.data import Source, data_hash
from itk_ncr.files import locked
from itk_ncr.geometry import orientation_code
from itk_ncr.images import read_image
from itk_ncr.training import Report, Training, TrainingSettings, code_version, recipe
from itk_ncr_reproduction.cases import brains_of, training_retinas
from itk_ncr_reproduction.design import Design, Experiment
from itk_ncr_reproduction.methods import METHODS


def model_folder(output: Path, experiment: str, variant: str, fold: int) -> Path:
    """Where a network of a reproduction lies."""
    return output / "models" / f"{experiment}-{variant}-{fold}"


def model_of(output: Path, experiment: str, key: str, fold: int) -> Path | None:
    """The model that a row of ``METHODS`` uses; None where it uses none."""
    variant = METHODS[key].variant
    return None if variant is None else model_folder(output, experiment, variant, fold) / "model"


def is_trained(folder: Path) -> bool:
    """Whether the model is there; its description is written last."""
    return (folder / "model" / "model.json").is_file()


def settings_of(experiment: Experiment, variant: str) -> TrainingSettings:
    """Settings of one variant's training."""
    base = replace(recipe(experiment.name), settings=experiment.settings)
    return base.with_variant(variant).settings


def train(
    data: Path,
    output: Path,
    design: Design,
    experiment: Experiment,
    variant: str,
    fold: int,
    *,
    device: str = "cpu",
    progress: Callable[[Report], None] | None = None,
) -> None:
    """Train one network and save it as a model; resumes an interrupted training."""
    folder = model_folder(output, experiment.name, variant, fold)
    folder.mkdir(parents=True, exist_ok=True)
    # A worker of a run that was killed may be about to end still.
    with locked(folder):
        if not is_trained(folder):
            _train(data, folder, design, experiment, variant, fold, device, progress)


def _train(
    data: Path,
    folder: Path,
    design: Design,
    experiment: Experiment,
    variant: str,
    fold: int,
    device: str,
    progress: Callable[[Report], None] | None,
) -> None:
    settings = settings_of(experiment, variant)
    source: Source
    spacing: tuple[float, ...] | None = None
    orientation = "LP"  # of phantoms of retinas, which are arrays without a header
    if experiment.name == "oct":
        source, images = training_retinas(design, experiment, fold), "phantoms"
    else:
        group = brains_of(data, experiment.dimension, design.dealing)
        pairs = group.training_pairs(experiment, fold)
        source, images = pairs, data_hash(group.manifest)
        grid = read_image(group.manifest.subjects[0].image).grid
        orientation = orientation_code(grid)
        if experiment.dimension == 3:
            spacing = tuple(grid.resized(pairs.shape).spacing[::-1])
    fingerprint = hashlib.sha256(
        json.dumps([images, experiment.sampling.as_dict(), fold], sort_keys=True).encode()
    ).hexdigest()
    training = Training(settings, source, folder, data_hash=fingerprint, device=device)
    code, cpu = code_version(), time.process_time()
    network = training.run(progress=progress)
    cpu = time.process_time() - cpu
    shape = tuple(source.sample(0, torch.Generator().manual_seed(0)).fixed.shape[1:])
    description = ModelDescription(
        name=folder.name,
        network=settings.network,
        network_settings=dict(settings.network_settings),
        dimension=settings.dimension,
        contrast="oct" if experiment.name == "oct" else "brain-t1",
        preset=experiment.name,
        spacing_mm=spacing,
        orientation=orientation,
        size=shape,
        variant=variant,
        training={
            "recipe": f"itk-ncr reproduce DATA --budget {design.budget} --seed {design.seed}",
            "seed": settings.seed,
            "steps": settings.steps,
            "wall_seconds": round(training.seconds, 3),
            # Of this process: an interrupted training's earlier parts are not in it.
            "cpu_seconds": round(cpu, 3),
            "data_hash": images,
            "code_version": code,
        },
        limits="For the tables of a reproduction; the shipped models are better.",
    )
    save_model(folder / "model", network, description)
