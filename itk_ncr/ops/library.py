"""Registers the compiled kernels as ``torch.library`` operators with fakes and derivatives.

An operator has two doors with one implementation behind them. What is traced (``torch.compile``,
``torch.export``, fake tensors, any dispatch mode or transform) goes through the registered
operator. Plain eager calls go straight to the implementation, inside a ``torch.autograd.Function``
if a gradient is wanted: a registered Python operator with its derivative costs some 250
microseconds per call and return, as much as a small kernel, the Function a third of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LIBRARY = torch.library.Library("itk_ncr", "DEF")

_PLAIN_TENSORS = (Tensor, torch.nn.Parameter)


def is_transformed() -> bool:
    """Whether torch.func (vmap, grad, jvp, ...) or forward-mode differentiation is at work."""
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def is_traced(tensors: list[Tensor]) -> bool:
    """Whether calls must go through the registered operators: compilers, modes, transforms."""
    return (
        torch.compiler.is_compiling()
        or any(type(t) not in _PLAIN_TENSORS for t in tensors)
        or torch.jit.is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    )


class Operator:
    """One registered operator; calling it picks the cheaper door.

    Parameters
    ----------
    schema : str
        As for ``torch.library.Library.define``.
    implementation : callable
        Takes plain tensors, allocates and fills the results.
    fake : callable
        Gives empty results of the right shapes for traced tensors.
    save : callable (ctx, inputs, output), optional
        Keeps what ``derivative`` needs.
    derivative : callable (ctx, *gradients), optional
        One gradient or None per input; itself written with operators.
    """

    def __init__(
        self,
        schema: str,
        implementation: Callable[..., Any],
        fake: Callable[..., Any],
        save: Callable[..., None] | None = None,
        derivative: Callable[..., Any] | None = None,
    ) -> None:
        name = schema.partition("(")[0]
        LIBRARY.define(schema)
        for device in ("CPU", "CUDA"):
            LIBRARY.impl(name, implementation, device)
        qualified = f"itk_ncr::{name}"
        torch.library.register_fake(qualified, fake, lib=LIBRARY)
        self.overload = getattr(torch.ops.itk_ncr, name).default
        self.implementation = implementation
        self.function: Any = None
        if derivative is not None and save is not None:
            torch.library.register_autograd(qualified, derivative, setup_context=save, lib=LIBRARY)
            members = {
                "forward": staticmethod(implementation),
                "setup_context": staticmethod(save),
                "backward": staticmethod(torch.autograd.function.once_differentiable(derivative)),
            }
            self.function = type(name, (torch.autograd.Function,), members)

    def __call__(self, *arguments: Any) -> Any:
        """Run the operator; arguments in the order of the schema, all of them."""
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        if is_traced(tensors):
            return self.overload(*arguments)
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            if self.function is not None:
                return self.function.apply(*arguments)
            return self.overload(*arguments)
        return self.implementation(*arguments)
