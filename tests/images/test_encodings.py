"""The rarer ways to write voxels down are read right or refused, whole and cut."""

from __future__ import annotations

import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from itk_ncr.errors import ImageReadError, MemoryLimitError
from itk_ncr.images import available_memory, memory, read_image, require_memory

VALUES = np.arange(60, dtype=np.float32).reshape(3, 4, 5) / 4
TEXT = "\n".join(" ".join(str(v) for v in row) for row in VALUES.reshape(12, 5)).encode()
NRRD = b"NRRD0004\ntype: float\ndimension: 3\nsizes: 5 4 3\nspacings: 1 2 3\nendian: little\n"


def reads(name, content, spacing=(1, 2, 3)):
    Path(name).write_bytes(content)
    image = read_image(name)
    assert np.array_equal(image.array, VALUES)
    assert image.grid.spacing == spacing


def refuses(name, content, reason):
    Path(name).write_bytes(content)
    with pytest.raises(ImageReadError, match=reason):
        read_image(name)


@pytest.mark.parametrize("word", ["ascii", "text", "txt"])
def test_numbers_in_words(here, word):
    start = NRRD + f"encoding: {word}\n\n".encode()
    reads("x.nrrd", start + TEXT)
    refuses("x.nrrd", start + TEXT[:-10], r"truncated \(header needs 60 numbers, file has 58\)")
    meta = b"NDims = 3\nDimSize = 5 4 3\nElementSpacing = 1 2 3\nElementType = MET_FLOAT\n"
    meta += b"BinaryData = False\nElementDataFile = LOCAL\n"
    reads("x.mha", meta + TEXT + b"\n")
    refuses("x.mha", meta + TEXT[:-10], r"truncated \(header needs 60 numbers, file has 58\)")


def test_numbers_in_hexadecimal_digits(here):
    # Two digits make a byte; in a stream of floats the byte order is that of the header.
    start = NRRD + b"encoding: hex\n\n"
    reads("x.nrrd", start + VALUES.tobytes().hex().encode())
    refuses("x.nrrd", start + VALUES.tobytes().hex().encode()[:-20], "truncated")


def test_bzip2_is_checked_before_itk_refuses_or_reads_it(here):
    start = NRRD + b"encoding: bzip2\n\n"
    packed = bz2.compress(VALUES.tobytes())
    refuses("x.nrrd", start + packed[:-10], "truncated")
    refuses("x.nrrd", start + bz2.compress(VALUES.tobytes()[:-4]), "truncated")
    refuses("x.nrrd", start + packed[:20] + b"0" * 60 + packed[80:], "damaged|truncated")
    refuses("x.nrrd", start + VALUES.tobytes(), "damaged")
    Path("x.nrrd").write_bytes(start + packed)
    try:  # not every build of ITK has bzip2
        image = read_image("x.nrrd")
    except ImageReadError as error:
        assert "ITK cannot read it" in str(error)  # noqa: PT017
    else:
        assert np.array_equal(image.array, VALUES)


def test_gzip_in_a_nrrd(here):
    start = NRRD + b"encoding: gzip\n\n"
    packed = gzip.compress(VALUES.tobytes())
    reads("x.nrrd", start + packed)
    refuses("x.nrrd", start + gzip.compress(VALUES.tobytes()[:-4]), "truncated")


def test_skipped_lines_and_bytes(here):
    Path("x.raw").write_bytes(b"a line\nanother\n1234" + VALUES.tobytes())
    head = NRRD + b"encoding: raw\nline skip: 2\nbyte skip: 4\ndata file: x.raw\n\n"
    reads("x.nhdr", head)
    Path("x.raw").write_bytes(b"a line\nanother\n1234" + VALUES.tobytes()[:-1])
    refuses("x.nhdr", head, r"truncated \(header needs 259 bytes, file has 258\)")
    Path("x.raw").write_bytes(b"whatever" + VALUES.tobytes())
    reads("x.nhdr", NRRD + b"encoding: raw\nbyte skip: -1\ndata file: x.raw\n\n")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"spacings: 1 nan 3", "spacing must be positive"),
        (b"spacings: 1 0 3", "spacing must be positive"),
        (b"spacings: 1 two 3", "unreadable spacings"),
        (b"spacings: 1 2", "unreadable spacings"),
        (b"sizes: 5 4 x", "unreadable sizes"),
        (b"kinds: domain domain complex", "complex"),
        (b"data file: LIST", "several files"),
        (b"data file: slice%03d.raw 1 3 1", "several files"),
        (b"data file: missing.raw", "its data file 'missing.raw' is missing"),
    ],
)
def test_lines_that_cannot_be_understood_are_refused(here, line, reason):
    key = line.split(b":")[0]
    lines = [old for old in NRRD.splitlines() if not old.startswith(key + b":")]
    content = b"\n".join([*lines, line, b"encoding: raw", b"", VALUES.tobytes()])
    refuses("x.nrrd", content, reason)


def test_a_header_without_an_end_is_refused(here):
    refuses("x.nrrd", NRRD, "its header has no end")
    refuses("x.nrrd", NRRD.replace(b"sizes: 5 4 3\n", b"") + b"encoding: raw\n\n", "has no sizes")


def test_the_second_version_of_nifti_is_refused_by_name(here):
    header = struct.pack("<i8s", 540, b"n+2\0\r\n\x1a\n") + bytes(540)
    refuses("x.nii", header, "is NIfTI-2, which ITK cannot read; convert it")
    refuses("x.nii", struct.pack(">i8s", 540, b"ni2\0\r\n\x1a\n") + bytes(540), "is NIfTI-2")
    refuses("x.nii", header.replace(b"n+2", b"n-2"), "is not a NIfTI file")


@pytest.mark.parametrize("dim", [(4, 5, 4, 3, 1), (5, 5, 4, 3, 1, 1), (7, 5, 4, 3, 1, 1, 1, 1)])
def test_axes_of_length_one_are_dropped(here, nifti_bytes, dim):
    reads("x.nii", nifti_bytes(VALUES, dim=dim, pixdim=(1, 1, 2, 3)))


@pytest.mark.parametrize("dim", [(3, 6, 5, 1), (4, 6, 5, 1, 1), (5, 6, 5, 1, 1, 1)])
def test_a_nifti_of_one_slice_stays_a_volume(here, nifti_bytes, dim):
    values = np.arange(30, dtype=np.float32).reshape(1, 5, 6)
    Path("x.nii").write_bytes(nifti_bytes(values, dim=dim))
    assert np.array_equal(read_image("x.nii").array, values)


# --- memory ---------------------------------------------------------------------------------------


def test_the_memory_that_is_free_is_known_here():
    assert 10**7 < available_memory() < 10**14


def test_a_container_may_have_less_than_the_machine(tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 200000\n")
    assert memory.container_memory(tmp_path) == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.container_memory(tmp_path) is None
    assert memory.container_memory(tmp_path / "nowhere") is None


def test_work_that_cannot_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 16 * 10**9)
    require_memory(15 * 10**9, "this", "Do less.")
    with pytest.raises(MemoryLimitError, match=r"needs 21\.0 GB, 16\.0 GB available. Do less."):
        require_memory(21 * 10**9, "this", "Do less.")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    require_memory(10**18, "this", "Where the system does not tell, nothing is refused.")
