"""A drawn slice of a head, and the same head deformed and with a lesion: data for the examples."""

from __future__ import annotations

import numpy as np

from itk_ncr import Grid, Image

FIXED_GRID = Grid.of_array((96, 80), spacing=(2.0, 2.0), origin=(-79.0, -95.0))
MOVING_GRID = Grid.of_array((88, 92), spacing=(1.9, 2.2), origin=(-86.0, -96.0))


def head(points: np.ndarray) -> np.ndarray:
    """Brightness at points (..., 2) in mm: skull, brain, folds, two ventricles."""
    x, y = points[..., 0], points[..., 1]

    def ellipse(center: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        distance = np.hypot((x - center[0]) / radii[0], (y - center[1]) / radii[1])
        return 1 / (1 + np.exp((distance - 1) * min(radii) / 1.5))  # edges 1.5 mm soft

    brain = ellipse((0, 0), (58, 74))
    folds = 1 + 0.15 * np.sin(x / 5) * np.sin(y / 6)
    ventricles = ellipse((-14, 4), (7, 22)) + ellipse((14, 4), (7, 22))
    skull = ellipse((0, 0), (68, 84)) - ellipse((0, 0), (63, 79))
    return 90 * brain * folds * (1 - 0.8 * ventricles) + 140 * skull


def healthy() -> Image:
    """The moving image: the head, bent by up to 5 mm and a little turned."""
    points = MOVING_GRID.points()
    turn = np.array([[np.cos(0.06), -np.sin(0.06)], [np.sin(0.06), np.cos(0.06)]])
    bend = 5 * np.sin(points[..., ::-1] / 28)
    return Image(head((points + bend) @ turn.T).astype(np.float32), MOVING_GRID)


def lesion_mask() -> Image:
    """Where the patient has a lesion: 1 inside."""
    distance = np.linalg.norm(FIXED_GRID.points() - (26, -26), axis=-1)
    return Image((distance < 13).astype(np.uint8), FIXED_GRID)


def patient() -> Image:
    """The fixed image: the head with a dark lesion."""
    brightness = head(FIXED_GRID.points())
    brightness[lesion_mask().array == 1] = 12
    return Image(brightness.astype(np.float32), FIXED_GRID)
