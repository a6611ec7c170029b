"""Common interface of the results of studies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from itk_ncr.evaluation import Page


class StudyResult:
    """Result of a study: saved as a folder, shown as a page.

    Attributes
    ----------
    command : str
        The command that gives such results, "vote" for example.
    """

    command: ClassVar[str]

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        ending: str | None = None,
        report: bool = True,
        overwrite: bool = False,
    ) -> Path:
        """Write images, transforms, record and page to a folder, as the command does.

        Parameters
        ----------
        folder : path
            Made if it does not exist.
        ending, report, overwrite
            As for :meth:`itk_ncr.RegistrationResult.save`.

        Returns
        -------
        Path
            The folder.
        """
        from itk_ncr.runs import save_study

        save_study(self, Path(folder), ending=ending, report=report, overwrite=overwrite)
        return Path(folder)

    def report(self) -> Page:
        """The page of ``report.html``: a notebook shows it, ``.save(path)`` writes it."""
        from itk_ncr.evaluation import study_page

        return study_page(self)
