"""``itk-ncr template``: a folder out, or one line that says why not."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import ndimage

import itk_ncr
from itk_ncr.cli import command_line


@pytest.fixture
def folder(tmp_path):
    """Two images in a folder, and a mask for one of them."""
    rows, columns = np.indices((40, 44))
    disc = np.hypot(rows - 20, columns - 22) < 16
    texture = ndimage.gaussian_filter(np.random.default_rng(9).standard_normal(disc.shape), 2.0)
    image = (disc * (120 + 160 * texture)).clip(0).astype(np.float32)
    for place, name, array in (
        ("images", "one", image),
        ("images", "two", np.roll(image, 1, 0)),
        ("masks", "two", (np.hypot(rows - 20, columns - 28) < 4).astype(np.uint8)),
        ("strays", "three", disc.astype(np.uint8)),
    ):
        (tmp_path / place).mkdir(exist_ok=True)
        grid = itk_ncr.Grid.of_array(array.shape)
        itk_ncr.write_image(itk_ncr.Image(array, grid), tmp_path / place / f"{name}.nrrd")
    (tmp_path / "empty").mkdir()
    return tmp_path


def template(*words):
    options = ["--affine", "none", "--iterations", "1"]
    return CliRunner().invoke(command_line, ["template", *map(str, words), *options])


def test_a_template_is_written_to_its_folder(folder):
    out = folder / "atlas"
    done = template(folder / "images", "-o", out, "--lesion-masks", folder / "masks")
    assert done.exit_code == 0, done.output
    record = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [image["name"] for image in record["images"]] == ["one.nrrd", "two.nrrd"]
    assert {out / name for name in record["outputs"].values()} == set(out.iterdir())
    support = itk_ncr.read_image(out / "support.nrrd").array
    assert support[20, 28] == pytest.approx(0.5, abs=0.05)  # masked in one of two


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty"], "must hold images"),
        (["nowhere"], "must be a folder"),
        (["images", "--lesion-masks", "strays"], "three.nrrd"),
    ],
)
def test_a_fault_is_one_line_and_leaves_no_folder(folder, words, said):
    out = folder / "atlas"
    named = [word if word.startswith("-") else folder / word for word in words]
    done = template(*named, "-o", out)
    assert done.exit_code == 2
    assert said in done.output
    assert len([line for line in done.output.splitlines() if line.startswith("error")]) == 1
    assert not out.exists()
