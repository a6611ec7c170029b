"""Damaged files of every kind that the program reads: each is read right or refused in one line.

A child process reads them under limits: 10 s of processor time, and memory of 50 times the file
plus 200 MB. Two children with different contents of fresh memory (``MALLOC_PERTURB_``) must agree,
or something was read that was never written. ``make fuzz MINUTES=10`` runs this file; files that
go wrong are kept in ``build/fuzz``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

SECONDS, BYTES_PER_BYTE, BYTES = 10, 50, 200e6
STEPS = """#Insight Transform File V1.0
#Transform 0
Transform: AffineTransform_double_3_3
Parameters: 1.1 0.02 0 -0.02 0.95 0.1 0 -0.1 1.05 12.5 -3.25 4
FixedParameters: 1 2 3
"""
MNI = """MNI Transform File
% made by a test

Transform_Type = Linear;
Linear_Transform =
 1.1 0.02 0 12.5
 -0.02 0.95 0.1 -3.25
 0 -0.1 1.05 4;
"""


# What is damaged: how a right file is made, by name. Files of a folder are damaged one at a time.


def _image(path: Path, packed: bool = False, seed: int = 0) -> None:
    import numpy as np
    import SimpleITK as sitk

    values = np.random.default_rng(seed).normal(size=(4, 5, 6)).astype(np.float32)
    if path.suffix in (".png", ".tif", ".dcm"):
        values = np.abs(values * 60).astype(np.uint8)
        values = values[:1] if path.suffix == ".dcm" else values[0]
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path), useCompression=packed)


def _transform(path: Path) -> None:
    import SimpleITK as sitk

    if path.suffix in (".tfm", ".xfm"):
        path.write_text(STEPS if path.suffix == ".tfm" else MNI)
        return
    affine = sitk.AffineTransform([1.1, 0.02, 0, -0.02, 0.95, 0.1, 0, -0.1, 1.05], (12, -3, 4))
    sitk.WriteTransform(affine, str(path))


def _model(path: Path) -> None:
    from itk_ncr.checkpoints import ModelDescription, save_model
    from itk_ncr.networks import build_network

    network = build_network("ncr-net", dimension=2, width=1)
    description = ModelDescription(
        name="small", network="ncr-net", network_settings={}, dimension=2, contrast="texture",
        preset="mri-2d", spacing_mm=(1.0, 1.0), orientation=None, size=(32, 32), variant="ncr-u",
    )  # fmt: skip
    save_model(path, network, description)


def _series(path: Path) -> None:
    import pydicom

    path.mkdir()
    for number in range(3):
        _image(path / f"{number}.dcm", seed=number)
        slice_ = pydicom.dcmread(path / f"{number}.dcm")
        slice_.SeriesInstanceUID, slice_.Modality = "1.2.3.4", "MR"
        slice_.InstanceNumber = str(number)
        slice_.ImagePositionPatient = ["0", "0", str(2 * number)]
        slice_.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        slice_.PixelSpacing = ["1", "1"]
        slice_.save_as(path / f"{number}.dcm")


def _pairs(path: Path) -> None:
    _image(path.with_name("a.nii"))
    path.write_text(
        'name,fixed,moving,lesion_mask,note\none,a.nii,a.nii,a.nii,"said ""so"", twice"\n'
        "two,a.nii,a.nii,,\n"
    )


def _subjects(path: Path) -> None:
    _image(path.with_name("a.nii"))
    _image(path.with_name("b.nii"), seed=1)
    path.write_text("subject,image,labels,split\np1,a.nii,,train\np2,b.nii,,val\n")


def _digest_image(path: Path) -> str:
    import numpy as np

    from itk_ncr.images import read_image

    image = read_image(path)
    grid = (image.grid.size, image.grid.spacing, image.grid.origin, image.grid.direction)
    return hashlib.sha256(
        np.ascontiguousarray(image.array).tobytes() + repr(grid).encode()
    ).hexdigest()


def _digest_transform(path: Path) -> str:
    from itk_ncr.images import read_affine

    found = read_affine(path, 3)
    return repr((found.matrix, found.translation))


def _digest_model(path: Path) -> str:
    from itk_ncr.checkpoints import load_model, verify_model

    load_model(path)
    return verify_model(path)


def _digest_pairs(path: Path) -> str:
    from itk_ncr.runs import read_pairs

    return repr(read_pairs(path))


def _digest_subjects(path: Path) -> str:
    from itk_ncr.data import read_manifest

    return repr(read_manifest(path))


Kind = tuple[Callable[[Path], None], Callable[[Path], str]]
KINDS: dict[str, Kind] = {
    **dict.fromkeys(
        ("a.nii", "a.mha", "a.nrrd", "a.png", "a.tif", "a.dcm"), (_image, _digest_image)
    ),
    **{
        name: (lambda path: _image(path, packed=True), _digest_image)
        for name in ("p.nii.gz", "p.mha", "p.nrrd")
    },
    **dict.fromkeys(("a.tfm", "a.mat", "a.h5", "a.xfm"), (_transform, _digest_transform)),
    "series": (_series, _digest_image),
    "model": (_model, _digest_model),
    "pairs.csv": (_pairs, _digest_pairs),
    "subjects.csv": (_subjects, _digest_subjects),
}


def harmed(content: bytes, chance: random.Random) -> bytes:
    """A damaged copy: cut short, bytes changed, a part doubled, removed or made very long."""
    kind = chance.random()
    if kind < 0.15 or not content:
        return content[: chance.randrange(len(content) + 1)]
    changed = bytearray(content)
    start = chance.randrange(min(500, len(content)) if chance.random() < 0.8 else len(content))
    if kind < 0.25:
        length = chance.randrange(1, 200)
        part = changed[start : start + length]
        changed[start : start + length] = chance.choice([b"", part + part, part * 300])
        return bytes(changed)
    if kind < 0.35:
        # Numbers of text are where sizes, counts and types stand.
        numbers = [b"-1", b"0", b"1e999", b"nan", b"999999999999", b"\xff", b"[" * 20_000]
        changed[start : start + chance.randrange(4)] = chance.choice(numbers)
        return bytes(changed)
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(min(500, len(content)) if chance.random() < 0.8 else len(content))
        digit = ord("0") + chance.randrange(10)
        changed[at] = chance.choice([0, 255, digit, chance.randrange(256), changed[at] ^ 16])
    return bytes(changed)


# The child: reads what it is told, and says what became of it.


def serve() -> None:
    """Read files named on stdin; one line of JSON each on stdout."""
    from itk_ncr.errors import NCRError

    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    seen: set[str] = set()
    for line in sys.stdin:
        kind, path, whole = json.loads(line)
        if kind not in seen:  # what is imported for the first file is not the file's memory
            seen.add(kind)
            KINDS[kind][1](Path(whole))
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        before = _memory("VmRSS")
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
        try:
            said = ("read", KINDS[kind][1](Path(path)))
        except NCRError as error:
            said = ("refused", str(error))
        except BaseException as error:
            said = ("fault", f"{type(error).__name__}: {error}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        events.write(json.dumps([*said, _memory("VmHWM") - before]) + "\n")
        events.flush()


def _memory(name: str) -> int:
    """Bytes of memory of this process, by a name of Linux; 0 elsewhere."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0


