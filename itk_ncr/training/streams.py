"""Random generators addressed by seed, position and stream."""

from __future__ import annotations

import torch

# Odd and large, so that neighbouring seeds and steps share no random stream.
SEED_STRIDE = 1_000_003


def generator_of(
    seed: int, position: int, stream: int, device: str | torch.device = "cpu"
) -> torch.Generator:
    """A random stream of its own for every (seed, position, stream)."""
    mixed = (seed * SEED_STRIDE + position) * SEED_STRIDE + stream
    return torch.Generator(device).manual_seed(mixed % 2**63)
