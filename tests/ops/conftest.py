from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from itk_ncr.ops import reference
from itk_ncr.ops.extension import kernels

Field = Callable[..., Tensor]


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
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _compiled_kernels() -> None:
    if kernels() is None:
        pytest.skip("needs the compiled kernels")
