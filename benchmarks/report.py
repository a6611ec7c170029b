"""Size and time of the reports of a pair, by the size of its images, and of a cohort.

python benchmarks/report.py [--edges 96 192 256] [--pairs 1000] [--threads 1] [-o FOLDER]

The pair of examples/data on a cube of every edge, with 3 % of noise, and a made-up result: a
smooth deformation of up to 8 mm and one round region without correspondence. Nothing is registered.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from itk_ncr.evaluation import write_cohort_report, write_pair_report
from itk_ncr.evaluation.overview import overview
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, read_image, resample
from itk_ncr.ops import jacobian_determinant
from itk_ncr.registration import Quality, RegistrationResult, RegistrationSettings

DATA = Path(__file__).resolve().parents[1] / "examples" / "data"
FIGURES = (
    "distance_before",
    "distance_outside",
    "masked_fraction",
    "minimum_jacobian",
    "folding_fraction",
    "inverse_error_mean_voxel",
    "label_jaccard",
)
NOISE = 0.03
LARGEST_MM = 8.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edges", type=int, nargs="+", default=[96, 192, 256])
    parser.add_argument("--pairs", type=int, default=1000, help="of the cohort")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="folder that keeps pages and pictures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| voxels | page, MB | CPU-s | wall s | overview.png, MB | CPU-s | wall s |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.output or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for edge in options.edges:
            fixed, moving, result = pair(edge)
            page, picture = folder / f"report-{edge}.html", folder / f"overview-{edge}.png"
            cells = [
                *measured(page, partial(write_pair_report, page, fixed, moving, result)),
                *measured(picture, partial(overview, fixed, moving, result, picture)),
            ]
            print(f"| {edge}^3 | {' | '.join(cells)} |", flush=True)
        page = folder / "cohort.html"
        rows = cohort(options.pairs)
        cells = measured(page, partial(write_cohort_report, page, rows, title="Cohort"))
        print(f"\ncohort of {options.pairs}: {cells[0]} MB, {cells[1]} CPU-s, {cells[2]} s")


def measured(path: Path, write: Callable[[], None]) -> tuple[str, str, str]:
    """MB, seconds of the processor and of the clock, for one file."""
    wall, cpu = time.perf_counter(), time.process_time()
    write()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return f"{path.stat().st_size / 1e6:.1f}", f"{cpu:.1f}", f"{wall:.1f}"


def cohort(pairs: int) -> list[dict[str, object]]:
    """Lines of a summary; every tenth pair has failed."""
    generator = np.random.default_rng(0)
    failed = {"status": "failed", "error": "moving image holds NaN in 12 of 100 voxels."}
    return [
        {"name": f"patient-{number:04}"}
        | (
            failed
            if number % 10 == 9
            else {"status": "done", "seconds": 60 * generator.random()}
            | {name: generator.random() for name in FIGURES}
        )
        for number in range(pairs)
    ]


def pair(edge: int) -> tuple[Image, Image, RegistrationResult]:
    """The pair of examples/data on a cube, and a result of it by hand."""
    generator = np.random.default_rng(0)
    stored = read_image(DATA / "fixed_t1.nii.gz")
    grid = stored.grid.resized((edge,) * 3)

    def noisy(image: Image) -> Image:
        noise = generator.standard_normal(image.array.shape, np.float32)
        return Image(image.array + np.float32(NOISE * image.array.max()) * noise, image.grid)

    fixed = noisy(resample(stored, grid))
    moving = noisy(resample(read_image(DATA / "moving_t1.nii.gz"), grid))
    axes = np.meshgrid(*(np.linspace(-1, 1, edge, dtype=np.float32),) * 3, indexing="ij")
    z, y, x = axes
    deformation = LARGEST_MM * np.stack(
        [np.sin(3 * y) * np.cos(2 * z), np.sin(2 * z + x), np.cos(3 * x) * np.sin(y)], axis=-1
    )
    displacement = Image(deformation, grid)
    probability = np.exp(-sum(((axis - 0.2) / 0.3) ** 2 for axis in axes))
    result = RegistrationResult(
        displacement=displacement,
        displacement_inverse=displacement,
        deformation=displacement,
        warped=resample(moving, grid, displacement=displacement),
        noncorrespondence=Image(probability, grid),
        noncorrespondence_moving=Image(probability, grid),
        jacobian=Image(_determinant(deformation, grid), grid),
        inverse_error=Image(np.zeros(grid.shape, np.float32), grid),
        foreground=Image((fixed.array > 20).astype(np.uint8), grid),
        foreground_moving=Image((moving.array > 20).astype(np.uint8), grid),
        affine=AffineMap.identity(3),
        quality=Quality(0.4, 0.1, 0.02, 0.02, 0.5, 0.0, 0.01, 0.2, 1.0, 100, 10.0),
        mask_threshold=0.5,
        warnings=(),
        settings=RegistrationSettings(),
    )
    return fixed, moving, result


def _determinant(deformation: np.ndarray, grid: Grid) -> np.ndarray:
    voxels = deformation @ np.linalg.inv(grid.matrix).T.astype(np.float32)
    u = torch.from_numpy(np.moveaxis(voxels, -1, 0)[::-1].copy())[None]
    return jacobian_determinant(u).numpy().reshape(grid.shape)


if __name__ == "__main__":
    main()
