"""Checkpoints: training states, trained models, those shipped with the package and those added.

Light to import: torch is loaded when tensors are read or written.
"""

from itk_ncr.checkpoints.description import ModelDescription, model_card
from itk_ncr.checkpoints.installing import add_model, remove_model
from itk_ncr.checkpoints.models import (
    StoredModel,
    find_model,
    installed_models,
    load_model,
    save_model,
    shipped_models,
    verify_model,
)
from itk_ncr.checkpoints.places import installed_names, models_folder, named_folder
from itk_ncr.checkpoints.state import read_state, write_state

__all__ = [
    "ModelDescription",
    "StoredModel",
    "add_model",
    "find_model",
    "installed_models",
    "installed_names",
    "load_model",
    "model_card",
    "models_folder",
    "named_folder",
    "read_state",
    "remove_model",
    "save_model",
    "shipped_models",
    "verify_model",
    "write_state",
]
