"""
A cohort from Python
====================

Register a table of pairs, and list those that need review. Not executed here: it needs a table.

Usage: python cohort.py PAIRS.csv FOLDER; the same call resumes an interrupted one.
"""

from __future__ import annotations

import sys

from itk_ncr.runs import run_cohort

cohort = run_cohort(sys.argv[1], sys.argv[2], report=False)
print(f"{cohort.count('done')} of {len(cohort.rows)} pairs registered")

for row in cohort.rows:
    if row["status"] == "failed":
        print(f"{row['name']}: {row['error']}")
    elif row["folding_fraction"] > 0 or row["overlap_fraction"] < 0.5:
        print(f"{row['name']}: look at {row['folder']}")

registered = [row for row in cohort.rows if row["status"] == "done"]
for row in sorted(registered, key=lambda row: row["distance_outside"], reverse=True)[:3]:
    print(f"{row['name']}: distance {row['distance_before']:.3g} -> {row['distance_outside']:.3g}")
