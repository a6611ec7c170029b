"""What a run finds out about the machine it is on."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

from itk_ncr.runs import cpus, heard_warnings, machine


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu.max": "nonsense"}, None),
    ],
)
def test_a_container_has_the_processors_it_was_given(tmp_path, files, share):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert machine._container_share(tmp_path) == share


@pytest.mark.parametrize(("share", "least"), [(0.3, 1), (1.0, 1), (1e6, None), (None, None)])
def test_the_smaller_number_of_processors_counts(monkeypatch, share, least):
    without = cpus()
    monkeypatch.setattr(machine, "_container_share", lambda: share)
    assert cpus() == (least or without)


# In an interpreter of its own: what other tests have needed and given back hides a rise.
PEAKS = """
from itk_ncr.runs import memory
memory.forget_peak_memory()
print(memory.peak_memory())
block = bytearray(b"1") * 300_000_000
print(memory.peak_memory())
del block
memory.forget_peak_memory()
print(memory.peak_memory())
"""


def test_the_peak_of_one_pair_is_not_that_of_an_earlier_one():
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    if "None" in done.stdout:
        pytest.skip("this system does not tell")
    before, with_block, after = map(float, done.stdout.split())
    assert with_block > before + 150
    if after > before + 150:
        pytest.skip("this system does not forget")
    assert 0 < after < with_block


def test_a_warning_is_in_the_record_of_every_run_that_gave_it():
    records = []
    with warnings.catch_warnings():
        warnings.resetwarnings()  # what Python does by itself: once per line of code
        warnings.showwarning = lambda *_, **__: None
        for _ in range(2):
            with heard_warnings() as heard:
                for _ in range(2):
                    warnings.warn("look\nhere", stacklevel=1)
                warnings.warn("for programmers", DeprecationWarning, stacklevel=1)
            records.append(heard)
    assert records == [["look here"], ["look here"]]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate"
                     " memory: you tried to allocate 8 bytes"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        RuntimeError("std::bad_alloc"),
    ],
)  # fmt: skip
def test_a_shortage_of_memory_is_recognised_in_every_library(error):
    from itk_ncr.runs import reason

    assert reason(error).startswith("out of memory")
