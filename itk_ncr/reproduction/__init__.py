"""The paper again: its networks trained, its tables and figures made, beside what it prints."""

from itk_ncr.reproduction.design import FIGURES, TABLES, Design, Experiment, design
from itk_ncr.reproduction.document import write_reproduction
from itk_ncr.reproduction.methods import METHODS, Method
from itk_ncr.reproduction.run import Reproduction, plan_text, reproduce
from itk_ncr.reproduction.sources import (
    IGNORED_LABELS,
    brains,
    lesion_masks,
    write_manifests,
)

__all__ = [
    "FIGURES",
    "IGNORED_LABELS",
    "METHODS",
    "TABLES",
    "Design",
    "Experiment",
    "Method",
    "Reproduction",
    "brains",
    "design",
    "lesion_masks",
    "plan_text",
    "reproduce",
    "write_manifests",
    "write_reproduction",
]
