from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from itk_ncr import ops
from itk_ncr.ops import reference
from itk_ncr.ops.extension import kernels

Field = Callable[..., Tensor]

# Measured worst relative to the largest value: 1.4e-6 and 1.1e-14.
BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-12}

CASES = {
    "exponential": lambda m, u, x: m.exponential(u),
    "exponential, 5 squarings": lambda m, u, x: m.exponential(u, 5),
    "exponential, none": lambda m, u, x: m.exponential(u, 0),
    "warp": lambda m, u, x: m.warp(x, u),
    "warp and fill": lambda m, u, x: m.warp(x, u, padding="fill", fill_value=0.5),
    "warp nearest": lambda m, u, x: m.warp(x, u, mode="nearest"),
    "compose": lambda m, u, x: m.compose(u, 0.5 * u),
    "jacobian": lambda m, u, x: m.jacobian_determinant(u),
    "box of radius 2": lambda m, u, x: m.box_sum(x, 2),
    "box of radius 6": lambda m, u, x: m.box_sum(x, 6),
    "resize up": lambda m, u, x: m.resize(x, tuple(2 * s for s in x.shape[2:])),
    "resize down": lambda m, u, x: m.resize(x, tuple((s + 1) // 2 for s in x.shape[2:])),
}


def smooth(
    shape: tuple[int, ...],
    peak: float,
    seed: int = 0,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Random velocity (N, D, *shape) whose longest vector has `peak` voxels."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(batch, len(shape), *shape, dtype=torch.float64, generator=generator)
    for _ in range(3):
        field = reference.box_sum(field, 2) / reference.box_sum(torch.ones_like(field), 2)
    return (field / field.square().sum(1).amax().sqrt() * peak).to(dtype)


@pytest.fixture(scope="session")
def smooth_field() -> Field:
    return smooth


def variants() -> list[str]:
    module = kernels()
    if module is None:
        return []
    before = module.build_info()["simd"]
    found = [v for v in ("scalar", "baseline", "avx2", "avx512") if module.set_variant(v)]
    module.set_variant(before)
    return found


@pytest.fixture(params=variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set of this machine in turn."""
    module = kernels()
    before = module.build_info()["simd"]
    assert module.set_variant(request.param)
    yield request.param
    module.set_variant(before)


@pytest.fixture
def agree_with_twins() -> Callable[..., None]:
    """Checks every operator on one shape: values and gradients against plain torch on the CPU."""

    def check(shape: tuple[int, ...], dtype: torch.dtype, device: str = "cpu") -> None:
        # No power of two: there the last bit of the norm decides on the number of squarings.
        u = smooth(shape, 3.9, batch=2, dtype=dtype).requires_grad_()
        x = torch.rand(2, 2, *(s + 2 for s in shape), dtype=dtype).requires_grad_()
        there = [t.detach().to(device).requires_grad_() for t in (u, x)]
        for name, call in CASES.items():
            found, expected = call(ops, *there), call(reference, u, x)
            weight = torch.randn_like(expected)
            pairs = [(found, expected)]
            for here, wanted in zip((u, x), there, strict=True):
                a, b = (
                    torch.autograd.grad(y, of, w, allow_unused=True, retain_graph=True)[0]
                    for y, of, w in ((found, wanted, weight.to(device)), (expected, here, weight))
                )
                if b is not None:
                    # Rounding has no derivative: the twin gives zeros or nothing.
                    pairs.append((torch.zeros_like(b) if a is None else a, b))
            for a, b in pairs:
                bound = BOUNDS[dtype] * max(1.0, b.abs().max().item())
                assert (a.to("cpu") - b).abs().max() <= bound, name

    return check


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _compiled_kernels() -> None:
    if kernels() is None:
        pytest.skip("needs the compiled kernels")
