"""HTML reports of single registrations and of cohorts."""

from itk_ncr.evaluation.report.checks import Check
from itk_ncr.evaluation.report.cohort import write_cohort_report
from itk_ncr.evaluation.report.follow import follow_figures
from itk_ncr.evaluation.report.page import Page
from itk_ncr.evaluation.report.pair_report import pair_page, write_pair_report
from itk_ncr.evaluation.report.stored import StoredRegistration
from itk_ncr.evaluation.report.studies import study_page
from itk_ncr.evaluation.report.template import template_figures
from itk_ncr.evaluation.report.verdict import Verdict, judge, verdict_of
from itk_ncr.evaluation.report.vote import vote_figures

__all__ = [
    "Check",
    "Page",
    "StoredRegistration",
    "Verdict",
    "follow_figures",
    "judge",
    "pair_page",
    "study_page",
    "template_figures",
    "verdict_of",
    "vote_figures",
    "write_cohort_report",
    "write_pair_report",
]
