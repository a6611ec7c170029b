"""Mean and deviation of fields that come one after the other."""

from __future__ import annotations

import torch
from torch import Tensor


class RunningSpread:
    """Mean and deviation of vector fields, without keeping them.

    Attributes
    ----------
    count : int
    mean : Tensor, shape (N, D, *spatial)
        Of the fields so far; one number 0 before the first.

    References
    ----------
    Welford, Technometrics 4, 1962, doi:10.1080/00401706.1962.10490022.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = self._squares = torch.zeros(())

    def add(self, field: Tensor) -> None:
        """Take in one more field.

        Parameters
        ----------
        field : Tensor, shape (N, D, *spatial)
            Of the same shape as those before.
        """
        self.count += 1
        step = field - self.mean
        self.mean = self.mean + step / self.count
        self._squares = self._squares + step * (field - self.mean)

    def deviation(self) -> Tensor:
        """Root of the trace of the covariance of two fields or more.

        Returns
        -------
        Tensor, shape (N, 1, *spatial)
            With the divisor ``count - 1``.
        """
        return (self._squares.sum(1, keepdim=True) / (self.count - 1)).sqrt()
