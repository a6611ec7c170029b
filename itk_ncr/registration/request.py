"""Request of a registration: the pair, masks, initial transform and callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from itk_ncr.errors import RegistrationAborted
from itk_ncr.geometry import AffineMap
from itk_ncr.images import Image

Progress = Callable[[float, str], None]
"""Called with the fraction done, in [0, 1], and the name of the stage."""

Abort = Callable[[], bool]
"""Returns whether to stop."""


@dataclass(frozen=True)
class GivenMasks:
    """Masks of the caller, each in its own space; None where there is none.

    Attributes
    ----------
    lesion, moving_lesion : Image, optional
        Not 0 where it is known that the image has no partner.
    roi, moving_roi : Image, optional
        Not 0 where the image takes part at all.
    """

    lesion: Image | None = None
    moving_lesion: Image | None = None
    roi: Image | None = None
    moving_roi: Image | None = None

    def all(self) -> tuple[Image | None, Image | None, Image | None, Image | None]:
        """All four."""
        return self.lesion, self.moving_lesion, self.roi, self.moving_roi


@dataclass(frozen=True)
class Request:
    """One pair to be registered.

    Attributes
    ----------
    fixed, moving : Image
    masks : GivenMasks
    initial : AffineMap, optional
        Given affine, or initial value of the search.
    progress, abort : callable, optional
        As for :func:`itk_ncr.register`.
    """

    fixed: Image
    moving: Image
    masks: GivenMasks = field(default_factory=GivenMasks)
    initial: AffineMap | None = None
    progress: Progress | None = None
    abort: Abort | None = None

    def report(self, share: float, text: str) -> None:
        """Report progress to the caller.

        Parameters
        ----------
        share : float
            Fraction done, in [0, 1].
        text : str
            Current stage.
        """
        if self.progress is not None:
            self.progress(share, text)

    def check(self) -> None:
        """Raise :class:`RegistrationAborted` if the caller asked to stop."""
        if self.abort is not None and self.abort():
            raise RegistrationAborted("registration was stopped by its abort callback.")
