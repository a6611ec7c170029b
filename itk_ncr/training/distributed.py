"""Distributed training with plain collectives.

Each process takes its share of every batch by position, so that the pairs of a step, and their
augmentation, are those of one process. Batch normalisation sees the whole batch, gradients are
averaged, and everything is then computed from the same numbers everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as collectives
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

from itk_ncr.errors import ArgumentError

Record = TypeVar("Record", bound=dict[str, Any])


@contextlib.contextmanager
def joined_processes() -> Iterator[tuple[int, int]]:
    """Join the processes that ``torchrun`` started, if it did.

    Yields
    ------
    rank, size : int
        Number of this process, and of all: (0, 1) without ``torchrun``.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or collectives.is_initialized():
        yield rank(), size()
        return
    collectives.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        yield rank(), size()
    finally:
        collectives.destroy_process_group()


def device_of(name: str) -> str:
    """Resolve the choice of a device.

    Parameters
    ----------
    name : str
        "auto", "cpu" or "cuda".

    Returns
    -------
    str
        "cpu" or "cuda"; "auto" is a GPU where there is one.

    Raises
    ------
    ArgumentError
        If a GPU is requested and there is none.
    """
    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if there else "cpu"
    if name == "cuda" and not there:
        raise ArgumentError("device must be there; got cuda, which torch does not see. Use cpu.")
    return name


def rank() -> int:
    """Number of this process; 0 writes."""
    return collectives.get_rank() if collectives.is_initialized() else 0


def size() -> int:
    """Number of processes."""
    return collectives.get_world_size() if collectives.is_initialized() else 1


def share_of(batch: int) -> range:
    """Positions of a batch that this process handles.

    Raises
    ------
    ArgumentError
        If the batch cannot be divided among the processes.
    """
    if batch % size():
        raise ArgumentError(
            f"batch must be a multiple of the {size()} processes; got {batch}. "
            "Change it, or start another number of processes."
        )
    each = batch // size()
    return range(rank() * each, (rank() + 1) * each)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one reduction."""
    if size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    collectives.all_reduce(flat)
    flat /= size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def gathered(record: Record) -> list[Record]:
    """Gather the values of all processes, by rank.

    As JSON in plain tensors: torch's own way for objects would send pickles.
    """
    if size() == 1:
        return [record]
    text = torch.frombuffer(bytearray(json.dumps(record).encode()), dtype=torch.uint8)
    text = text.to(_device())
    lengths = [torch.zeros(1, dtype=torch.int64, device=text.device) for _ in range(size())]
    collectives.all_gather(lengths, torch.tensor([len(text)], device=text.device))
    longest = max(int(length) for length in lengths)
    padded = nn.functional.pad(text, (0, longest - len(text)))
    texts = [torch.empty_like(padded) for _ in range(size())]
    collectives.all_gather(texts, padded)
    return [
        json.loads(bytes(text[: int(length)].tolist()))
        for text, length in zip(texts, lengths, strict=True)
    ]


def any_process(word: bool) -> bool:
    """Whether the value is true in any process."""
    if size() == 1:
        return word
    said = torch.tensor([int(word)], device=_device())
    collectives.all_reduce(said, collectives.ReduceOp.MAX)
    return bool(said.item())


def labels_anywhere(labels: Tensor) -> Tensor:
    """The values of a label map in the batches of all processes, in rising order."""
    found = torch.unique(labels)
    if size() == 1:
        return found
    everyone = gathered({"labels": found.tolist()})
    return found.new_tensor(sorted({value for one in everyone for value in one["labels"]}))


def synchronise_batch_norm(network: nn.Module) -> None:
    """Let batch normalisation see the batches of all processes; nothing changes with one.

    Names and values of parameters and statistics stay. (torch's own layer refuses the CPU.)
    """
    if size() == 1:
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm):
                setattr(module, name, SharedBatchNorm(child))


class SharedBatchNorm(nn.Module):
    """Batch normalisation over the batches of all processes, which must be of one size.

    Parameters
    ----------
    norm : BatchNorm
        Whose parameters and statistics it takes over.
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        assert norm.momentum is not None
        self.eps, self.momentum = norm.eps, norm.momentum
        for name, parameter in norm.named_parameters():
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; with the statistics of the batch in training, else with the kept ones."""
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        axes = (0, *range(2, x.ndim))
        full = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        variance, mean = torch.var_mean(full, axes, correction=0)
        # Double precision: the square of the mean is taken away again.
        mean, variance = mean.double(), variance.double()
        moments = _SumOverProcesses.apply(torch.stack([mean, variance + mean.square()])) / size()
        mean, variance = moments[0], moments[1] - moments[0].square()
        with torch.no_grad():
            count = x.numel() // x.shape[1] * size()
            self.num_batches_tracked += 1
            for kept, seen in (
                (self.running_mean, mean),
                (self.running_var, variance * count / (count - 1)),
            ):
                kept.lerp_(seen.to(kept.dtype), self.momentum)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        factor = self.weight * (variance + self.eps).rsqrt().to(full.dtype)
        offset = self.bias - mean.to(full.dtype) * factor
        normalised: Tensor = full * factor.view(shape) + offset.view(shape)
        return normalised.to(x.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over the processes; its adjoint sums the gradients alike."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        del ctx
        total = x.clone()
        collectives.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        del ctx
        total = gradient.contiguous().clone()
        collectives.all_reduce(total)
        return total


def _device() -> torch.device:
    """Device of this group's collectives."""
    on_gpu = collectives.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
