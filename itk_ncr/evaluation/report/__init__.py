"""HTML reports of single registrations and of cohorts."""

from itk_ncr.evaluation.report.checks import Check
from itk_ncr.evaluation.report.cohort import write_cohort_report
from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.pair_report import pair_page, write_pair_report
from itk_ncr.evaluation.report.stored import StoredRegistration
from itk_ncr.evaluation.report.studies import study_figures, study_page
from itk_ncr.evaluation.report.verdict import Verdict, judge, verdict_of

__all__ = [
    "Check",
    "Page",
    "StoredRegistration",
    "Verdict",
    "judge",
    "pair_page",
    "study_figures",
    "study_page",
    "verdict_of",
    "write_cohort_report",
    "write_pair_report",
]
