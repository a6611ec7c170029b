"""Warp, exponential and related operators on tensors in voxels: compiled, or plain torch.

The compiled operators can be differentiated once, by ``backward``; a second time is an error of
torch. Under the transforms of ``torch.func`` and in forward mode the plain versions run, slower:
they have derivatives of every order and kind.
"""

from __future__ import annotations

from itk_ncr.ops.extension import build_info, release_memory
from itk_ncr.ops.operators import (
    box_sum,
    compose,
    exponential,
    exponential_pair,
    jacobian_determinant,
    required_squarings,
    resize,
    total_variation_denoise,
    warp,
)

__all__ = [
    "box_sum",
    "build_info",
    "compose",
    "exponential",
    "exponential_pair",
    "jacobian_determinant",
    "release_memory",
    "required_squarings",
    "resize",
    "total_variation_denoise",
    "warp",
]
