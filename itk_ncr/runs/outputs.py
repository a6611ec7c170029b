"""Writing all or nothing: files become visible together, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from itk_ncr.errors import InputError

FORMATS = (".nii.gz", ".nii", ".nrrd", ".mha")
PICTURES = (".png", ".tif", ".tiff")
_KIN = {".nhdr": ".nrrd", ".mhd": ".mha"}  # one file rather than header and data apart
_PREFIX = ".itk-ncr-"
RECORD = "summary.json"


def format_for(fixed: Path) -> str:
    """File ending of the outputs for a fixed image: its own, where that can hold a field.

    A DICOM folder becomes NIfTI; a picture (PNG, TIFF, …) becomes NRRD, which holds 2D vectors.
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
    """Check a single output file before any work is done."""
    if not path.name.lower().endswith(endings):
        raise InputError(f"output '{path}' must end in {', '.join(endings)}. Rename it.")
    if path.is_dir():
        raise InputError(f"output '{path}' is a folder. Give the name of a file.")
    if path.exists() and not overwrite:
        raise InputError(f"output '{path}' exists. Add --overwrite to replace it.")
    _refuse_inputs([path], inputs)
    parent = path.parent
    if not parent.is_dir():
        raise InputError(f"output '{path}' cannot be written: '{parent}' is no folder.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"output '{path}' cannot be written: '{parent}' is read-only.")


def require_flat(path: Path, dimension: int) -> None:
    """Check that a picture is not asked to hold a volume."""
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
        """Refuse to replace what no earlier run has recorded: files of these names are others'.

        Raises
        ------
        InputError
            Naming them.
        """
        own = {RECORD, *_earlier_outputs(self.folder)}
        others = [name for name in names if name not in own and os.path.lexists(self.folder / name)]
        if others:
            raise InputError(
                f"output folder '{self.folder}' holds {', '.join(map(repr, others))}, not of an "
                "earlier run. Give another folder, or move that away."
            )

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        """A hidden folder to write to; its files appear in the output folder on leaving well."""
        new_parents = [p for p in (self.folder, *self.folder.parents) if not p.exists()][1:]
        beside = self.folder if self.folder.exists() else self.folder.parent
        try:
            beside.mkdir(parents=True, exist_ok=True)
            stage = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{_owner()}-", dir=beside))
        except OSError as error:
            _remove_empty(new_parents)
            raise InputError(
                f"output folder '{self.folder}' cannot be written: {error.strerror}. "
                "Give another folder."
            ) from error
        try:
            yield stage
            self._publish(stage)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            _remove_empty(new_parents)
            raise
        shutil.rmtree(stage, ignore_errors=True)

    def _publish(self, stage: Path) -> None:
        names = sorted((p.name for p in stage.iterdir()), key=lambda name: (name == RECORD, name))
        _refuse_inputs([self.folder / name for name in names], self.inputs)
        if not self.folder.exists():
            # mkdtemp makes folders that only their owner reads; this one is an ordinary folder.
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
    """Move files into a folder; on failure put back what was there."""
    kept = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
    stale = [name for name in _earlier_outputs(folder) if name not in names]
    moved: list[str] = []
    try:
        for name in [RECORD, *stale, *names]:  # no record while the files are of two runs
            if os.path.lexists(folder / name) and not os.path.lexists(kept / name):
                os.rename(folder / name, kept / name)
        for name in names:
            os.rename(stage / name, folder / name)
            moved.append(name)
    except BaseException:
        for name in moved:
            os.unlink(folder / name)
        for path in kept.iterdir():
            os.rename(path, folder / path.name)
        raise
    finally:
        shutil.rmtree(kept, ignore_errors=True)


def _earlier_outputs(folder: Path) -> list[str]:
    """Plain names of the files that the run recorded in a folder wrote there."""
    try:
        outputs = json.loads((folder / RECORD).read_text(encoding="utf-8"))["outputs"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [name for name in outputs if isinstance(name, str) and Path(name).name == name]


def holds_files(folder: Path) -> bool:
    """Whether a folder holds more than what unfinished runs are writing."""
    try:
        return any(not name.startswith(_PREFIX) for name in os.listdir(folder))
    except OSError:
        return False


def _refuse_inputs(outputs: Iterable[Path], inputs: Iterable[Path | None]) -> None:
    for path in outputs:
        for source in inputs:
            if source is not None and path.exists() and source.exists() and path.samefile(source):
                raise InputError(f"output '{path}' is an input of this run. Give another output.")


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _owner() -> str:
    """Names this process among those of all machines that may see a folder."""
    return f"{re.sub(r'[^A-Za-z0-9]', '', platform.node())}-{os.getpid()}"


def remove_unfinished(folder: Path) -> None:
    """Remove what anybody has begun to write in a folder: nobody needs it any more."""
    for stage in folder.glob(f"{_PREFIX}*"):
        shutil.rmtree(stage, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that are no more had begun to write in a folder."""
    if os.name != "posix":  # elsewhere there is no way to ask for a process without ending it
        return
    machine = _owner().rpartition("-")[0]
    pattern = re.compile(rf"{re.escape(_PREFIX + machine)}-(\d+)-")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            owner = pattern.match(name)
            if owner and not _runs(int(owner[1])):
                shutil.rmtree(folder / name, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Keep other runs of this program out of the folder.

    Raises
    ------
    BlockingIOError
        If one is there and this one is not to wait.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # some network file systems know no locks
            pass
        yield
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file at once: never a part of it is visible."""
    from itk_ncr.images import replacing

    with replacing(path, path.suffix) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def fingerprint(path: Path) -> dict[str, Any]:
    """Name and SHA-256 of an input; of several files, over their hashes and names."""
    parts = _parts(path)
    if parts == [path]:
        return {"path": _text(path), "sha256": _sha256(path)}
    lines = "".join(f"{_sha256(part)}  {part.name}\n" for part in parts)
    digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
    return {"path": _text(path), "sha256": digest, "files": len(parts)}


def _parts(path: Path) -> list[Path]:
    """The files an image is made of: those of a DICOM folder, a header and its data."""
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.is_file())
    suffix = path.suffix.lower()
    names: list[str] = []
    if suffix == ".hdr":
        names = [path.stem + ".img", path.stem + ".img.gz"]
    elif suffix in (".mhd", ".nhdr"):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        names = re.findall(r"(?mi)^(?:ElementDataFile\s*=|data ?file:)[ \t]*(\S[^\r\n]*)", text)
    return [path, *(path.parent / name for name in names if (path.parent / name).is_file())]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text(path: Path) -> str:
    return str(path).encode("utf-8", "backslashreplace").decode()
