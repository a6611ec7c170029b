"""Properties of the installed wheel: size, import time, OpenMP runtimes, the demo pair.

Usage: python benchmarks/wheel.py FIXED MOVING, with the Python of an environment that holds the
wheel and what it needs, and nothing else; exits with 1 where a bar is missed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_GIGABYTES, MOST_SECONDS = 1.6, 0.3
LEAST_FALL = 3  # the demo pair: distance 0.612 -> 0.139
IMPORT = "import time; t = time.perf_counter(); import itk_ncr; print(time.perf_counter() - t)"
RUNTIMES = """
import itk_ncr.ops.extension as extension
assert extension.kernels() is not None, "no compiled kernels"
with open("/proc/self/maps") as maps:
    print(len({line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line}))
"""


def python(code: str) -> float:
    """The number that some code prints, in a process of its own, outside of the checkout."""
    words = [sys.executable, "-c", code]
    told = subprocess.run(words, check=True, capture_output=True, text=True, cwd=sys.prefix)
    return float(told.stdout)


def main() -> int:
    """Measure, print, compare with the bars."""
    fixed, moving = (str(Path(word).resolve()) for word in sys.argv[1:3])
    size = sum(path.lstat().st_size for path in Path(sys.prefix).rglob("*") if path.is_file()) / 1e9
    seconds = min(python(IMPORT) for _ in range(3))
    runtimes = python(RUNTIMES) if sys.platform == "linux" else 1
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(sys.executable).with_name("itk-ncr"))
        words = [program, "register", fixed, moving, "-o", f"{folder}/out", "--no-report", "-q"]
        subprocess.run(words, check=True, cwd=folder)
        quality = json.loads(Path(folder, "out", "summary.json").read_text())["quality"]
    before, after = quality["distance_before"], quality["distance_outside"]
    rows = [
        ("size", f"{size:.2f} GB", size <= MOST_GIGABYTES),
        ("import itk_ncr", f"{seconds:.3f} s", seconds <= MOST_SECONDS),
        ("OpenMP runtimes", f"{runtimes:.0f}", runtimes == 1),
        ("distance", f"{before:.3f} -> {after:.3f}", after * LEAST_FALL < before),
    ]
    for name, text, kept in rows:
        print(f"{name:<16} {text:<18} {'' if kept else 'missed'}".rstrip())
    return int(not all(kept for _, _, kept in rows))


if __name__ == "__main__":
    sys.exit(main())
