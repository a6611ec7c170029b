"""Calling a compiled kernel: threads, addresses, memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from itk_ncr.ops.extension import kernels


def run(name: str, like: Tensor, *arguments: Any) -> Any:
    """Run the kernel for the dtype of ``like`` on torch's number of threads."""
    module = kernels()
    assert module is not None
    function = getattr(module, f"{name}_{str(like.dtype).removeprefix('torch.')}")
    return function(torch.get_num_threads(), *arguments)


def address(tensor: Tensor | None) -> int:
    """Address of the first value; 0 stands for none."""
    return 0 if tensor is None else tensor.data_ptr()


def new(tensor: Tensor, *shape: Any) -> Tensor:
    """Uninitialised tensor with dtype and device of ``tensor``."""
    return tensor.new_empty(shape)


def scratch(like: Tensor, *shape: int) -> Tensor:
    """Uninitialised tensor out of the kernels' pool, which spares the system's page faults."""
    module = kernels()
    assert module is not None
    count = math.prod(shape)
    if count == 0:
        return like.new_empty(shape)
    space = module.Workspace(count * like.element_size())
    return torch.frombuffer(space, dtype=like.dtype, count=count).view(shape)
