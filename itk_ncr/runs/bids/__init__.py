"""A BIDS dataset registered to a template: found, planned, written as BIDS derivatives.

The pairs are those of a cohort (:mod:`itk_ncr.runs.cohort`), in ``OUT/cohort``; the derivatives are
links to their files under the names that BIDS gives them, and images carried to the template.
"""

from itk_ncr.runs.bids.group import BidsGroup, summarise_bids
from itk_ncr.runs.bids.plan import BidsPlan, plan_bids
from itk_ncr.runs.bids.query import BidsImage

__all__ = ["BidsGroup", "BidsImage", "BidsPlan", "plan_bids", "summarise_bids"]
