"""Runs on files: one pair or a cohort, with results in folders."""

from itk_ncr.files import fingerprint, holds_files, sole_run
from itk_ncr.runs.bids import BidsGroup, BidsImage, BidsPlan, plan_bids, summarise_bids
from itk_ncr.runs.cohort import Cohort, CohortPlan, CohortProgress
from itk_ncr.runs.inputs import PairFiles
from itk_ncr.runs.labels import as_labels
from itk_ncr.runs.machine import cpus, environment
from itk_ncr.runs.messages import FOR_PEOPLE, heard_warnings, reason
from itk_ncr.runs.outputs import (
    FORMATS,
    PICTURES,
    RECORD,
    OutputFolder,
    format_for,
    require_flat,
    require_writable,
    write_text,
)
from itk_ncr.runs.planning import plan_cohort, run_cohort
from itk_ncr.runs.record import voxels_hash
from itk_ncr.runs.single import PairRun, run_pair, save_result
from itk_ncr.runs.studies import images_of, masks_for, save_study
from itk_ncr.runs.table import CohortPair, read_pairs
from itk_ncr.runs.threads import limit_threads

__all__ = [
    "FORMATS",
    "FOR_PEOPLE",
    "PICTURES",
    "RECORD",
    "BidsGroup",
    "BidsImage",
    "BidsPlan",
    "Cohort",
    "CohortPair",
    "CohortPlan",
    "CohortProgress",
    "OutputFolder",
    "PairFiles",
    "PairRun",
    "as_labels",
    "cpus",
    "environment",
    "fingerprint",
    "format_for",
    "heard_warnings",
    "holds_files",
    "images_of",
    "limit_threads",
    "masks_for",
    "plan_bids",
    "plan_cohort",
    "read_pairs",
    "reason",
    "require_flat",
    "require_writable",
    "run_cohort",
    "run_pair",
    "save_result",
    "save_study",
    "sole_run",
    "summarise_bids",
    "voxels_hash",
    "write_text",
]
