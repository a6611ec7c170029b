"""What a run finds out about the machine it is on."""

from __future__ import annotations

import warnings

import pytest

from itk_ncr.runs import cpus, heard_warnings, machine, memory


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


def test_the_peak_of_one_pair_is_not_that_of_an_earlier_one():
    memory.forget_peak_memory()  # of all tests before
    before = memory.peak_memory()
    if before is None:
        pytest.skip("this system does not tell")
    block = bytearray(200_000_000)
    assert memory.peak_memory() > before + 150
    del block
    memory.forget_peak_memory()
    now = memory.peak_memory()
    if now > before + 150:
        pytest.skip("this system does not forget")
    assert now > 0


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
