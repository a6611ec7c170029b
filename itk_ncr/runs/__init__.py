"""Files in, folder out: one pair, or many; light to import, each call imports what it needs."""

from itk_ncr.runs.labels import as_labels
from itk_ncr.runs.machine import cpus, environment
from itk_ncr.runs.messages import FOR_PEOPLE, heard_warnings, reason
from itk_ncr.runs.outputs import (
    FORMATS,
    PICTURES,
    RECORD,
    OutputFolder,
    fingerprint,
    format_for,
    holds_files,
    require_writable,
    write_text,
)
from itk_ncr.runs.pair import PairFiles, PairRun, run_pair
from itk_ncr.runs.threads import limit_threads

__all__ = [
    "FORMATS",
    "FOR_PEOPLE",
    "PICTURES",
    "RECORD",
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
    "limit_threads",
    "reason",
    "require_writable",
    "run_pair",
    "write_text",
]
