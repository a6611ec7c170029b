"""Fit what turns cues into log-odds of noncorrespondence (``evidence-*`` of the solver).

    python benchmarks/evidence.py brains --data DATA --work FOLDER [--dimension 3] [--pairs 160]
    python benchmarks/evidence.py retinas --work FOLDER --dimension 2 [--pairs 160]

DATA holds the folders ixi_dlmuse and stroke_lesions; retinas are phantoms. Pairs of brains of
*training* subjects, two thirds of them with a realistic phantom lesion, half of them in another
contrast, with bias fields, noise and tone curves of their own, are registered; cues and truth of
some voxels of each are kept in FOLDER, one file a pair, so that a stopped run resumes and several
processes can share the work (``--first``, ``--last``, ``--collect``). The perceptrons are fitted
one after the other, because each sees what those before it say: the first (of slices of brains
only), the one of the path, and the final one. The last needs registrations that were masked by the
path; these take eight times as long, so it is fitted on half as many pairs. What ships is of 176
pairs of volumes, 400 of slices and 80 of retinas.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import itk_ncr
from itk_ncr.data.phantoms import LesionBank, OctPhantoms, random_lesion
from itk_ncr.data.phantoms.blobs import random_centre, sized_blob
from itk_ncr.data.placement import Placement
from itk_ncr.data.store import filled
from itk_ncr.fields import resize_velocity, smooth
from itk_ncr.ops import exponential, resize, warp
from itk_ncr.preprocessing import normalise
from itk_ncr.registration.preparation import Preparation
from itk_ncr.registration.request import Request
from itk_ncr.registration.solver import (
    InstanceSettings,
    Pair,
    evidence,
    moved_by,
    solve,
    solver_preset,
)
from itk_ncr.registration.solver.solve import walk
from itk_ncr.settings import RegistrationSettings

# Shares: of healthy pairs, of pairs in their own contrast, of plain lesions, of small ones among
# the realistic lesions.
# Every so many pairs one is of textures instead of brains.
TEXTURES_EVERY = 4
HEALTHY, SAME_CONTRAST, PLAIN, SMALL_LESIONS = 0.33, 0.6, 0.5, 0.3
VOXELS_PER_PAIR = 12_000
HIDDEN, STEPS, BATCH, RATE, DECAY = 16, 1500, 4096, 1e-2, 1e-3
# Kinds of images and axes with a first perceptron; see evidence.EvidenceModel.
WITH_FIRST = {("brains", 2)}
SLICES = {"m08": -8.0, "p02": 2.0, "p18": 18.0}
Samples = tuple[NDArray[np.float16], NDArray[np.bool_]]
"""Cues, (n, cues), and whether the voxel is in the lesion, (n,)."""


@dataclass(frozen=True)
class Example:
    """A pair and its truth."""

    fixed: itk_ncr.Image
    moving: itk_ncr.Image
    lesion: NDArray[np.bool_]
    affected: NDArray[np.bool_]
    kind: str


class Examples:
    """Random pairs of one split, each a function of its number."""

    def __init__(self, data: Path, split: str, dimension: int) -> None:
        with open(data / "ixi_dlmuse" / "subjects.csv") as lines:
            self.subjects = [r["id"] for r in csv.DictReader(lines) if r["split"] == split]
        self.data, self.dimension = data, dimension
        self.bank = LesionBank.from_folder(data / "stroke_lesions" / "masks")

    def __call__(self, number: int) -> Example:
        """The pair of a number."""
        generator = torch.Generator().manual_seed(number)
        if number % TEXTURES_EVERY == 0:
            return _textured(self.dimension, generator)
        one, two = torch.randperm(len(self.subjects), generator=generator)[:2].tolist()
        level = list(SLICES)[_below(len(SLICES), generator)]
        images = [self._read(self.subjects[i], level) for i in (one, two)]
        grid = images[0].grid
        scaled = [normalise(image.array) for image in images]
        values = _contrast([torch.from_numpy(s.values) for s in scaled], generator)
        values = [_scanner(v, generator) for v in values]
        fixed, moving = (torch.where(v > 0, v, 0.0) for v in values)
        lesion = affected = np.zeros(grid.shape, bool)
        kind = "healthy"
        if _uniform(generator) > HEALTHY:
            inside = filled(torch.from_numpy(scaled[0].foreground))
            place = Placement.of(grid, slice_mm=SLICES[level] if self.dimension == 2 else None)
            if _uniform(generator) < PLAIN:
                fixed, mask = self._plain_lesion(fixed, inside, place, generator)
                lesion = affected = mask.numpy()
                kind = "plain"
            else:
                sizes = (0.3, 150.0) if _uniform(generator) < SMALL_LESIONS else (6.0, 150.0)
                drawn = random_lesion(
                    fixed[None], inside, place, generator, bank=self.bank, size_ml=sizes
                )
                fixed, kind = drawn.image[0], drawn.kind
                lesion, affected = drawn.mask.numpy(), drawn.affected.numpy()
        return Example(
            itk_ncr.Image(_noisy(fixed, generator), grid),
            itk_ncr.Image(_noisy(moving, generator), images[1].grid),
            lesion,
            affected,
            kind,
        )

    def _plain_lesion(
        self, image: Tensor, inside: Tensor, place: Placement, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """One even intensity, dark in half of the cases, in the shape of a stroke or a blob."""
        mask = self.bank.draw(place, inside, generator) if _uniform(generator) < 0.6 else None
        if mask is None:
            share = float(np.exp(_uniform(generator, np.log(0.003), np.log(0.12))))
            centre = random_centre(inside, generator, (image > 0.2) & inside)
            voxels = max(20, round(share * int(inside.sum())))
            mask = sized_blob(inside, place.spacing_mm, generator, voxels=voxels, centre=centre)
        dark = _uniform(generator) < 0.5
        level = _uniform(generator, 0.03, 0.4) if dark else _uniform(generator, 0.3, 1.45)
        texture = _uniform(generator, 0, 0.08) * torch.randn(image.shape, generator=generator)
        rim = _uniform(generator, 0, 1.5)
        coverage = smooth(mask.float()[None, None], rim)[0, 0]
        ill = image + coverage * (level + texture - image)
        return torch.where((image > 0) & inside, ill.clamp(0.004, 1.5), image), mask

    def _read(self, subject: str, level: str) -> itk_ncr.Image:
        folder = self.data / "ixi_dlmuse"
        if self.dimension == 3:
            return itk_ncr.read_image(folder / "vol3d" / f"{subject}_t1.nii.gz")
        return itk_ncr.read_image(folder / "slices2d" / f"{subject}_{level}_t1.png")


def retinas(number: int) -> Example:
    """Both visits of a virtual patient, with another number of pixels and scanner every time."""
    generator = torch.Generator().manual_seed(number)
    rows, columns = (int(_uniform(generator, 128, most)) for most in (400, 640))
    source = OctPhantoms(number + 1, shape=(rows, max(columns, 192)), flip=True)
    sample = source.sample(number, generator)
    assert sample.lesion is not None
    fixed, moving = (_scanner(i[0], generator) for i in (sample.fixed, sample.moving))
    grid = itk_ncr.Grid.of_array(fixed.shape)
    images = [itk_ncr.Image(_noisy(image, generator), grid) for image in (fixed, moving)]
    lesion = sample.lesion[0].numpy() > 0.5
    return Example(*images, lesion, lesion, "retina")


def _textured(dimension: int, generator: torch.Generator) -> Example:
    """A textured object, no brain, seen through a smooth deformation; with a lesion in most."""
    shape = tuple(
        int(_uniform(generator, 40, 72 if dimension == 3 else 160)) for _ in range(dimension)
    )
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = sum((a / _uniform(generator, 0.75, 0.95)).square() for a in axes)
    texture = smooth(torch.randn(1, 1, *shape, generator=generator), _uniform(generator, 1.2, 4))
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    moving = torch.where(radius < 1, _uniform(generator, 0.1, 0.5) + 0.6 * texture[0, 0], 0.0)
    velocity = smooth(
        torch.randn(1, dimension, *shape, generator=generator), _uniform(generator, 4, 8)
    )
    velocity *= _uniform(generator, 0.5, 5.0) / float(velocity.abs().max())
    fixed = warp(moving[None, None], exponential(velocity))[0, 0]
    fixed = torch.where(fixed > 0.05, fixed, 0.0)
    lesion, kind = torch.zeros(shape, dtype=torch.bool), "texture, healthy"
    if _uniform(generator) > HEALTHY:
        inside = filled(fixed > 0)
        centre = random_centre(inside, generator)
        share = float(np.exp(_uniform(generator, np.log(0.004), np.log(0.12))))
        voxels = max(20, round(share * int(inside.sum())))
        lesion = sized_blob(inside, (1.0,) * dimension, generator, voxels=voxels, centre=centre)
        dark = _uniform(generator) < 0.5
        level = _uniform(generator, 0.03, 0.3) if dark else _uniform(generator, 0.3, 1.45)
        coverage = smooth(lesion.float()[None, None], _uniform(generator, 0, 1.2))[0, 0]
        fixed = torch.where(inside, (fixed + coverage * (level - fixed)).clamp_min(0.004), fixed)
        kind = "texture, plain"
    grid = itk_ncr.Grid.of_array(shape)
    images = [itk_ncr.Image(_noisy(image, generator), grid) for image in (fixed, moving)]
    return Example(*images, lesion.numpy(), lesion.numpy(), kind)


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand(1, generator=generator))


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _contrast(images: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Both images through one random tone curve, monotone in half of the cases."""
    if _uniform(generator) < SAME_CONTRAST:
        return images
    levels = torch.rand(6, generator=generator)
    if _uniform(generator) < 0.5:
        levels = levels.sort().values
    levels = 0.15 + 0.85 * (levels - levels.min()) / (levels.max() - levels.min())
    at = np.concatenate([[0, 0.03], np.linspace(0.1, 1, 6), [1.5]])
    tones = np.concatenate([[0, 0.05], levels.numpy(), [1.2 * float(levels[-1])]])
    return [torch.from_numpy(np.interp(i, at, tones).astype(np.float32)) * (i > 0) for i in images]


