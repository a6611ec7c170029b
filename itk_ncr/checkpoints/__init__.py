"""Checkpoints: training states, trained models, and the models shipped with the package.

Light to import: torch is loaded when tensors are read or written.
"""

from itk_ncr.checkpoints.description import ModelDescription, model_card
from itk_ncr.checkpoints.models import (
    StoredModel,
    find_model,
    load_model,
    save_model,
    shipped_models,
    verify_model,
)
from itk_ncr.checkpoints.state import read_state, write_state

__all__ = [
    "ModelDescription",
    "StoredModel",
    "find_model",
    "load_model",
    "model_card",
    "read_state",
    "save_model",
    "shipped_models",
    "verify_model",
    "write_state",
]
