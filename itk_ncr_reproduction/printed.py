"""Values printed in the paper, for comparison.

Andresen et al., Int J CARS 17, 2022, doi:10.1007/s11548-022-02577-4. Means; keys are those of
``METHODS`` or the paper's own name of a method that is not here.
"""

from __future__ import annotations

# Table 1: surfaces of retinas, average symmetric surface and Hausdorff distance, pixels.
SURFACES = ("ILM", "RPE", "BM")
TABLE_1: dict[str, dict[str, tuple[float, float]]] = {
    "without": {"ILM": (6.825, 15.152), "RPE": (6.269, 13.936), "BM": (6.642, 12.220)},
    "regnet": {"ILM": (0.852, 3.483), "RPE": (1.861, 7.313), "BM": (2.796, 8.478)},
    "ncr-b": {"ILM": (1.072, 4.369), "RPE": (2.198, 8.213), "BM": (3.104, 9.135)},
    "ncr-u": {"ILM": (1.086, 4.416), "RPE": (2.192, 8.162), "BM": (3.095, 9.100)},
    "ncr-s": {"ILM": (0.927, 3.765), "RPE": (2.100, 7.888), "BM": (3.021, 8.951)},
}
# Table 2: mean Jaccard index of 19 labels in 2D, without lesion and with L1 to L4. The images'
# overlap before registration is printed once.
TABLE_2: dict[str, tuple[float | None, ...]] = {
    "without": (0.480, None, None, None, None),
    "regnet": (0.620, 0.509, 0.610, 0.620, 0.528),
    "ncr-s": (0.619, 0.600, 0.619, 0.619, 0.595),
}
# Table 3: Dice of the lesion with L1 to L4, after a threshold and after region growing.
TABLE_3: dict[str, tuple[tuple[float | None, ...], tuple[float | None, ...]]] = {
    "ProbReg": ((0.693, 0.278, 0.126, None), (0.865, 0.629, 0.754, None)),
    "ncr-s": ((0.742, 0.225, 0.362, 0.737), (0.871, 0.870, 0.630, 0.880)),
}
# The same in 3D, given in the text.
TABLE_3_3D: dict[str, tuple[tuple[float | None, ...], tuple[float | None, ...]]] = {
    "ncr-s": ((0.584, 0.039, 0.028, 0.679), (0.713, 0.675, 0.071, 0.760)),
}
# Table 4: mean Jaccard index of 56 labels in 3D.
TABLE_4: dict[str, tuple[float | None, ...]] = {
    "without": (0.373, None, None, None, None),
    "voxelmorph": (0.480, 0.466, 0.480, 0.474, 0.464),
    "ncr-s": (0.489, 0.486, 0.487, 0.476, 0.486),
}
# Share of lesions of which the 3D mask has at least one voxel: all of L1 and L4, all but 3 of the
# 1560 pairs with L2.
DETECTION_3D = (1.0, 1 - 3 / 1560, 0.8365, 1.0)
