"""The loop that makes weights, what it minimises, and the recipes of the models that ship."""

from itk_ncr.training.loop import Report, Training
from itk_ncr.training.objective import Objective
from itk_ncr.training.settings import VARIANTS, TrainingSettings

__all__ = ["VARIANTS", "Objective", "Report", "Training", "TrainingSettings"]
