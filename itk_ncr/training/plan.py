"""Checked plan of a training: description, training, saved model."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from itk_ncr import __version__
from itk_ncr.checkpoints import ModelDescription, StoredModel, load_model, save_model
from itk_ncr.data import (
    Augmentation,
    Manifest,
    PairSource,
    SyntheticPairs,
)
from itk_ncr.geometry import orientation_code
from itk_ncr.images import read_image
from itk_ncr.training.calibration import finds_mask, temper, temperature_of
from itk_ncr.training.loop import Training
from itk_ncr.training.recipes import Recipe
from itk_ncr.training.validation import Validation

# A picture's pixels have no size in millimetres, whatever its header says.
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
# Points of the loss curve that go into a model's description.
CURVE = 20
# The contrast of a model whose maker has not said it: only they know what the images show.
UNSAID = "not said"
# Label values that are printed one by one.
MOST_SHOWN = 12


@dataclass(frozen=True)
class Plan:
    """A checked training, ready to run.

    Attributes
    ----------
    manifest : Manifest
        With a split.
    recipe : Recipe
    source : Source
        Pairs to learn from.
    validation : Source, optional
        Validation pairs.
    hash : str
        Of the images.
    lesion_masks : Path, optional
        Folder of the shapes of inserted lesions.
    notes : tuple of str
        What was decided on the way.
    start : StoredModel, optional
        Whose weights to begin with.
    code : str
        Version of the code at the start, because a checkout may change meanwhile.
    """

    manifest: Manifest
    recipe: Recipe
    source: PairSource | SyntheticPairs
    validation: PairSource | SyntheticPairs | None
    hash: str
    lesion_masks: Path | None = None
    notes: tuple[str, ...] = ()
    start: StoredModel | None = None
    code: str = field(default_factory=lambda: code_version())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the training grid, array order."""
        return self.source.shape

    def training(self, folder: Path, *, validate_every: int, device: str = "cpu") -> Training:
        """The training in its folder, new or resumed.

        Parameters
        ----------
        folder : Path
            Folder of the run.
        validate_every : int
            Steps between validations.
        device : str
            "cpu" or "cuda".

        Returns
        -------
        Training
            Ready to run.

        Raises
        ------
        ArgumentError
            If the folder holds another training.
        """
        looked_at = None
        if self.validation is not None:
            looked_at = Validation(self.validation, validate_every)
        return Training(
            self.recipe.settings,
            self.source,
            folder,
            data_hash=self._fingerprint(),
            validation=looked_at,
            device=device,
            start=None if self.start is None else load_model(self.start.folder)[0].state_dict(),
        )

    def save(
        self,
        training: Training,
        folder: Path,
        *,
        name: str,
        contrast: str | None = None,
        command: str = "",
        licence: Mapping[str, str] | None = None,
    ) -> StoredModel:
        """Write the trained network with its description.

        Parameters
        ----------
        training : Training
            Finished or stopped.
        folder : Path
            As for :func:`itk_ncr.checkpoints.save_model`.
        name, contrast : str
            As for :class:`itk_ncr.checkpoints.ModelDescription`.
        command : str
            Command line of the training, for the record.
        licence : mapping, optional
            As for :class:`itk_ncr.checkpoints.ModelDescription`.

        Returns
        -------
        StoredModel
            The model as written.

        Raises
        ------
        ArgumentError, CheckpointError
            As :func:`itk_ncr.checkpoints.save_model`.
        """
        recipe, settings = self.recipe, self.recipe.settings
        subject = self.manifest.subjects[0]
        grid = read_image(subject.image).grid
        reduced = grid.resized(self.shape)
        is_picture = subject.image.name.lower().endswith(PICTURES)
        training_record = {
            "recipe": command,
            "seed": settings.seed,
            "steps": training.step,
            "wall_seconds": round(training.seconds, 1),
            "data_hash": self.hash,
            "code_version": self.code,
            "patients": len(self.manifest.patients("train")),
            "settings": settings.as_dict(),
            "sampling": recipe.sampling.as_dict(),
            "loss_curve": _curve(training.rows, "total"),
        }
        network, temperature = self._calibrated(training)
        if temperature is not None:
            training_record["temperature"] = round(temperature, 4)
        if self.start is not None:
            training_record["start"] = f"{self.start.description.name} ({self.start.sha256})"
        figures = {
            f"{key}_of_the_last_step": training.rows[-1][key]
            for key in ("validation_distance", "validation_jaccard")
            if training.rows and key in training.rows[-1]
        }
        description = ModelDescription(
            name=name,
            network=settings.network,
            network_settings=settings.all_network_settings,
            dimension=settings.dimension,
            contrast=contrast or UNSAID,
            preset=recipe.preset,
            spacing_mm=None if is_picture else tuple(reduced.spacing[::-1]),
            orientation=orientation_code(grid),
            size=self.shape,
            variant=settings.variant,
            training=training_record,
            figures=figures,
            licence=dict(licence or {}),
            limits="Images like those it was trained on.",
        )
        return save_model(folder, network, description)

    def _calibrated(self, training: Training) -> tuple[nn.Module, float | None]:
        """The network with the temperature that fits validation patients, and that temperature.

        None where its mask has no truth: no mask, no lesions, or no patients for validation.
        """
        network, sampling = training.result, self.recipe.sampling
        told = sampling.lesions > 0 or any(s.lesion is not None for s in self.manifest.subjects)
        if self.validation is None or not told or not finds_mask(network):
            return network, None
        source = replace(sampling, augmentation=Augmentation()).source(
            self.manifest, "val", lesion_masks=self.lesion_masks, preload=False
        )
        temperature = temperature_of(network, source, self.recipe.settings.seed)
        return temper(network, temperature), temperature

    def summary(self) -> list[tuple[str, str]]:
        """Description of the training, as pairs of a title and a text."""
        manifest, settings = self.manifest, self.recipe.settings
        subjects = manifest.subjects
        counts = {
            split: f"{len(manifest.patients(split))} {split}"
            for split in ("train", "val", "test")
            if manifest.patients(split)
        }
        seen = settings.steps * settings.batch * settings.accumulate / len(self.source)
        with_labels = sum(s.labels is not None for s in subjects)
        with_lesions = sum(s.lesion is not None for s in subjects)
        images = f"{len(subjects)} of {len(manifest.patients())} patients"
        pairs = f"{len(self.source)} for training"
        if self.validation is not None:
            pairs += f", {len(self.validation)} for validation"
        split = (
            f"{settings.first_masked_step} of them without mask"
            if settings.variant == "ncr-s"
            else ""
        )
        return [
            ("images", f"{images}; {with_labels} with labels, {with_lesions} with lesion masks"),
            *([("labels", self._labels())] if with_labels else []),
            ("grid", " x ".join(map(str, self.shape)) + " voxels (array order)"),
            ("split", f"{', '.join(counts.values())} patients"),
            ("pairs", pairs),
            (
                "network",
                f"{settings.variant} ({settings.network}), "
                + ", ".join(f"{k} {v}" for k, v in settings.network_settings.items()),
            ),
            (
                "steps",
                f"{settings.steps}{', ' + split if split else ''}; {settings.batch} pairs"
                + (f" x {settings.accumulate}" if settings.accumulate > 1 else "")
                + f" each, {seen:.3g} times every pair",
            ),
            ("learning rate", f"{settings.learning_rate:g}, {settings.precision}"),
            ("lesions", self._lesions()),
            *(("note", note) for note in self.notes),
        ]

    def _lesions(self) -> str:
        share = self.recipe.sampling.lesions
        if share == 0:
            return "none inserted"
        shapes = "random blobs" if self.lesion_masks is None else "shapes of masks and random blobs"
        return f"inserted in {100 * share:.0f} % of the fixed images, {shapes}"

    def _labels(self) -> str:
        """Which label values count in training."""
        source = self.source
        values = sorted({v for i in source.positions for v in source.store.label_values(i)})
        ignored = sorted({v for i in source.positions for v in source.store.ignored(i)})
        if not values:
            return "none in training"
        text = ", ".join(map(str, values))
        if len(values) > MOST_SHOWN:
            text = f"{len(values)} values from {values[0]} to {values[-1]}"
        return f"{text}; not counted: {', '.join(map(str, [0, *ignored]))}"

    def _fingerprint(self) -> str:
        """Hash of images, masks and pairing, which a resumed training must share."""
        parts: list[Any] = [self.hash, self.recipe.sampling.as_dict()]
        if self.lesion_masks is not None:
            files = sorted(p for p in self.lesion_masks.iterdir() if p.is_file())
            parts += [[p.name, hashlib.sha256(p.read_bytes()).hexdigest()] for p in files]
        if self.start is not None:
            parts.append(self.start.sha256)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def code_version() -> str:
    """Version of this package, and the commit where it runs from a checkout.

    Returns
    -------
    str
        ``VERSION`` or ``VERSION+COMMIT``, with ``-dirty`` where files were changed.
    """
    package = Path(__file__).resolve().parents[1]
    command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=12"]
    if not (package.parent / ".git").exists():
        return __version__
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{found.stdout.strip()}"


def _curve(rows: list[dict[str, float]], name: str) -> list[list[float]]:
    """Steps and means of the loss between them, few enough to read."""
    known = [row for row in rows if name in row]
    each = max(1, -(-len(known) // CURVE))
    parts = [known[i : i + each] for i in range(0, len(known), each)]
    return [
        [part[-1]["step"], round(sum(row[name] for row in part) / len(part), 6)] for part in parts
    ]
