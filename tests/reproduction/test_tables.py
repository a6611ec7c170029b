"""Tables and findings from measurements whose answers are known."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import wilcoxon

from itk_ncr_reproduction.cases import CaseKey
from itk_ncr_reproduction.design import VERSIONS, design
from itk_ncr_reproduction.directions import directions_of, markdown
from itk_ncr_reproduction.methods import METHODS
from itk_ncr_reproduction.run import Measured, Reproduction
from itk_ncr_reproduction.tables import tables_of

PAIRS = design("small").experiment("mri-2d").pairs
# Mean overlap by method, and what each lesion costs.
LEVEL = {"without": 0.36, "regnet": 0.441, "ncr-b": 0.438, "ncr-u": 0.437, "ncr-s": 0.4395}
COST = {"none": 0.0, "L1": 0.08, "L2": 0.0, "L3": 0.0, "L4": 0.07}


def found_with(changes: dict[str, float] | None = None) -> Reproduction:
    """A reproduction in 2D whose measurements are made up: level, cost of lesions, noise."""
    plan = design("small")
    draw = np.random.default_rng(0)
    measured = []
    for pair in range(PAIRS):
        common = draw.normal(0, 0.02)
        for version in VERSIONS:
            figures = {}
            for key in plan.experiment("mri-2d").rows:
                level = (LEVEL | (changes or {})).get(key, 0.42)
                cost = COST[version] * (0.2 if key.startswith("ncr") else 1.0)
                own = draw.normal(0, 0.001)
                figures[key] = {"jaccard": level - cost + common + own, "seconds": 1.0 + pair}
                if key.startswith("ncr") and version != "none":
                    figures[key] |= {"dice": 0.6 + own, "grown": 0.8 + own, "detected": 1.0}
            figures["elastix"] = {"failed": "elastix is not installed."}
            measured.append(Measured(CaseKey("mri-2d", 1, pair, version, pair < 3), figures))
    return Reproduction(plan, Path(), Path(), tuple(measured), {})


@cache
def made(name: str):
    """A table of the measurements as they are."""
    return next(t for t in tables_of(found_with(), (2, 3)) if t.name == name)


def rows_of(text: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines}


def test_cells_are_mean_and_deviation_over_the_pairs():
    found = found_with()
    table = made("Table 2")
    values = [c.figures["regnet"]["jaccard"] for c in found.measured if c.key.version == "L1"]
    cell = dict(table.rows)["regnet"][1]
    assert cell is not None
    assert cell.count == PAIRS
    assert cell.mean == pytest.approx(np.mean(values))
    assert cell.std == pytest.approx(np.std(values))
    assert cell.text == f"{np.mean(values):.3f} ({np.std(values):.3f})"


def test_bold_is_better_than_all_and_the_star_than_the_other_versions():
    table = made("Table 2")
    rows = rows_of(table.markdown())
    # Without lesion RegNet is a bit better than NCR-Net s, which is the best of its kind.
    assert rows["RegNet"][0].startswith("**")
    assert rows["NCR-Net s"][0].endswith("\\*")
    assert "**" not in rows["NCR-Net s"][0]
    # With L1 NCR-Net s is best of all.
    assert rows["NCR-Net s"][1].startswith("**")
    assert rows["NCR-Net s"][1].endswith("\\*")
    assert "**" not in rows["RegNet"][1]
    assert rows["*NCR-Net s, paper*"][1] == "*0.600*"
    assert rows["*RegNet, paper*"][4].rstrip(" |") == "*0.528*"


def test_what_failed_has_no_cell_and_says_why():
    table = made("Table 2")
    assert dict(table.rows)["elastix"] == (None,) * 5
    assert any(
        f"elastix failed on {5 * PAIRS} of {5 * PAIRS}: elastix is not installed." in n
        for n in table.notes
    )


def test_the_stricter_table_has_only_pairs_of_test_patients():
    table = made("Table 2, stricter")
    assert {cell.count for _, cells in table.rows for cell in cells if cell} == {3}


def test_a_table_as_csv_has_every_number_and_the_printed_one():
    table = made("Table 3")
    rows = list(csv.DictReader(table.csv().splitlines()))
    one = next(r for r in rows if (r["method"], r["column"]) == ("NCR-Net s", "RG L2"))
    assert float(one["mean"]) == pytest.approx(0.8, abs=0.01)
    assert float(one["paper"]) == 0.870
    assert one["pairs"] == str(PAIRS)
    assert "*ProbReg, paper*" in table.markdown()


def test_findings_are_answered_by_the_measurements():
    found = found_with()
    answers = {d.statement: d for d in directions_of(found, (2, 3))}
    drop = answers["L1 costs RegNet more overlap than NCR-Net s, by 0.03 or more"]
    assert drop.holds
    # 0.08 against 0.016, and noise of .001.
    assert [float(word) for word in drop.here.split(", ")] == pytest.approx([0.08, 0.016], abs=2e-3)
    better = answers["NCR-Net s > RegNet with L1"]
    one, two = (
        np.array([c.figures[key]["jaccard"] for c in found.measured if c.key.version == "L1"])
        for key in ("ncr-s", "regnet")
    )
    assert better.p == pytest.approx(wilcoxon(one, two, alternative="greater").pvalue)
    assert better.holds
    size, difference = better.effect.split("; ")
    assert size == "+1.00"  # better on every pair
    assert float(difference.split(" ")[0]) == pytest.approx((one - two).mean(), abs=5e-4)
    low, high = map(float, difference.partition("(")[2].rstrip(")").split(" to "))
    assert low < (one - two).mean() < high
    assert high - low < 0.02  # noise of .001, and rounding
    assert answers["NCR-Net s within 0.005 of RegNet, no lesion"].holds
    assert answers["region growing raises the Dice of L4"].holds


def test_findings_that_do_not_hold_are_said_not_to():
    answers = directions_of(found_with({"ncr-s": 0.30}), (2,))
    by_name = {d.statement: d for d in answers}
    assert by_name["NCR-Net s > RegNet with L1"].holds is False
    assert by_name["NCR-Net s within 0.005 of RegNet, no lesion"].holds is False
    text = markdown(answers)
    assert text.count("**no**") >= 4
    # Corrected for their number, no p value is smaller than before.
    for line in text.splitlines():
        words = line.strip("| ").split(" | ")[-1].strip("() ").split(" (")
        if len(words) == 2 and words[0][0].isdigit():
            assert float(words[1]) >= float(words[0])


def test_what_was_not_measured_is_said_to_be_so():
    found = Reproduction(design("small"), Path(), Path(), (), {})
    answers = directions_of(found, (1, 2, 3, 4))
    assert {d.holds for d in answers} == {None}
    assert markdown(answers).count("not measured") == len(answers)


def test_every_title_is_one_of_its_own():
    titles = [method.title for method in METHODS.values()]
    assert len(set(titles)) == len(titles)
