"""Output folders whose files appear together, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from itk_ncr.errors import InputError
from itk_ncr.files import (
    PREFIX,
    REPLACED,
    hidden_name,
    holds_files,
    is_abandoned,
    locked,
    remove_abandoned,
    remove_empty,
    require_free_folder,
)

# Endings of images that hold vectors in 3D, and can be asked for as output.
FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")
# Endings of grey pictures: 2D, scalar.
PICTURES = (".png", ".tif", ".tiff")
_KIN = {".nhdr": ".nrrd", ".mhd": ".mha"}  # one file rather than header and data apart
# The file of a folder that says how its results were made.
RECORD = "summary.json"
# What a record of ours says in "tool", by which it is known from others' files of that name.
TOOL = "itk-ncr "
_JOURNAL = "journal.json"


def format_for(fixed: Path) -> str:
    """File ending of the outputs for a fixed image: its own, where that can hold a field.

    Parameters
    ----------
    fixed : Path
        File or DICOM folder.

    Returns
    -------
    str
        One of ``FORMATS``: NIfTI for DICOM; NRRD, which holds 2D vectors, for pictures (PNG, TIFF).
    """
    name = fixed.name.lower()
    if fixed.is_dir() or name.endswith((".dcm", ".ima")):
        return ".nii.gz"
    for ending in FORMATS:
        if name.endswith(ending):
            return ending
    return _KIN.get(fixed.suffix.lower(), ".nrrd" if fixed.suffix else ".nii.gz")


def require_writable(
    path: Path, overwrite: bool, inputs: Iterable[Path | None], endings: tuple[str, ...]
) -> None:
    """Check a single output file before any work is done.

    Parameters
    ----------
    path : Path
        File to write.
    overwrite : bool
        Whether it may exist.
    inputs : iterable of Path or None
        Files that it must not be.
    endings : tuple of str
        Allowed endings.

    Raises
    ------
    InputError
        If it cannot be written, or must not be.
    """
    if not path.name.lower().endswith(endings):
        raise InputError(f"output '{path}' must end in {', '.join(endings)}. Rename it.")
    if path.is_dir():
        raise InputError(f"output '{path}' is a folder. Give the name of a file.")
    if path.exists() and not overwrite:
        raise InputError(f"output '{path}' exists. Add --overwrite to replace it.")
    _refuse_inputs([path], inputs)
    parent = path.parent
    if not parent.is_dir():
        raise InputError(f"output '{path}' cannot be written: '{parent}' is not a folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"output '{path}' cannot be written: '{parent}' is read-only.")
    remove_abandoned(parent)


def require_flat(path: Path, dimension: int) -> None:
    """Check that a volume is not to be written as a picture.

    Parameters
    ----------
    path : Path
        File to write.
    dimension : int
        Number of axes of the image.

    Raises
    ------
    InputError
        If the format holds 2D images only.
    """
    if dimension > 2 and path.name.lower().endswith(PICTURES):
        raise InputError(
            f"output '{path}' must end in {', '.join(FORMATS)}, for it is {dimension}D and a "
            "picture is flat. Rename it."
        )


class OutputFolder:
    """A folder that receives the files of one run together.

    The files are written to a hidden folder on the same file system. If the output folder does
    not exist, the hidden one becomes it by one renaming. If it exists, its own files are replaced
    one after the other under a lock, ``summary.json`` last; should that fail, what was there
    before is put back. Files of others in that folder stay.

    Parameters
    ----------
    folder : Path
        Where the files shall appear; parents are created.
    overwrite : bool
        Whether a folder that holds files already may be written to.
    inputs : iterable of Path or None
        Files that must survive.

    Raises
    ------
    InputError
        If the folder cannot be used; nothing has been created then.
    """

    def __init__(self, folder: Path, overwrite: bool, inputs: Iterable[Path | None] = ()) -> None:
        self.folder, self.overwrite = folder, overwrite
        self.inputs = [path for path in inputs if path is not None]
        try:
            str(folder).encode("utf-8")
        except UnicodeEncodeError:
            raise InputError(
                f"output folder '{folder}': its name is not valid UTF-8. Give another name."
            ) from None
        if os.path.lexists(folder) and not folder.is_dir():
            kind = "a link to nowhere" if folder.is_symlink() else "a file"
            raise InputError(f"output folder '{folder}' is {kind}. Give the name of a folder.")
        _put_back(folder)
        if holds_files(folder) and not overwrite:
            raise InputError(
                f"output folder '{folder}' holds files already. "
                "Give another folder, or add --overwrite to replace the files of an earlier run."
            )
        # With --overwrite what an earlier run wrote there goes, under new names too.
        _refuse_inputs([folder / name for name in _earlier_outputs(folder)], self.inputs)
        nearest = folder
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir():
            raise InputError(
                f"output folder '{folder}' cannot be made: '{nearest}' is a file. "
                "Give another folder."
            )
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise InputError(
                f"output folder '{folder}' cannot be written: '{nearest}' is read-only. "
                "Give another folder."
            )

    def require_free(self, names: Iterable[str]) -> None:
        """Check that only files of earlier runs are replaced.

        Parameters
        ----------
        names : iterable of str
            Files to write.

        Raises
        ------
        InputError
            Lists the others.
        """
        own = set(_earlier_outputs(self.folder))
        names = [name for name in dict.fromkeys([*names, RECORD]) if name not in own]
        others = [name for name in names if os.path.lexists(self.folder / name)]
        if others:
            raise InputError(
                f"output folder '{self.folder}' holds {', '.join(map(repr, others))}, not of an "
                "earlier run. Give another folder, or move that away."
            )

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """A hidden folder whose files appear in the output folder on success (context manager).

        Yields
        ------
        Path
            Folder to write to.

        Raises
        ------
        InputError
            If the output folder cannot be written.
        """
        new_parents = [p for p in (self.folder, *self.folder.parents) if not p.exists()][1:]
        beside = self.folder if self.folder.exists() else self.folder.parent
        if beside is self.folder:
            require_free_folder(beside)
        try:
            beside.mkdir(parents=True, exist_ok=True)
            remove_abandoned(beside)
            stage = beside / hidden_name()
            stage.mkdir(mode=0o700)
        except OSError as error:
            remove_empty(new_parents)
            raise InputError(
                f"output folder '{self.folder}' cannot be written: {error.strerror}. "
                "Give another folder."
            ) from error
        try:
            with locked(stage):
                yield stage
                self._publish(stage)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            remove_empty(new_parents)
            raise
        shutil.rmtree(stage, ignore_errors=True)

    def _publish(self, stage: Path) -> None:
        names = sorted((p.name for p in stage.iterdir()), key=lambda name: (name == RECORD, name))
        _refuse_inputs([self.folder / name for name in names], self.inputs)
        if not self.folder.exists():
            # Only its owner could read it so far; from now on it is an ordinary folder.
            os.chmod(stage, 0o777 & ~_umask())
            with contextlib.suppress(OSError):  # another run was faster: judge what it left
                os.rename(stage, self.folder)
                return
        with locked(self.folder):
            if holds_files(self.folder) and not self.overwrite:
                raise InputError(
                    f"output folder '{self.folder}' was filled by another run meanwhile. "
                    "Run again with another folder."
                )
            self.require_free(names)
            _replace(stage, self.folder, names)


def _replace(stage: Path, folder: Path, names: list[str]) -> None:
    """Move files into a folder; on failure restore the old ones."""
    kept = folder / hidden_name(REPLACED)
    kept.mkdir(mode=0o700)
    earlier = _earlier_outputs(folder)
    before = [name for name in dict.fromkeys([*earlier, *names]) if os.path.lexists(folder / name)]
    try:
        # Read by the next run, should this one be killed before it is through.
        write_text(kept / _JOURNAL, json.dumps({"before": before, "after": names}))
        # No record while the files are of two runs.
        for name in sorted(before, key=lambda name: name != RECORD):
            os.rename(folder / name, kept / name)
        for name in names:
            os.rename(stage / name, folder / name)
        # The earlier run is gone from here on.
        os.unlink(kept / _JOURNAL)
    except BaseException:
        _restore(folder, kept, before, names)
        raise
    finally:
        shutil.rmtree(kept, ignore_errors=True)


def _restore(folder: Path, kept: Path, before: list[str], after: list[str]) -> None:
    """Undo an interrupted replacement: remove the new files, restore the old ones."""
    for name in after:
        is_new = name not in before or os.path.lexists(kept / name)
        if is_new and os.path.lexists(folder / name):
            os.unlink(folder / name)
    for name in before:
        if os.path.lexists(kept / name):
            os.rename(kept / name, folder / name)


def _put_back(folder: Path) -> None:
    """Undo a replacement that was interrupted by a kill."""
    with contextlib.suppress(OSError):
        for kept in folder.glob(f"{PREFIX}*{REPLACED}"):
            if is_abandoned(kept):
                with locked(folder, wait=0):
                    _restore_from_journal(folder, kept)


def _restore_from_journal(folder: Path, kept: Path) -> None:
    try:
        journal = json.loads((kept / _JOURNAL).read_text(encoding="utf-8"))
        before, after = _plain(journal["before"]), _plain(journal["after"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # killed before it began, or after it was through
    else:
        _restore(folder, kept, before, after)
    shutil.rmtree(kept, ignore_errors=True)


def _earlier_outputs(folder: Path) -> list[str]:
    """Plain names of the files that a run of ours wrote to a folder, its record among them."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if not record["tool"].startswith(TOOL):
            return []
        return list(dict.fromkeys([RECORD, *_plain(record["outputs"].values())]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _plain(names: Iterable[Any]) -> list[str]:
    """Those that are plain names, not paths out of the folder."""
    return [n for n in names if isinstance(n, str) and Path(n).name == n and n not in (".", "..")]


def _refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    for path in outputs:
        for source in inputs:
            if source is not None and path.exists() and source.exists() and path.samefile(source):
                raise InputError(f"output '{path}' is an input of this run. Give another output.")


def remove_unfinished(folder: Path) -> None:
    """Remove all unfinished files in a folder."""
    for stage in folder.glob(f"{PREFIX}*"):
        shutil.rmtree(stage, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    text : str
        Its content; line ends are kept.

    Raises
    ------
    ImageWriteError
        If it cannot be written.
    """
    from itk_ncr.images import atomic_write

    with atomic_write(path, path.suffix) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
