"""Registration of images with pathologies: a diffeomorphism and where there is no correspondence.

Everything is imported when it is first used, so that ``import itk_ncr`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Image": "images",
    "read_image": "images",
    "write_image": "images",
    "Grid": "geometry",
    "AffineMap": "geometry",
    "RegistrationResult": "registration",
    "RegistrationSettings": "registration",
    "FollowResult": "registration",
    "TemplateResult": "registration",
    "VoteResult": "registration",
    "fill_lesion": "registration",
    "follow": "registration",
    "register": "registration",
    "template": "registration",
    "vote": "registration",
    "NCRRegistrationFilter": "filters",
    "ncr_registration_filter": "filters",
}

if TYPE_CHECKING:
    from itk_ncr import (
        checkpoints,
        data,
        errors,
        evaluation,
        fields,
        geometry,
        images,
        losses,
        networks,
        ops,
        preprocessing,
        registration,
        runs,
        segmentation,
        sitk,
        training,
    )
    from itk_ncr.filters import NCRRegistrationFilter, ncr_registration_filter
    from itk_ncr.geometry import AffineMap, Grid
    from itk_ncr.images import Image, read_image, write_image
    from itk_ncr.registration import (
        FollowResult,
        RegistrationResult,
        RegistrationSettings,
        TemplateResult,
        VoteResult,
        fill_lesion,
        follow,
        register,
        template,
        vote,
    )

    _kernels: Any  # the compiled module, if it is there

__all__ = [
    "AffineMap",
    "FollowResult",
    "Grid",
    "Image",
    "NCRRegistrationFilter",
    "RegistrationResult",
    "RegistrationSettings",
    "TemplateResult",
    "VoteResult",
    "__version__",
    "checkpoints",
    "data",
    "errors",
    "evaluation",
    "fields",
    "fill_lesion",
    "follow",
    "geometry",
    "images",
    "losses",
    "ncr_registration_filter",
    "networks",
    "ops",
    "preprocessing",
    "read_image",
    "register",
    "registration",
    "runs",
    "segmentation",
    "sitk",
    "template",
    "training",
    "vote",
    "write_image",
]


def _attribute(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"itk_ncr.{_HOMES[name]}"), name)
    if name in __all__:  # a room: itk_ncr.ops.warp after ``import itk_ncr`` alone
        return importlib.import_module(f"itk_ncr.{name}")
    raise AttributeError(f"module 'itk_ncr' has no attribute {name!r}")


if not TYPE_CHECKING:  # else a misspelt name would be of type Any
    __getattr__ = _attribute


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
