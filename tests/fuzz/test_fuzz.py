"""Damaged files are read right or refused in one line; a minute of what `make fuzz` does."""

from __future__ import annotations

import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import pytest


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).with_name("fuzz.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = load()
# Each of these is read by a process of its own, which costs half a second.
SLOW = ("a.h5",)


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of the children are Linux's")
def test_no_damage_crashes_hangs_swallows_memory_or_says_more_than_a_line(tmp_path):
    fast = [kind for kind in fuzz.KINDS if kind not in SLOW]
    for kinds, number in ((fast, 20), (list(SLOW), 8)):
        counts, faults = fuzz.fuzz(kinds, tmp_path / str(number), seed=1, count=number)
        assert not faults, "\n".join(faults)
        for kind, (read, refused) in counts.items():
            assert read + refused == number
            assert refused > 2, f"{kind}: too little damage"


def test_the_watch_over_the_children_sees_what_it_is_for():
    right = ("read", "abc", 1000)
    assert fuzz.fault_of(1000, [right, right]) is None
    assert fuzz.fault_of(1000, [("refused", "one line", 0)] * 2) is None
    for wrong in (
        ("signal 11", "the process ended with -11", 0),
        ("hang", "the process ended with -27", 0),
        ("fault", "KeyError: 3", 0),
        ("refused", "two\nlines", 0),
        ("refused", "internal error: KeyError", 0),
        ("read", "abc", 300_000_000),
        ("read", "another", 0),
        ("refused", "one line", 0),
    ):
        assert fuzz.fault_of(1000, [right, wrong]) is not None


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of the children are Linux's")
def test_a_child_that_is_lost_is_told_and_replaced(tmp_path):
    whole = tmp_path / "whole.tfm"
    whole.write_text(fuzz.STEPS)
    child = fuzz.Child(85)
    try:
        child.send("a.tfm", tmp_path / "a.tfm", whole)
        assert child.answer()[0] == "refused"  # there is no such file
        child.process.kill()
        child.process.wait()
        assert child.answer()[0] == "signal 9"
        child.send("a.tfm", whole, whole)
        assert child.answer()[0] == "read"
    finally:
        child.end()


def test_the_same_seed_damages_the_same_bytes():
    content = bytes(range(256)) * 4
    once, again = ([fuzz.harmed(content, random.Random(s)) for s in range(50)] for _ in "12")
    assert once == again
    assert len(set(once)) > 40
