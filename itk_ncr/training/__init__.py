"""Training: loop, objective, and recipes of the shipped models."""

from itk_ncr.settings import ARCHITECTURES, BUDGETS, PRECISIONS, SCHEDULES, VARIANTS
from itk_ncr.training.distributed import device_of, joined_processes
from itk_ncr.training.logs import LOSSES, tensorboard
from itk_ncr.training.loop import FAILED, STATE, Report, Training
from itk_ncr.training.objective import Objective
from itk_ncr.training.plan import Plan, code_version
from itk_ncr.training.planning import make_plan
from itk_ncr.training.recipes import RECIPES, Recipe, Sampling, recipe
from itk_ncr.training.rigid import RigidSettings, train_rigid
from itk_ncr.training.settings import TrainingSettings
from itk_ncr.training.validation import Validation

__all__ = [
    "ARCHITECTURES",
    "BUDGETS",
    "FAILED",
    "LOSSES",
    "PRECISIONS",
    "RECIPES",
    "SCHEDULES",
    "STATE",
    "VARIANTS",
    "Objective",
    "Plan",
    "Recipe",
    "Report",
    "RigidSettings",
    "Sampling",
    "Training",
    "TrainingSettings",
    "Validation",
    "code_version",
    "device_of",
    "joined_processes",
    "make_plan",
    "recipe",
    "tensorboard",
    "train_rigid",
]