class Child:
    """A process that reads files, started again when it dies."""

    def __init__(self, perturbation: int) -> None:
        self.environment = {
            **os.environ, "MALLOC_PERTURB_": str(perturbation), "OMP_NUM_THREADS": "1"
        }  # fmt: skip
        self.process: subprocess.Popen[str] | None = None

    def send(self, kind: str, path: Path, whole: Path) -> None:
        """Hand it a file, and a right one of its kind."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, __file__, "--serve"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, env=self.environment,
            )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([kind, str(path), str(whole)]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[str, str, int]:
        """What became of it."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line:
            said, text, memory = json.loads(line)
            return said, text, memory
        status = self.process.wait()
        self.process = None
        name = "hang" if status == -signal.SIGPROF else f"signal {-status}" if status < 0 else "end"
        return name, f"the process ended with {status}", 0

    def end(self) -> None:
        """Let it go."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()


def fault_of(size: int, answers: list[tuple[str, str, int]]) -> str | None:
    """What is wrong with the answers of both children about a file; None if nothing is."""
    for said, text, memory in answers:
        if said not in ("read", "refused"):
            return f"{said}: {text}"
        if said == "refused" and ("\n" in text or not text or "internal error" in text):
            return f"not one line: {text!r}"
        if memory > BYTES_PER_BYTE * size + BYTES:
            return f"{memory / 1e6:.0f} MB of memory for {size / 1e3:.1f} kB"
    if len({(said, text if said == "read" else "") for said, text, _ in answers}) > 1:
        return f"two readings differ: {answers}"
    return None


def mutants(kinds: list[str], folder: Path, seed: int) -> Iterator[tuple[str, Path, Path, int]]:
    """Without end: a kind, a damaged file (or folder of one), a right one, the size of it all."""
    chance = random.Random(seed)
    whole: dict[str, dict[Path, bytes]] = {}
    for kind in kinds:
        (folder / kind.replace(".", "_")).mkdir(parents=True)
        path = folder / kind.replace(".", "_") / kind
        KINDS[kind][0](path)
        shutil.copytree(path.parent, folder / "whole" / kind.replace(".", "_"))
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        whole[kind] = {file: file.read_bytes() for file in files if file.suffix != ".md"}
    while True:
        for kind in kinds:
            victim = chance.choice(list(whole[kind]))
            victim.write_bytes(harmed(whole[kind][victim], chance))
            path = folder / kind.replace(".", "_") / kind
            right = folder / "whole" / kind.replace(".", "_") / kind
            yield kind, path, right, sum(file.stat().st_size for file in path.parent.rglob("*"))
            victim.write_bytes(whole[kind][victim])


def fuzz(
    kinds: list[str],
    folder: Path,
    seed: int,
    *,
    count: int | None = None,
    until: float = float("inf"),
) -> tuple[dict[str, list[int]], list[str]]:
    """Damage files and have them read.

    Parameters
    ----------
    kinds : list of str
        Rows of ``KINDS``.
    folder : Path
        To work in.
    seed : int
    count : int, optional
        Files of each kind.
    until : float
        Value of ``time.monotonic()`` to end at.

    Returns
    -------
    counts : dict
        Files that were read and refused, by kind.
    faults : list of str
    """
    counts, faults = {kind: [0, 0] for kind in kinds}, []
    children = [Child(85), Child(170)]
    try:
        for number, (kind, path, whole, size) in enumerate(mutants(kinds, folder, seed)):
            if time.monotonic() > until or (count is not None and number >= count * len(kinds)):
                break
            for child in children:
                child.send(kind, path, whole)
            answers = [child.answer() for child in children]
            fault = fault_of(size, answers)
            if fault is not None:
                kept = folder / "faults" / f"{len(faults)}"
                kept.parent.mkdir(exist_ok=True)
                shutil.copytree(path.parent, kept)
                faults.append(f"{kind}, kept in {kept}: {fault}")
            counts[kind][answers[0][0] != "read"] += 1
    finally:
        for child in children:
            child.end()
    return counts, faults


def main(arguments: list[str] | None = None) -> int:
    """Run for some minutes and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", nargs="*", default=[], choices=list(KINDS))
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    options = parser.parse_args(arguments)
    if options.serve:
        serve()
        return 0
    folder = options.folder / f"seed-{options.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    kinds = [kind for kind in KINDS if kind not in options.without]
    until = time.monotonic() + 60 * options.minutes
    counts, faults = fuzz(kinds, folder, options.seed, until=until)
    for kind, (read, refused) in counts.items():
        print(f"{kind:<14} {read:>6} read, {refused:>6} refused")
    print(f"{sum(map(sum, counts.values()))} files, {len(faults)} faults")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
