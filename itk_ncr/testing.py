"""Contract suites for networks and registration methods of third parties; needs pytest.

Subclass a suite in a test module and override its fixture; pytest collects the inherited tests::

    class TestMyNetwork(NetworkContract):
        @pytest.fixture
        def network(self, dimension):
            return MyNetwork(dimension).eval()


    class TestMyMethod(RegistrationContract):
        @pytest.fixture
        def register(self):
            return my_registration

The rows of ``NETWORKS`` and ``REGISTRATIONS`` pass the same suites.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from itk_ncr.errors import RegistrationAborted, ShapeError
from itk_ncr.fields import smooth
from itk_ncr.geometry import Grid
from itk_ncr.images import Image
from itk_ncr.ops import exponential, warp
from itk_ncr.prediction import Prediction
from itk_ncr.registration import RegistrationResult

__all__ = ["NetworkContract", "RegistrationContract"]

SIZES = {2: (64, 96), 3: (16, 16, 32)}
ODD_SIZES = {2: (61, 77), 3: (15, 16, 20)}


class NetworkContract:
    """Contract of every network: ``network(fixed, moving)`` returns a ``Prediction``.

    Override the fixture ``network``, and ``dimension`` for a network of one dimension only.
    """

    @pytest.fixture(params=[2, 3])
    def dimension(self, request: pytest.FixtureRequest) -> int:
        """Number of axes."""
        return int(request.param)

    @pytest.fixture
    def network(self, dimension: int) -> nn.Module:
        """The network to test, in evaluation mode; its weights should be random, not zero."""
        raise NotImplementedError

    def test_scales_halve_the_size_of_the_fixed_image(
        self, network: nn.Module, dimension: int
    ) -> None:
        """Velocity, displacement and mask of scale s lie on a grid 2**s times coarser."""
        size = SIZES[dimension]
        prediction = network(*_pair(size, batch=2))
        assert isinstance(prediction, Prediction)
        assert len(prediction.velocity) == len(prediction.displacement) >= 1
        assert len(prediction.noncorrespondence) in (0, len(prediction.velocity))
        for scale, (velocity, displacement) in enumerate(
            zip(prediction.velocity, prediction.displacement, strict=True)
        ):
            expected = (2, dimension, *(n // 2**scale for n in size))
            assert velocity.shape == displacement.shape == expected
        for scale, mask in enumerate(prediction.noncorrespondence):
            assert mask.shape == (2, 1, *(n // 2**scale for n in size))
            assert ((mask > 0) & (mask < 1)).all()
        assert all(t.dtype == torch.float32 and t.isfinite().all() for t in _tensors(prediction))

    def test_any_size_is_accepted(self, network: nn.Module, dimension: int) -> None:
        """Sizes that no power of two divides give fields of that size."""
        size = ODD_SIZES[dimension]
        with torch.inference_mode():
            prediction = network(*_pair(size))
        assert prediction.displacement[0].shape == (1, dimension, *size)
        assert all(t.isfinite().all() for t in _tensors(prediction))

    def test_gradients_reach_every_parameter(self, network: nn.Module, dimension: int) -> None:
        """No parameter is left out of the graph or gets a gradient that is not finite."""
        prediction = network(*_pair((16,) * dimension))
        generator = torch.Generator().manual_seed(1)
        found = [*prediction.displacement, *prediction.noncorrespondence]
        sum((x * torch.randn(x.shape, generator=generator)).sum() for x in found).backward()
        unreached = [
            name
            for name, parameter in network.named_parameters()
            if parameter.grad is None
            or not parameter.grad.isfinite().all()
            or not parameter.grad.any()
        ]
        assert unreached == []

    def test_a_batch_gives_what_its_pairs_give(self, network: nn.Module, dimension: int) -> None:
        """No sample sees the others, and a second call gives the same."""
        fixed, moving = _pair(SIZES[dimension], batch=2)
        # The first pair moves far, so that a number of squarings shared in the batch would show.
        fixed[0] *= 20
        with torch.inference_mode():
            together, again = network(fixed, moving), network(fixed, moving)
            alone = [network(fixed[n : n + 1], moving[n : n + 1]) for n in range(2)]
        assert all(
            torch.equal(a, b) for a, b in zip(_tensors(together), _tensors(again), strict=True)
        )
        for n, single in enumerate(alone):
            # oneDNN adds in another order: 1.5e-5 of the largest velocity was the most measured on
            # the rows of NETWORKS; a rough field of 10 voxels makes a hundred times more of it.
            for a, b in zip(together.velocity, single.velocity, strict=True):
                assert (a[n : n + 1] - b).abs().max() < 1e-4 * a.abs().max()
            for a, b in zip(together.displacement, single.displacement, strict=True):
                assert (a[n : n + 1] - b).abs().max() < 1e-2 * a.abs().max()
            for a, b in zip(together.noncorrespondence, single.noncorrespondence, strict=True):
                assert (a[n : n + 1] - b).abs().max() < 1e-4

    def test_pairs_that_do_not_fit_are_refused(self, network: nn.Module, dimension: int) -> None:
        """Another size, two channels and another number of axes raise a ``ShapeError``."""
        size, other = (32,) * dimension, (*(32,) * (dimension - 1), 48)
        more = (16,) * (5 - dimension)
        for fixed, moving in (
            (torch.zeros(1, 1, *size), torch.zeros(1, 1, *other)),
            (torch.zeros(1, 2, *size), torch.zeros(1, 2, *size)),
            (torch.zeros(1, 1, *more), torch.zeros(1, 1, *more)),
        ):
            with pytest.raises(ShapeError):
                network(fixed, moving)


Register = Callable[..., RegistrationResult]


class RegistrationContract:
    """Contract of every registration: ``register(fixed, moving)`` returns a whole result.

    Override the fixture ``register``, and ``pair`` for a method that needs other images.
    """

    @pytest.fixture
    def register(self) -> Register:
        """The method to test; takes two images and the keywords ``progress`` and ``abort``."""
        raise NotImplementedError

    @pytest.fixture
    def pair(self) -> tuple[Image, Image]:
        """A textured disc and the same disc deformed smoothly by up to 2.5 voxels, 56 x 64."""
        return textured_pair((56, 64), peak=2.5)

    def test_the_result_is_whole_and_on_the_grids_of_the_images(
        self, register: Register, pair: tuple[Image, Image]
    ) -> None:
        """Fields and masks are finite and lie where they should; the images are unchanged."""
        fixed, moving = pair
        before = fixed.array.copy(), moving.array.copy()
        result = register(fixed, moving)
        assert np.array_equal(fixed.array, before[0])
        assert np.array_equal(moving.array, before[1])
        assert result.displacement.grid == fixed.grid
        assert result.displacement.array.shape == (*fixed.grid.shape, fixed.grid.dimension)
        assert result.displacement_inverse.grid == moving.grid
        for image in (result.warped, result.noncorrespondence, result.jacobian):
            assert image.grid == fixed.grid
            assert np.isfinite(image.array).all()
        assert result.noncorrespondence.array.min() >= 0
        assert result.noncorrespondence.array.max() <= 1
        assert result.quality.seconds > 0

    def test_the_images_become_more_alike(
        self, register: Register, pair: tuple[Image, Image]
    ) -> None:
        """The mean squared difference is at most that before the registration."""
        fixed, moving = pair
        warped = register(fixed, moving).warped.array
        after = np.square(warped - fixed.array).mean()
        assert after <= 1.001 * np.square(moving.array - fixed.array).mean()

    def test_the_inverse_undoes_the_map(
        self, register: Register, pair: tuple[Image, Image]
    ) -> None:
        """Points of the object come back to within half a voxel."""
        fixed, moving = pair
        result = register(fixed, moving)
        points = fixed.grid.points()[fixed.array > 0][::37]
        back = result.transform_points(result.transform_points(points), inverse=True)
        assert np.linalg.norm(back - points, axis=-1).max() < 0.5 * min(fixed.grid.spacing)

    def test_a_second_run_is_the_same_and_progress_rises_to_one(
        self, register: Register, pair: tuple[Image, Image]
    ) -> None:
        """Results are reproducible; progress starts at 0, never falls, and ends at 1."""
        shares: list[float] = []

        def progress(share: float, text: str) -> None:
            del text
            shares.append(share)

        first = register(*pair)
        again = register(*pair, progress=progress)
        assert np.array_equal(first.displacement.array, again.displacement.array)
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)

    def test_abort_stops_the_registration(
        self, register: Register, pair: tuple[Image, Image]
    ) -> None:
        """An abort callback that returns True raises ``RegistrationAborted``."""
        with pytest.raises(RegistrationAborted):
            register(*pair, abort=lambda: True)


def textured_pair(size: tuple[int, ...], *, peak: float, seed: int = 0) -> tuple[Image, Image]:
    """A textured ball and the same ball deformed by a random smooth diffeomorphism.

    Parameters
    ----------
    size : tuple of int
        Array shape, 2D or 3D.
    peak : float
        Longest vector of the velocity, voxels.
    seed : int

    Returns
    -------
    fixed, moving : Image
        Intensities 0 to about 1, background 0, spacing 1 mm.
    """
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in size], indexing="ij")
    radius = torch.stack(axes).square().sum(0).sqrt()
    texture = smooth(torch.randn(1, 1, *size, generator=generator), 3.0)[0, 0]
    ball = (4 - 5 * radius).clamp(0, 1)
    moving = ball * (0.5 + 0.15 * texture / texture.std()).clamp(0.05, 1)
    velocity = smooth(torch.randn(1, len(size), *size, generator=generator), 7.0)
    velocity *= peak / velocity.square().sum(1).sqrt().max()
    fixed = warp(moving[None, None], exponential(velocity))[0, 0]
    grid = Grid.of_array(size)
    return Image(fixed.numpy(), grid), Image(moving.numpy().copy(), grid)


def _pair(size: tuple[int, ...], batch: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    both = torch.rand(2, batch, 1, *size, generator=generator)
    return both[0], both[1]


def _tensors(prediction: Any) -> tuple[Tensor, ...]:
    return (*prediction.velocity, *prediction.displacement, *prediction.noncorrespondence)
