import numpy as np
import pytest
import torch
from scipy import ndimage

import itk_ncr
from itk_ncr.checkpoints import ModelDescription, save_model
from itk_ncr.networks import build_network


def texture(shape, seed, sigma=2.0):
    """A smooth random image in [0, 1]: something to hold on to everywhere."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    values = ndimage.gaussian_filter(noise, sigma)
    return (values - values.min()) / (values.max() - values.min())


def head(shape, seed):
    """A textured ellipsoid on a background of 0."""
    centre = [(n - 1) / 2 for n in shape]
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    radius = sum(((a - c) / (0.42 * n)) ** 2 for a, c, n in zip(axes, centre, shape, strict=True))
    return np.where(radius < 1, 60 + 140 * texture(shape, seed), 0).astype(np.float32)


def bend(image, seed, peak=4.0, sigma=7.0):
    """The image seen through a smooth random displacement, and that displacement (D, ...)."""
    generator = np.random.default_rng(seed)
    field = np.stack(
        [
            ndimage.gaussian_filter(generator.standard_normal(image.shape), sigma)
            for _ in image.shape
        ]
    )
    field *= peak / np.abs(field).max()
    positions = np.stack(np.meshgrid(*[np.arange(n) for n in image.shape], indexing="ij"))
    return ndimage.map_coordinates(image, positions + field, order=1, mode="nearest"), field


@pytest.fixture(scope="session")
def slice_pair():
    """(fixed, moving, displacement): 2D, fixed(p) = moving(p + displacement(p))."""
    moving = head((72, 64), 0)
    fixed, field = bend(moving, 1)
    grid = itk_ncr.Grid.of_array(moving.shape, spacing=(1.5, 1.5))
    return itk_ncr.Image(fixed, grid), itk_ncr.Image(moving, grid), field


@pytest.fixture(scope="session")
def volume_pair():
    """The same in 3D, small."""
    moving = head((30, 36, 32), 2)
    fixed, field = bend(moving, 3, peak=2.5, sigma=5)
    grid = itk_ncr.Grid.of_array(moving.shape, spacing=(2.0, 2.0, 2.0))
    return itk_ncr.Image(fixed, grid), itk_ncr.Image(moving, grid), field


def description_of(network, name, spacing_mm, size, orientation=None, **others):
    """A description for a network made in a test."""
    return ModelDescription(
        name=name,
        network="ncr-net",
        network_settings=dict(getattr(network, "settings", {})),
        dimension=len(size),
        contrast="texture",
        preset="mri-2d" if len(size) == 2 else "mri-3d",
        spacing_mm=spacing_mm,
        orientation=orientation,
        size=size,
        variant="ncr-u",
        **others,
    )


def random_network(dimension, seed=0):
    """A tiny network that moves things by a voxel or so, for no reason."""
    network = build_network("ncr-net", dimension=dimension, width=4)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                scale = (2 / parameter[0].numel()) ** 0.5
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
            elif "heads" in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


@pytest.fixture(scope="session")
def slice_model(tmp_path_factory):
    """Folder of a random 2D model at 2 mm."""
    folder = tmp_path_factory.mktemp("models") / "tiny-2d"
    network = random_network(2)
    save_model(folder, network, description_of(network, "tiny-2d", (2.0, 2.0), (54, 48), "LP"))
    return folder


@pytest.fixture(scope="session")
def volume_model(tmp_path_factory):
    """Folder of a random 3D model that wants RAS arrays of 2.5 x 2 x 3 mm."""
    folder = tmp_path_factory.mktemp("models") / "tiny-3d"
    network = random_network(3)
    description = description_of(network, "tiny-3d", (2.5, 2.0, 3.0), (24, 36, 21), "RAS")
    save_model(folder, network, description)
    return folder
