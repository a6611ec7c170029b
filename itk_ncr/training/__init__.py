"""The loop that makes weights, what it minimises, and the recipes of the models that ship."""

from itk_ncr.training.loop import Report, Training
from itk_ncr.training.objective import Objective
from itk_ncr.training.recipes import BUDGETS, RECIPES, Recipe, Sampling, recipe
from itk_ncr.training.settings import VARIANTS, TrainingSettings

__all__ = [
    "BUDGETS",
    "RECIPES",
    "VARIANTS",
    "Objective",
    "Recipe",
    "Report",
    "Sampling",
    "Training",
    "TrainingSettings",
    "recipe",
]