def _scanner(image: Tensor, generator: torch.Generator) -> Tensor:
    """A bias field and a gamma of its own."""
    if _uniform(generator) < 0.6:
        nodes = torch.randn(1, 1, *(4,) * image.ndim, generator=generator)
        bias = resize(nodes, image.shape)[0, 0]
        strength = _uniform(generator, 0, 0.25)
        image = image * (bias * (strength / float(bias.abs().max()))).exp()
    return image.clamp_min(0) ** float(np.exp(_uniform(generator, -0.25, 0.25)))


def _noisy(image: Tensor, generator: torch.Generator) -> NDArray[np.float32]:
    noise = _uniform(generator, 0, 0.03) * torch.randn(image.shape, generator=generator)
    return torch.where(image > 0, (image + noise).clamp_min(0.004), 0.0).numpy()


def solver_of(example: Example) -> InstanceSettings:
    """Settings of the solver for an example."""
    preset = "oct" if example.kind == "retina" else "auto"
    return solver_preset(preset, example.fixed.dimension)


def pair_of(example: Example) -> Pair:
    """The pair as the solver gets it."""
    settings = RegistrationSettings(affine="none")
    images = Preparation(Request(example.fixed, example.moving), settings)
    return images.pair(example.fixed.grid)


def chosen(example: Example, foreground: Tensor, cues: Tensor, seed: int) -> Samples:
    """Cues and truth of some voxels that are surely inside or outside the lesion."""
    truth, affected = (
        resize(torch.from_numpy(mask).float()[None, None], foreground.shape[2:])
        for mask in (example.lesion, example.affected)
    )
    sure = (truth > 0.8) | ((truth < 0.05) & (affected < 0.05))
    kept = ((foreground > 0) & sure).flatten()
    x = cues[0].flatten(1).T[kept].half().numpy()
    y = (truth > 0.5).flatten()[kept].numpy()
    order = np.random.default_rng(seed).permutation(len(x))[:VOXELS_PER_PAIR]
    return x[order], y[order]


