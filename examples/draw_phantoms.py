"""
Phantoms of brains and retinas
==============================

Eyes at two visits, one healthy brain with four lesions, and all models in one picture.

Usage: python draw_phantoms.py [PICTURE.png]; needs matplotlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

from itk_ncr.data import LESION_MODELS, OctPhantoms, make_phantom, surfaces
from itk_ncr.images import read_image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "phantoms.png")
EYES = OctPhantoms(20, seed=3, scans=2)
SHOWN = (2, 10, 12)
LESIONS = ("L1", "L2", "L3", "chronic")
COLOURS = {"ILM": "#4fc3f7", "RPE": "#ffd54f", "BM": "#f06292"}

figure = plt.figure(figsize=(9, 11.4), facecolor="black")
parts = figure.subfigures(3, 1, height_ratios=(4.6, 2.6, 4.8))
for part in parts:
    part.set_facecolor("black")


def show(axes: plt.Axes, image: np.ndarray, title: str, top: float, aspect: float = 1.0) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=top, aspect=aspect)
    axes.set_title(title, color="white", fontsize=9, pad=3)
    axes.axis("off")


down, along = EYES.spacing_mm
# As these images are usually shown: higher than they are.
aspect = 1.4 * down / along
titles = ("baseline (moving)", "follow-up (fixed)", "truth: ILM, RPE, BM; what is new")
for row, index in zip(parts[0].subplots(len(SHOWN), 3), SHOWN, strict=True):
    pair = EYES.sample(index, torch.Generator().manual_seed(index))
    image = pair.fixed[0].numpy()
    show(row[0], pair.moving[0].numpy(), titles[0], 1.2, aspect)
    show(row[1], image, titles[1], 1.2, aspect)
    show(row[2], 0.6 * image, titles[2], 1.2, aspect)
    for name, line in surfaces(pair.fixed_labels).items():
        row[2].plot(line, color=COLOURS[name], linewidth=0.8)
    new = np.where(pair.lesion[0].numpy() > 0, 1.0, np.nan)
    row[2].imshow(new, cmap="autumn", vmin=0, vmax=1.5, alpha=0.8, aspect=aspect)
    titles = ("", "", "")
    print(f"{pair.name}: {100 * float(pair.lesion.mean()):.2f} % of the image is new")

healthy = read_image(Path(sys.argv[0]).parent / "data" / "moving_t1.nii.gz")
top = float(np.quantile(healthy.array[healthy.array > 0], 0.99))
for axes, kind in zip(parts[1].subplots(1, 5), ("healthy", *LESIONS), strict=True):
    if kind == "healthy":
        show(axes, healthy.array[44, ::-1], kind, top)
        continue
    push = 4.0 if kind == "chronic" else 0.0
    made = make_phantom(
        healthy,
        kind,
        torch.Generator().manual_seed(5),
        at_mm=(-30.0, -12.0, 0.0),
        size_mm=15_000 if push else None,
        mass_effect_mm=push,
    )
    level = round(np.argwhere(made.lesion.array).mean(0)[0])
    title = f"{kind}, {made.size_mm / 1000:.0f} ml" + (f", push {push:.0f} mm" if push else "")
    show(axes, made.image.array[level, ::-1], title, top)
    axes.contour(made.lesion.array[level, ::-1], [0.5], colors="#ff7043", linewidths=0.7)
    print(f"{title}: {int(made.lesion.array.sum())} voxels")

for axes, kind in zip(parts[2].subplots(2, 4).flat, LESION_MODELS, strict=True):
    made = make_phantom(
        healthy,
        kind,
        torch.Generator().manual_seed(11),
        at_mm=None if kind == "spots" else (-28.0, 10.0, 12.0),
        size_mm=12_000 if kind == "spots" else 30_000,
    )
    level = int(made.lesion.array.sum((1, 2)).argmax())
    title = f"{made.kind}, {made.size_mm / 1000:.0f} ml"
    show(axes, made.image.array[level, ::-1], title, top)
    print(f"{title}: {int(made.affected.array.sum())} voxels affected")

parts[0].subplots_adjust(0.01, 0.01, 0.99, 0.95, 0.02, 0.14)
parts[1].subplots_adjust(0.01, 0.01, 0.99, 0.92, 0.02, 0.05)
parts[2].subplots_adjust(0.01, 0.01, 0.99, 0.95, 0.02, 0.1)
figure.set_dpi(100)
figure.canvas.draw()
# Greys, and every colour from faint to full: a third of the bytes.
picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
greys = np.linspace(0, 255, 128)[:, None].repeat(3, 1)
full = np.array([matplotlib.colors.to_rgb(c) for c in (*COLOURS.values(), "#ff7043", "#d49500")])
faint = (np.linspace(0.3, 1, 12)[:, None, None] * full * 255).reshape(-1, 3)
palette = Image.new("P", (1, 1))
palette.putpalette(np.rint(np.concatenate([greys, faint])).astype(np.uint8).tobytes())
picture.quantize(palette=palette, dither=Image.Dither.NONE).save(OUT, optimize=True)
print(OUT)
