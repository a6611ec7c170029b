"""Registrations of several images: votes, follow-ups and templates."""

from itk_ncr.registration.studies.vote import Ballot, VoteResult, vote

__all__ = ["Ballot", "VoteResult", "vote"]