def first_samples(example: Example, seed: int) -> Samples:
    """Of the stages of the path, for the first perceptron."""
    pair = pair_of(example)
    half = pair.reduced(evidence.path_factor(pair))
    path = walk(pair, solver_of(example))
    cues = evidence.stage_cues(half, path, evidence.WIDE_RADII)
    return chosen(example, half.foreground, cues, seed)


def path_samples(example: Example, seed: int) -> Samples:
    """Of the path alone."""
    pair = pair_of(example)
    half = pair.reduced(evidence.path_factor(pair))
    cues = model_of(example).cues(half, walk(pair, solver_of(example)))
    return chosen(example, half.foreground, cues, seed)


def final_samples(example: Example, seed: int) -> Samples:
    """With a registration that was masked by the path: half way, and at the end."""
    pair = pair_of(example)
    half = pair.reduced(evidence.path_factor(pair))
    model = model_of(example)
    solution = solve(pair, solver_of(example))
    along = model.along_path(half, solution.path)
    moved = moved_by(solution.velocity, half.moving)
    current = evidence.final_cues(half, moved, half.compared())
    x_half, y_half = chosen(example, half.foreground, model.joined(along, current), seed)
    u = exponential(resize_velocity(solution.velocity, pair.fixed.shape[2:]))
    current = evidence.final_cues(pair, warp(pair.moving, u), pair.compared())
    cues = model.joined(resize(along, pair.fixed.shape[2:]), current)
    x_full, y_full = chosen(example, pair.foreground, cues, seed)
    return np.concatenate([x_half, x_full]), np.concatenate([y_half, y_full])


