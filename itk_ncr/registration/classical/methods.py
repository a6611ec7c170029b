"""The table of classical pipelines."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from itk_ncr.registration.classical.affine_only import affine_only
from itk_ncr.registration.classical.ants_syn import ants_syn
from itk_ncr.registration.classical.bspline import bspline
from itk_ncr.registration.classical.demons import demons, symmetric_demons
from itk_ncr.registration.classical.elastix import elastix
from itk_ncr.registration.classical.frame import ClassicalRegistration, Method
from itk_ncr.registration.classical.greedy import greedy
from itk_ncr.registration.classical.syn import syn
from itk_ncr.registration.filling.enantiomorphic import enantiomorphic
from itk_ncr.registration.variational.chen import ChenOptions, chen
from itk_ncr.registration.variational.em import EMOptions, em
from itk_ncr.registration.variational.varreg import VarRegOptions, varreg
from itk_ncr.settings import RegistrationSettings

CLASSICAL: dict[str, Method] = {
    "affine": Method(affine_only, "our affine", multimodal=True),
    "demons": Method(demons, "SimpleITK"),
    "symmetric-demons": Method(symmetric_demons, "SimpleITK"),
    "bspline": Method(bspline, "SimpleITK", multimodal=True, fewest_voxels=8),
    "syn": Method(syn, "ITK", multimodal=True, fewest_voxels=8),
    "ants-syn": Method(ants_syn, "ANTs", multimodal=True, fewest_voxels=8),
    "elastix": Method(elastix, "elastix", multimodal=True, fewest_voxels=8),
    "greedy": Method(greedy, "greedy", fewest_voxels=16),
    "enantiomorphic": Method(enantiomorphic, "our mirror fill and solver", needs_lesion=True),
    "varreg": Method(varreg, "VarReg", options=VarRegOptions),
    "chen": Method(chen, "Chen's functional", options=ChenOptions, finds_mask=True),
    "em": Method(em, "weighted registration", options=EMOptions, finds_mask=True),
}


def classical(name: str) -> Callable[[RegistrationSettings], ClassicalRegistration]:
    """Factory that makes a registration of a row of ``CLASSICAL`` from settings."""
    return partial(ClassicalRegistration, name, CLASSICAL[name])
