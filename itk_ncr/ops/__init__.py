"""Warp, exponential and their relatives on tensors in voxels: compiled, or plain torch."""

from __future__ import annotations

from itk_ncr.ops.extension import build_info, release_memory
from itk_ncr.ops.operators import (
    box_sum,
    compose,
    exponential,
    exponential_pair,
    jacobian_determinant,
    local_ncc,
    resize,
    total_variation_denoise,
    warp,
    warp_mse,
)

__all__ = [
    "box_sum",
    "build_info",
    "compose",
    "exponential",
    "exponential_pair",
    "jacobian_determinant",
    "local_ncc",
    "release_memory",
    "resize",
    "total_variation_denoise",
    "warp",
    "warp_mse",
]