def model_of(example: Example) -> evidence.EvidenceModel:
    """The evidence as the package has it by now."""
    learnt_from = "retinas" if example.kind == "retina" else "brains"
    return evidence.evidence_model(learnt_from, example.fixed.dimension)


def fit(files: list[Path], seed: int = 0) -> evidence.Perceptron:
    """A perceptron of the samples in some files."""
    loaded = [np.load(file) for file in files]
    x = torch.from_numpy(np.concatenate([f["x"] for f in loaded]).astype(np.float32))
    y = torch.from_numpy(np.concatenate([f["y"] for f in loaded]).astype(np.float32))
    x = (x + evidence.CUE_OFFSET).log()
    mean, deviation = x.mean(0), x.std(0).clamp_min(0.05)
    generator = torch.Generator().manual_seed(seed)
    sizes = [x.shape[1], HIDDEN, HIDDEN, 1]
    layers = tuple(
        (
            (torch.randn(n, m, generator=generator) / m**0.5).requires_grad_(True),
            torch.zeros(n, requires_grad=True),
        )
        for m, n in itertools.pairwise(sizes)
    )
    model = evidence.Perceptron(mean, deviation, layers)
    parameters = [tensor for layer in layers for tensor in layer]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    cues = x.exp() - evidence.CUE_OFFSET
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        loss = binary_cross_entropy_with_logits(model.forward(cues[rows]), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    detached = tuple((w.detach().clone(), b.detach().clone()) for w, b in layers)
    return evidence.Perceptron(mean, deviation, detached)


def tensors(model: evidence.Perceptron, name: str) -> dict[str, Tensor]:
    """A perceptron as it is stored."""
    found = {f"{name}.mean": model.mean, f"{name}.deviation": model.deviation}
    for number, (weight, bias) in enumerate(model.layers):
        found |= {f"{name}.{number}.weight": weight, f"{name}.{number}.bias": bias}
    return found


def write(fitted: Mapping[str, evidence.Perceptron], file: Path) -> None:
    """Write the weights where the package reads them."""
    found: dict[str, Tensor] = {}
    for name, model in fitted.items():
        found |= tensors(model, name)
    save_file({name: tensor.clone() for name, tensor in found.items()}, file)
    evidence.evidence_model.cache_clear()


def unfitted(path: evidence.Perceptron, first: bool) -> evidence.Perceptron:
    """A final perceptron that repeats what the path says, before there is one."""
    extra = 2 * len(evidence.FINAL_RADII)
    if not first:
        (weight, bias), *rest = path.layers
        wide = torch.cat([weight, weight.new_zeros(len(weight), extra)], 1)
        mean = torch.cat([path.mean, path.mean.new_zeros(extra)])
        deviation = torch.cat([path.deviation, path.deviation.new_ones(extra)])
        return evidence.Perceptron(mean, deviation, ((wide, bias), *rest))
    middle = evidence.LARGEST_LOG_ODDS + evidence.CUE_OFFSET
    cues = 1 + len(evidence.SURROUNDING_RADII) + extra
    weight = torch.zeros(1, cues)
    weight[0, 0] = middle  # the slope of its logarithm is 1 / middle where the log-odds are 0
    mean = torch.full((cues,), float(np.log(middle)))
    return evidence.Perceptron(mean, torch.ones(cues), ((weight, torch.zeros(1)),))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", type=click.Choice(["brains", "retinas"]))
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--work", type=click.Path(path_type=Path), required=True)
@click.option("--dimension", type=click.Choice(["2", "3"]), default="3", show_default=True)
@click.option("--pairs", default=160, show_default=True)
@click.option("--first", default=0, show_default=True)
@click.option("--last", type=int, help="Collect only the pairs up to here.")
@click.option("--collect", type=click.Choice(["first", "path", "final"]), help="Only this, no fit.")
def main(
    what: str,
    data: Path | None,
    work: Path,
    dimension: str,
    pairs: int,
    first: int,
    last: int | None,
    collect: str | None,
) -> None:
    """Collect samples, fit the perceptrons and write them into the package."""
    torch.set_num_threads(1)
    axes = int(dimension)
    if what == "retinas" and axes == 3:
        raise click.UsageError("retinas are 2D; give --dimension 2.")
    if (what == "brains") != (data is not None):
        raise click.UsageError("brains need --data, retinas take none.")
    examples = retinas if data is None else Examples(data, "train", axes)
    weights = evidence.evidence_file(what, axes)
    fitted: dict[str, evidence.Perceptron] = {}
    steps = {"first": first_samples, "path": path_samples, "final": final_samples}
    has_first = (what, axes) in WITH_FIRST
    if not has_first:
        del steps["first"]
    for name, samples in steps.items():
        folder = work / what / f"{name}-{axes}d"
        folder.mkdir(parents=True, exist_ok=True)
        count = pairs // 2 if name == "final" else pairs
        files = [folder / f"{number:04}.npz" for number in range(count)]
        if collect in (None, name):
            for number in range(first, count if last is None else last):
                if not files[number].exists():
                    example = examples(number)
                    x, y = samples(example, number)
                    np.savez(folder / f"part-{number}.npz", x=x, y=y)
                    (folder / f"part-{number}.npz").rename(files[number])
                    click.echo(f"{name} {number} {example.kind} {int(example.lesion.sum())}")
        if collect is None:
            fitted[name] = fit([file for file in files if file.exists()])
            known = fitted.get("path", fitted[name])
            write({"path": known, "final": unfitted(known, has_first)} | fitted, weights)


if __name__ == "__main__":
    main()
