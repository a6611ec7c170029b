"""Make docs/figures/report.png: the page of the pair of examples/data, as Chromium shows it.

python benchmarks/report_picture.py [-o docs/figures/report.png]
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image as Pictures
from playwright.sync_api import sync_playwright

from itk_ncr import register
from itk_ncr.evaluation import summary, write_pair_report
from itk_ncr.images import read_image

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "examples" / "data"
WIDTH, SCALE = 1240, 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs/figures/report.png")
    output = parser.parse_args().output
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("error: no Chromium here; on Debian: apt install chromium")
    names = {"fixed": "fixed_t1.nii.gz", "moving": "moving_t1.nii.gz"}
    fixed, moving = (read_image(DATA / name) for name in names.values())
    result = register(fixed, moving)
    record = summary(result) | {"inputs": {role: {"path": n} for role, n in names.items()}}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        page_file = Path(folder) / "report.html"
        write_pair_report(
            page_file,
            fixed,
            moving,
            result,
            record=record,
            truth=read_image(DATA / "fixed_lesion.nii.gz"),
            labels=(
                read_image(DATA / "fixed_labels.nii.gz"),
                read_image(DATA / "moving_labels.nii.gz"),
            ),
        )
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900}, device_scale_factor=SCALE)
        page.goto(page_file.as_uri())
        page.wait_for_selector("#viewer[data-ready]")
        box = page.locator("#viewer").bounding_box()
        assert box is not None
        height = box["y"] + box["height"] + 12
        area = {"x": 0, "y": 0, "width": WIDTH, "height": height}
        shot = page.screenshot(full_page=True, clip=area)
        browser.close()
    # 256 colours are enough for greys and a few hues, and a third of the size.
    picture = Pictures.open(io.BytesIO(shot)).convert("RGB").quantize(256, dither=0)
    picture.save(output, optimize=True)
    print(f"{output}: {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
