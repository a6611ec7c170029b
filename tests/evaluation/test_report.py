"""The page says what the result says, needs nothing from outside, and believes no name."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import math
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from itk_ncr.errors import ImageReadError
from itk_ncr.evaluation import summary, write_cohort_report, write_pair_report
from itk_ncr.evaluation.inspection import inspect
from itk_ncr.evaluation.report import StoredRegistration, checks, judge, sprites, verdict, wording
from itk_ncr.evaluation.scene import Scene
from itk_ncr.geometry import AffineMap, Grid
from itk_ncr.images import Image, as_image, resample, to_sitk, write_image

pytest.importorskip("PIL")

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&.nii"
VOID = {"meta", "link", "input", "img", "br", "hr"}


class Page(HTMLParser):
    """What a browser would find in a page, as far as the tests ask."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.raw = path.read_text(encoding="utf-8")
        self.feed(self.raw)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if data.strip():
            self.texts.append((tuple(self.open), " ".join(data.split())))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def words(self) -> str:
        return " ".join(t for opened, t in self.texts if not {"script", "style"} & set(opened))

    def scene(self) -> dict:
        found = re.search(r'<script type="application/json" id="scene">(.*?)</script>', self.raw)
        assert found
        return json.loads(found.group(1))


def sheet(text: str) -> np.ndarray:
    from PIL import Image as Pictures

    kind, _, data = text.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Pictures.open(io.BytesIO(base64.b64decode(data))))


def tile(plane: dict, layer: str, slice_: int) -> np.ndarray:
    """A slice out of its sheet, by the words of the description."""
    rows, columns = plane["half"] if layer in ("down", "right") else plane["tile"]
    block = plane["block"]
    high, wide = (-(-n // block) * block for n in (rows, columns))
    down, across = divmod(slice_, plane["columns"])
    found = sheet(plane["sheets"][layer])[down * high :, across * wide :]
    return found[:rows, :columns].astype(int)


@pytest.mark.parametrize("shape", [(40, 52), (20, 24, 28), (3, 40, 36), (30, 2, 36), (18, 1, 5)])
def test_the_page_of_every_shape_is_whole_and_needs_nothing_from_outside(
    tmp_path, registration, shape
):
    fixed, moving, result = registration(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_pair_report(tmp_path / "p.html", fixed, moving, result)
    found = Page(tmp_path / "p.html")
    assert not found.open
    assert found.all("html")[0]["lang"] == "en"
    assert len(found.all("h1")) == 1
    assert len(found.all("canvas")) == (3 if min(shape) >= 16 and len(shape) == 3 else 1)
    for name, attributes in found.elements:
        for key in ("src", "href", "action", "data", "poster"):
            value = attributes.get(key) or ""
            assert value.startswith(("data:", "#")) or not value, (name, key, value)
        if name in ("canvas", "input"):
            assert attributes.get("aria-label"), attributes
        if name == "button":
            assert attributes["type"] == "button"
    policy = next(m for m in found.all("meta") if m.get("http-equiv"))["content"]
    assert policy.startswith("default-src 'none'")
    assert not re.search(r"@import|url\(|https?://(?!www\.w3\.org)", found.raw)
    assert "research use only" in found.words().lower()


def test_the_figures_on_the_page_are_those_of_the_result(tmp_path, registration):
    fixed, moving, result = registration((40, 52))
    write_pair_report(tmp_path / "p.html", fixed, moving, result)
    words = Page(tmp_path / "p.html").words()
    quality = result.quality
    for name, text in (
        ("distance after the affine", f"{quality.distance_before:.4g}"),
        ("distance after registration, outside the mask", f"{quality.distance_outside:.4g}"),
        ("fixed object without correspondence", f"{100 * quality.masked_fraction:.2f}%"),
        ("smallest Jacobian determinant, without the affine", f"{quality.minimum_jacobian:.3f}"),
        ("voxels that fold", f"{100 * quality.folding_fraction:.3f}%"),
        ("inverse error, mean", f"{quality.inverse_error_mean_voxel:.4f} voxel"),
        ("iterations", str(quality.iterations)),
        ("time without reading files", f"{quality.seconds:.1f} s"),
    ):
        assert f"{name} {text}" in words
    assert "Warnings of the run look" in words
    assert result.settings.preset in words


def test_the_slices_are_those_of_the_images_the_right_way_up(tmp_path, registration):
    fixed, moving, result = registration((20, 24, 28))
    write_pair_report(tmp_path / "p.html", fixed, moving, result)
    drawn = Page(tmp_path / "p.html").scene()
    scene = Scene.of(fixed, moving, result)
    low, high = scene.fixed_window
    assert [p["name"] for p in drawn["planes"]] == ["Axial", "Coronal", "Sagittal"]
    for plane, axis in zip(drawn["planes"], range(3), strict=True):
        assert plane["positions"] == list(range(scene.fixed.shape[axis]))
        for number in (0, plane["start"], len(plane["positions"]) - 1):
            cut = np.take(scene.fixed, number, axis)
            mask = np.take(scene.mask, number, axis)
            if axis:  # superior, the last index, at the top
                cut, mask = cut[::-1], mask[::-1]
            expected = 255 * np.clip((cut - low) / (high - low), 0, 1)
            # Worst of these: 24 grey values at the edge of the object; 128 the wrong way up.
            assert np.abs(tile(plane, "fixed", number) - expected).mean() < 4
            assert np.array_equal((tile(plane, "bits", number) & 1) > 0, mask)
    axial, coronal, sagittal = (plane["letters"] for plane in drawn["planes"])
    assert axial == {"top": "A", "bottom": "P", "left": "R", "right": "L"}
    assert coronal == {"top": "S", "bottom": "I", "left": "R", "right": "L"}
    assert sagittal == {"top": "S", "bottom": "I", "left": "A", "right": "P"}


def test_the_grid_of_the_page_knows_where_points_are_carried(tmp_path, registration):
    fixed, moving, result = registration((20, 24, 28))
    shift = np.zeros((20, 24, 28, 3), np.float32)
    shift[..., 0], shift[..., 2] = 3.0, -6.0  # mm along x and z
    changed = dataclasses.replace(result, deformation=Image(shift, fixed.grid))
    write_pair_report(tmp_path / "p.html", fixed, moving, changed)
    axial, coronal, _ = Page(tmp_path / "p.html").scene()["planes"]

    def mm(plane: dict, layer: str) -> float:
        return float((tile(plane, layer, plane["start"]) - 128).mean() / 127 * plane["shift_mm"])

    step = axial["shift_mm"] / 127
    assert mm(axial, "right") == pytest.approx(3, abs=step)
    assert mm(axial, "down") == pytest.approx(0, abs=step)
    assert mm(coronal, "down") == pytest.approx(-6, abs=step)


@pytest.mark.parametrize("order", ["LPS", "RAS", "PSR", "IRP"])
def test_a_place_is_the_same_mm_however_the_image_is_stored(registration, order):
    """A bright spot: the page's index and millimetres lead to where it is in space."""
    fixed, moving, result = registration((20, 24, 28))
    array = fixed.array.copy()
    array[12, 7, 21] = 1000
    origin = (-20.0, 5.0, 33.0)
    grid = dataclasses.replace(fixed.grid, origin=origin)
    spot = grid.matrix @ (21, 7, 12) + origin

    def stored(image: Image) -> Image:
        if image.is_vector:
            parts = [stored(Image(image.array[..., c], image.grid)) for c in range(3)]
            return Image(np.stack([p.array for p in parts], -1), parts[0].grid)
        return as_image(sitk.DICOMOrient(to_sitk(Image(image.array, grid)), order))

    changes = {
        field.name: stored(value)
        for field in dataclasses.fields(result)
        if isinstance(value := getattr(result, field.name), Image)
    }
    scene = Scene.of(
        stored(Image(array, grid)), stored(moving), dataclasses.replace(result, **changes)
    )
    index = np.unravel_index(int(scene.fixed.argmax()), scene.fixed.shape)
    assert np.allclose(scene.corner + scene.to_points @ index, spot)
    axial = sprites.stacks(scene)[0]
    place = sprites._place(scene, axial, int(index[0]))
    assert place == f"{'S' if spot[2] >= 0 else 'I'} {abs(spot[2]):.1f} mm"


def test_names_and_warnings_are_text_and_never_markup(tmp_path, registration):
    fixed, moving, result = registration((40, 52))
    record = summary(result) | {
        "inputs": {"fixed": {"path": f"/data/{HOSTILE}"}, "moving": {"path": "m\udce9.nii"}},
        "warnings": [HOSTILE],
        "command": ["itk-ncr", HOSTILE],
    }
    write_pair_report(tmp_path / "p.html", fixed, moving, result, record=record)
    found = Page(tmp_path / "p.html")
    assert len(found.all("script")) == 2
    assert not found.all("img")
    assert HOSTILE.replace("</script>", "") not in found.raw
    assert found.words().count("alert(1)") >= 3
    rows = [{"name": HOSTILE, "status": "failed", "error": HOSTILE, "report": "javascript:x()"}]
    write_cohort_report(tmp_path / "c.html", rows, title=HOSTILE)
    found = Page(tmp_path / "c.html")
    assert len(found.all("script")) == 1
    assert not found.all("img")
    assert "javascript:" not in found.raw
    assert found.words().count("alert(1)") >= 3


def test_masks_that_were_given_are_drawn_where_they_lie(tmp_path, registration):
    fixed, moving, result = registration((20, 24, 28))
    truth = np.zeros((20, 24, 28), np.uint8)
    truth[9:16, 9:14, 10:16] = 1
    finer = fixed.grid.resized((40, 48, 56))
    write_pair_report(
        tmp_path / "p.html",
        fixed,
        moving,
        result,
        truth=Image(truth, fixed.grid),
        lesion_mask=resample(Image(truth, fixed.grid), finer, mode="nearest"),
    )
    found = Page(tmp_path / "p.html")
    drawn = found.scene()
    assert drawn["given"] == ["lesion", "truth"]
    scene = Scene.of(fixed, moving, result, {"truth": Image(truth, fixed.grid)})
    axial = drawn["planes"][0]
    bits = tile(axial, "bits", axial["start"])
    expected = scene.given["truth"][axial["positions"][axial["start"]]]
    assert expected.any()
    for name in ("truth", "lesion"):
        assert np.array_equal((bits & drawn["bits"][name]) > 0, expected)
    overlap = (result.mask.array > 0) & (truth > 0)
    dice = 2 * overlap.sum() / ((result.mask.array > 0).sum() + truth.sum())
    assert f"Dice {dice:.3f}" in found.words()


def test_labels_are_compared_after_the_affine_and_after_the_registration(tmp_path, registration):
    """A block that the map shifts by two voxels onto its partner."""
    fixed, moving, result = registration((40, 52))
    grid = fixed.grid
    target, source = np.zeros((2, 40, 52), np.uint8)
    target[10:20, 10:20], source[10:20, 12:22] = 5, 5
    field = np.zeros((40, 52, 2), np.float32)
    field[..., 0] = 2 * grid.spacing[0]
    changed = dataclasses.replace(result, displacement=Image(field, grid))
    labels = (Image(target, grid), Image(source, grid))
    write_pair_report(tmp_path / "p.html", fixed, moving, changed, labels=labels)
    words = Page(tmp_path / "p.html").words()
    assert f"all labels (1) {80 / 120:.3f} 1.000" in words
    assert "Overlap of labels ✓ 0.667 → 1.000" in words


def test_two_contrasts_have_no_residual(tmp_path, registration):
    fixed, moving, result = registration((40, 52))
    inverted = Image(200 - fixed.array, fixed.grid)
    write_pair_report(
        tmp_path / "p.html", fixed, moving, dataclasses.replace(result, warped=inverted)
    )
    found = Page(tmp_path / "p.html")
    button = next(b for b in found.all("button") if b.get("data-mode") == "residual")
    assert "disabled" in button
    assert "different contrast" in found.words()


@pytest.mark.parametrize("trouble", ["constant", "nan", "masked", "folded"])
def test_images_that_show_nothing_have_a_page_all_the_same(tmp_path, registration, trouble):
    fixed, moving, result = registration((40, 52))
    grid = fixed.grid
    if trouble == "constant":
        fixed = moving = Image(np.full((40, 52), 7, np.float32), grid)
        result = dataclasses.replace(result, warped=fixed)
    elif trouble == "nan":
        array = moving.array.copy()
        array[3:9] = np.nan
        fixed = moving = Image(array, grid)
        result = dataclasses.replace(result, warped=moving)
    elif trouble == "masked":
        everywhere = Image(np.ones((40, 52), np.float32), grid)
        result = dataclasses.replace(result, noncorrespondence=everywhere)
    else:
        result = dataclasses.replace(result, jacobian=Image(np.full((40, 52), -1.0), grid))
    write_pair_report(tmp_path / "p.html", fixed, moving, result)
    drawn = Page(tmp_path / "p.html").scene()
    assert drawn["folded"] == (trouble == "folded")
    bits = tile(drawn["planes"][0], "bits", 0)
    assert ((bits & drawn["bits"]["folded"]) > 0).all() == (trouble == "folded")


def test_large_images_get_fewer_and_smaller_slices_and_the_page_says_so(
    tmp_path, registration, monkeypatch
):
    monkeypatch.setattr(sprites, "PIXELS", 6000)
    monkeypatch.setattr(sprites, "EDGE", 20)
    fixed, moving, result = registration((20, 24, 28))
    scene = Scene.of(fixed, moving, result)
    found = sprites.stacks(scene)
    assert sum(len(s.positions) * s.tile[0] * s.tile[1] for s in found) <= 6000
    assert all(max(s.tile) <= 20 for s in found)
    for stack, middle in zip(found, scene.focus, strict=True):
        assert stack.positions[stack.start] == middle  # the lesion is not skipped
    write_pair_report(tmp_path / "p.html", fixed, moving, result)
    words = Page(tmp_path / "p.html").words()
    assert re.search(r"Axial slices are every \d", words)
    assert re.search(r"Axial slices are shown with \d+ × \d+ of \d+ × \d+ pixels", words)


def test_a_page_of_noise_stays_small_by_coarser_pictures(tmp_path, registration, monkeypatch):
    fixed, moving, result = registration((20, 24, 28))
    noise = np.random.default_rng(0).random((3, 20, 24, 28), np.float32)
    fixed, moving, warped = (Image(one, fixed.grid) for one in noise)
    result = dataclasses.replace(result, warped=warped)
    write_pair_report(tmp_path / "fine.html", fixed, moving, result)
    fine = (tmp_path / "fine.html").stat().st_size
    pictures = sum(
        len(text)
        for plane in Page(tmp_path / "fine.html").scene()["planes"]
        for text in plane["sheets"].values()
    )
    monkeypatch.setattr(sprites, "BYTES", int(0.6 * pictures))
    write_pair_report(tmp_path / "coarse.html", fixed, moving, result)
    coarse = Page(tmp_path / "coarse.html").scene()["planes"]
    assert sum(len(t) for p in coarse for t in p["sheets"].values()) <= 0.6 * pictures
    assert (tmp_path / "coarse.html").stat().st_size < fine
    # The rest of a page, style and script, is far below what 5 MB leave.
    assert fine - pictures < 200_000 < 5_000_000 - 4_200_000


def test_a_page_from_files_shows_the_deformation_of_the_result(tmp_path, registration):
    fixed, _, result = registration((20, 24, 28))
    turn = np.deg2rad(8)
    affine = AffineMap(
        ((np.cos(turn), -np.sin(turn), 0), (np.sin(turn), np.cos(turn), 0.02), (0, 0, 1.1)),
        (4.0, -3.0, 2.0),
    )
    grid = fixed.grid
    points = grid.points()
    displacement = affine(points + result.deformation.array) - points
    result = dataclasses.replace(
        result, affine=affine, displacement=Image(displacement.astype(np.float32), grid)
    )
    names = {}
    for name, image in {
        "warped": result.warped,
        "displacement": result.displacement,
        "mask": result.mask,
        "mask_probability": result.noncorrespondence,
        "jacobian": result.jacobian,
    }.items():
        names[name] = f"{name}.nii.gz"
        write_image(image, tmp_path / names[name])
    record = summary(result) | {"outputs": names}
    stored = StoredRegistration.read(tmp_path, record)
    # Displacements of some 10 mm in float32, and a header of float32 besides.
    assert np.allclose(stored.deformation.array, result.deformation.array, atol=1e-4)
    with pytest.raises(ImageReadError, match="names no jacobian"):
        StoredRegistration.read(tmp_path, record | {"outputs": {**names, "jacobian": "../x.nii"}})


GOOD = {
    "distance_before": 0.6,
    "distance_outside": 0.2,
    "masked_fraction": 0.02,
    "folding_fraction": 0.0,
    "inverse_error_mean_voxel": 0.03,
    "overlap_fraction": 0.95,
}


@pytest.mark.parametrize(
    ("changes", "grade"),
    [
        ({}, "good"),
        ({"distance_outside": 0.56}, "review"),
        ({"distance_outside": 0.6}, "review"),
        ({"distance_before": 0.0, "distance_outside": 0.0}, "good"),
        ({"distance_before": 8.186e-5, "distance_outside": 8.199e-5}, "good"),
        ({"masked_fraction": 0.26}, "review"),
        ({"masked_fraction": 0.51}, "poor"),
        ({"folding_fraction": 1e-7}, "good"),
        ({"folding_fraction": 2e-5}, "review"),
        ({"folding_fraction": 0.011}, "poor"),
        ({"inverse_error_mean_voxel": 0.2}, "review"),
        ({"inverse_error_mean_voxel": 0.6}, "poor"),
        ({"overlap_fraction": 0.5}, "review"),
        ({"overlap_fraction": 0.1}, "poor"),
        ({"masked_fraction": None}, "poor"),
        ({"inverse_error_mean_voxel": float("nan")}, "poor"),
    ],
)
def test_a_figure_that_is_wrong_changes_the_verdict_and_says_what_to_check(changes, grade):
    found = judge(GOOD | changes)
    assert found.grade == grade
    assert len(found.remarks) == (grade != "good")
    assert all(check.reason and check.advice for check in found.remarks)


def test_the_worst_remark_comes_first_and_warnings_are_worth_a_look():
    assert judge(GOOD, ["odd header"]).grade == "review"
    assert judge(GOOD, overlaps=(0.5, 0.4)).grade == "review"
    assert judge(GOOD, overlaps=(0.4, 0.5)).grade == "good"
    assert judge(GOOD, found=0.49).grade == "review"
    assert judge(GOOD, found=0.51).grade == "good"
    both = judge(GOOD | {"folding_fraction": 0.001, "masked_fraction": 0.6})
    assert [check.grade for check in both.remarks] == ["poor", "review"]


@pytest.mark.parametrize("shape", [(40, 52), (20, 24, 28)])
@pytest.mark.parametrize("degrees", [0.0, 9.0])
def test_the_rotation_of_a_deformation_is_that_of_the_object(registration, shape, degrees):
    fixed, moving, result = registration(shape)
    grid, angle = fixed.grid, math.radians(degrees)
    turn = np.eye(grid.dimension)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    points = grid.points()
    displacement = (points - points.mean()) @ (1.05 * turn - np.eye(grid.dimension)).T
    deformation = Image(displacement.astype(np.float32), grid)
    turned = dataclasses.replace(result, working_deformation=deformation)
    assert inspect(fixed, moving, turned).rotation == pytest.approx(degrees, abs=0.1)


@pytest.mark.parametrize(
    ("seen", "part"),
    [
        ({"affine_determinant": 2.85}, "alignment"),
        ({"affine_determinant": 0.27}, "alignment"),
        ({"affine_determinant": 1.9}, None),
        ({"affine_determinant": -1.0}, "alignment"),
        ({"affine_stretch": 1.7}, "alignment"),
        ({"rotation": 6.2}, "alignment"),
        ({"rotation": 1.3}, None),
        ({"containment": 0.7}, "alignment"),
        ({"correlation": 0.1, "correlation_ratio": 0.6}, "alignment"),
        ({"correlation": 0.9, "correlation_ratio": 0.9}, None),
        ({"stretched": 0.02}, "alignment"),
        ({"mask_at_border": 0.6}, "mask"),
        ({"mask_at_surface": 0.8}, "mask"),
        ({"mask_at_surface": 0.8, "mask_outside_brain": 0.1}, None),
        ({"mask_outside_brain": 0.8}, "mask"),
        ({"residual_left": 0.02}, "mask"),
        ({"extreme_change": 0.02}, "mask"),
        ({"residual_left": float("nan"), "mask_at_surface": None}, None),
    ],
)
def test_alignment_and_mask_are_judged_apart(seen, part):
    found = judge(GOOD, seen=seen)
    for half in ("alignment", "mask"):
        assert (found.of(half) == "good") == (half != part)
        assert (f"{half} good" in found.sentence) == (half != part)
    if part is not None:
        assert f"{part} doubtful because" in found.sentence or f"{part} wrong" in found.sentence
        assert all(check.brief and check.advice for check in found.remarks)
    assert found.as_dict()["mask"] == found.of("mask")


def test_where_a_tiny_mask_lies_is_no_remark_and_two_contrasts_may_be_uncorrelated():
    tiny = GOOD | {"masked_fraction": 1e-4}
    assert judge(tiny, seen={"mask_at_surface": 1.0, "mask_at_border": 1.0}).grade == "good"
    other = {"correlation": -0.3, "correlation_ratio": 0.5}
    assert judge(GOOD, seen=other, multimodal=True).grade == "good"
    assert judge(GOOD, seen={"affine_determinant": 4.0}, dimension=2).grade == "good"


def test_the_word_of_earlier_summaries_is_still_understood(tmp_path):
    assert [verdict.grade_of(word) for word in ("look", "review", "", None)] == [
        "review",
        "review",
        None,
        None,
    ]
    told = {"verdict": "review", "verdict_why": "alignment good, mask doubtful because of this"}
    made = [row | told for row in rows(2)]
    write_cohort_report(tmp_path / "c.html", made, title="Cohort")
    words = Page(tmp_path / "c.html").words()
    assert "2 review" in words
    assert "Alignment good, mask doubtful because of this." in words


def test_the_page_and_the_run_warn_at_the_same_share():
    from itk_ncr.registration import results

    assert checks.MASKED.review == results.SUSPICIOUS_SHARE


def rows(count: int) -> list[dict[str, object]]:
    generator = np.random.default_rng(3)
    made: list[dict[str, object]] = []
    for number in range(count):
        name = f"pair-{number:04d}"
        if number % 50 == 7:
            made.append({"name": name, "status": "failed", "error": f"cannot read '{name}.nii'"})
            continue
        after = float(generator.uniform(0.1, 0.3)) if number % 50 != 9 else 0.7
        figures = GOOD | {"distance_outside": after, "seconds": 3.0}
        warned = int(number % 50 == 11)
        made.append({"name": name, "status": "done", **figures, "warnings": warned})
    return made


def test_a_cohort_of_1000_is_small_and_lists_what_failed_first(tmp_path):
    made = [*rows(1000), {"name": "later", "status": "waiting"}]
    write_cohort_report(tmp_path / "c.html", made, title="Cohort")
    assert (tmp_path / "c.html").stat().st_size < 5_000_000
    found = Page(tmp_path / "c.html")
    assert not found.open
    grades = [row["data-is"] for row in found.all("tr") if "data-is" in row]
    assert grades == ["failed"] * 20 + ["review"] * 40 + ["good"] * 940
    assert re.search(r"20 failed ✕ 0 poor ! 40 review ✓ 940 good 1 not done yet", found.words())
    assert "cannot read 'pair-0007.nii'" in found.words()
    names = re.findall(r"pair-\d{4}", found.words()[found.words().index("why") :])
    by_name = {row["name"]: row for row in made}
    left = [by_name[n]["distance_outside"] for n in names[-100:]]
    assert left == sorted(left, reverse=True)


def test_a_cohort_from_a_table_of_text_is_the_same(tmp_path):
    made = rows(60)
    text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in made]
    write_cohort_report(tmp_path / "a.html", made, title="Cohort")
    write_cohort_report(tmp_path / "b.html", text, title="Cohort")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_a_pair_is_linked_where_its_page_is(tmp_path):
    for name in ("a b#1", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a b#1" / "report.html").touch()
    made = [row | {"name": n, "folder": n} for n, row in zip(("a b#1", "c"), rows(2), strict=True)]
    write_cohort_report(tmp_path / "c.html", made, title="Cohort")
    links = [a["href"] for a in Page(tmp_path / "c.html").all("a")]
    assert [link for link in links if link != "#main"] == ["a%20b%231/report.html"]


def test_distributions_count_every_pair(tmp_path):
    write_cohort_report(tmp_path / "c.html", rows(100), title="Cohort")
    found = Page(tmp_path / "c.html")
    charts = [svg["aria-label"] for svg in found.all("svg")]
    pattern = r"distance, after: 98 pairs from 0\.1\d* to 0\.7, median"
    assert any(re.match(pattern, words) for words in charts)
    tips = [text for opened, text in found.texts if opened[-1] == "title" and "svg" in opened]
    assert sum(int(tip.rsplit(": ", 1)[1]) for tip in tips) == 98 * len(charts)


def test_a_tilted_image_says_that_its_letters_are_the_nearest(tmp_path, registration):
    fixed, moving, result = registration((20, 24, 28))
    turn = np.deg2rad(20)
    direction = ((np.cos(turn), -np.sin(turn), 0), (np.sin(turn), np.cos(turn), 0), (0, 0, 1))
    grid = Grid(fixed.grid.size, fixed.grid.spacing, fixed.grid.origin, direction)
    changes = {
        field.name: Image(value.array, grid)
        for field in dataclasses.fields(result)
        if isinstance(value := getattr(result, field.name), Image)
    }
    pair = (Image(fixed.array, grid), Image(moving.array, grid))
    write_pair_report(tmp_path / "p.html", *pair, dataclasses.replace(result, **changes))
    assert "tilted by up to 20°" in Page(tmp_path / "p.html").words()


def test_the_difference_of_two_contrasts_is_not_taken_for_a_lesion():
    names = [check.name for check in judge({}, seen={"residual_left": 0.05}).remarks]
    assert "Residual outside the mask" in names
    two = judge({}, seen={"residual_left": 0.05}, multimodal=True)
    assert two.grade == "good"


def test_a_ct_is_shown_in_the_window_it_was_compared_in(registration) -> None:
    """Bone and metal neither darken the tissue nor count as a residual."""
    fixed, moving, result = registration((20, 24, 28))

    def numbers(image):
        place = np.indices(image.array.shape) - np.reshape(image.array.shape, (3, 1, 1, 1)) / 2
        values = np.where((place**2).sum(0) < 81, 40.0 + place[0], -1000).astype(np.float32)
        values[9:12, 9:12, 9:12] = 2500
        return Image(values, image.grid)

    warped = numbers(result.warped)
    ct = dataclasses.replace(result, warped=warped)
    scene = Scene.of(numbers(fixed), numbers(moving), ct)
    assert (scene.fixed.min(), scene.fixed.max()) == (0, 80)
    assert (scene.after.min(), scene.after.max()) == (0, 80)


def test_regions_of_the_mask_are_listed_with_volume_and_place(registration):
    _, _, result = registration((12, 20, 24))
    grid = result.noncorrespondence.grid
    probability = np.zeros((12, 20, 24), np.float32)
    probability[2:4, 3:7, 5:10] = 0.9
    probability[8:10, 12:14, 15:17] = 0.7
    changed = dataclasses.replace(result, noncorrespondence=Image(probability, grid))
    told = wording.mask_regions(changed)
    voxel = float(np.prod(grid.spacing))
    assert (told["count"], told["left"]) == (2, 0)
    assert told["volume"] == f"{48 * voxel / 1000:.2f} mL"
    (size, share, place, mean), (_, _, other, _) = told["rows"]
    assert (size, share, mean) == (f"{40 * voxel / 1000:.2f} mL", "83%", "0.90")
    point = to_sitk(changed.mask).TransformContinuousIndexToPhysicalPoint((7.0, 4.5, 2.5))
    assert place == "  ".join(f"{value:.0f}" for value in point)
    assert place != other
    empty = dataclasses.replace(result, noncorrespondence=Image(0 * probability, grid))
    assert wording.mask_regions(empty) == {"volume": "0.00 mL", "count": 0, "rows": [], "left": 0}


def test_of_many_regions_the_largest_are_listed(registration):
    _, _, result = registration((40, 52))
    probability = np.zeros((40, 52), np.float32)
    probability[::4, ::4] = 0.9
    probability[0:2, 0:2] = 0.9
    told = wording.mask_regions(
        dataclasses.replace(result, noncorrespondence=Image(probability, result.mask.grid))
    )
    assert (told["count"], len(told["rows"]), told["left"]) == (130, 12, 118)
    assert told["rows"][0][0].endswith("mm²")


def test_the_command_of_a_page_is_understood_and_says_what_differs_from_the_defaults():
    import shlex

    import click

    from itk_ncr.cli import command_line
    from itk_ncr.settings import RegistrationSettings

    settings = RegistrationSettings(
        smoothness=2.5, preset="mri-3d", method="greedy", method_options={"iterations": "9 x"}
    )
    inputs = {
        role: {"path": f"my data/{role}.nii.gz"} for role in ("fixed", "moving", "lesion_mask")
    }
    line = wording.command_line({"inputs": inputs, "settings": settings.as_dict()})
    words = shlex.split(line)
    assert words[:2] == ["itk-ncr", "register"]
    command = command_line.get_command(click.Context(command_line), "register")
    told = command.make_context("register", words[2:]).params
    assert told["fixed"] == Path("my data/fixed.nii.gz")
    assert told["lesion_mask"] == Path("my data/lesion_mask.nii.gz")
    assert told["method_options"] == {"iterations": "9 x"}
    assert (told["smoothness"], told["preset"], told["method"]) == (2.5, "mri-3d", "greedy")
    assert "--seed" not in words
    inputs["moving"] = {"sha256": "0"}  # an array of Python
    assert wording.command_line({"inputs": inputs, "settings": {}}) is None


def test_the_words_for_a_paper_are_true_of_the_run(registration, tmp_path):
    fixed, moving, result = registration((40, 52))
    told = summary(result) | {"versions": {"itk_ncr": "9.8"}}
    text = wording.methods(told)
    assert "itk_ncr 9.8" in text
    assert "cut at 0.5" in text
    assert "network" not in text
    changed = {**told, "settings": {**told["settings"], "method": "greedy", "smoothness": 2.0}}
    text = wording.methods(changed | {"inputs": {"lesion_mask": {}}})
    assert "method greedy" in text
    assert "diffeomorphism" not in text
    assert "lesion mask" in text
    assert "smoothness 2" in text
    write_pair_report(tmp_path / "page.html", fixed, moving, result, record=told)
    words = Page(tmp_path / "page.html").words()
    for wanted in (wording.methods(told), "doi:10.1007/s11548-022-02577-4", "regions: 1"):
        assert " ".join(wanted.split()) in words
