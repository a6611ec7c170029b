"""The pages in a real browser: what a person can move moves, and nothing complains."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from itk_ncr.evaluation import write_cohort_report, write_pair_report
from itk_ncr.images import Image

playwright = pytest.importorskip("playwright.sync_api")

expect = playwright.expect
pytestmark = pytest.mark.browser
NAMES = ("chromium", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The Chromium of the system; nothing is downloaded."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as started:
        # The sandbox needs rights that root in a container does not have.
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, registration: Callable[..., Any]) -> Path:
    """A folder with the page of a 3D pair, of a 2D pair and of a cohort."""
    folder = tmp_path_factory.mktemp("pages")
    fixed, moving, result = registration((20, 24, 28))
    truth = np.zeros((20, 24, 28), np.uint8)
    truth[9:17, 9:20, 12:24] = 1
    write_pair_report(folder / "3d.html", fixed, moving, result, truth=Image(truth, fixed.grid))
    write_pair_report(folder / "2d.html", *registration((40, 52)))
    rows = [
        {"name": f"pair-{n}", "status": "done", "distance_before": 1.0, "distance_outside": d}
        for n, d in enumerate((0.5, 0.05, 0.95, 0.2))
    ]
    rows.append({"name": "broken", "status": "failed", "error": "cannot read it"})
    write_cohort_report(folder / "cohort.html", rows, title="Cohort")
    return folder


@pytest.fixture
def show(browser: Any, pages: Path) -> Iterator[Callable[..., Any]]:
    """Open a page; at the end nothing may have been complained about or asked for elsewhere."""
    troubles: list[str] = []
    contexts = []

    def call(name: str, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1200, "height": 900}, **options)
        context.set_default_timeout(30_000)  # a busy machine
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda request: (
                troubles.append(request.url)
                if not request.url.startswith(("file:", "data:"))
                else None
            ),
        )
        page.goto((pages / name).as_uri())
        if name != "cohort.html":
            page.wait_for_selector("#viewer[data-ready]", timeout=20_000)
        return page

    yield call
    for context in contexts:
        context.close()
    assert troubles == []


def pixels(page: Any, plane: int = 0) -> np.ndarray:
    """What a plane shows, shape (rows, columns, 3)."""
    from PIL import Image as Pictures

    text = page.locator("canvas").nth(plane).evaluate("(canvas) => canvas.toDataURL('image/png')")
    picture = Pictures.open(io.BytesIO(base64.b64decode(text.partition(",")[2])))
    return np.asarray(picture.convert("RGB")).astype(int)


def label(page: Any, plane: int = 0) -> str:
    return page.locator("canvas").nth(plane).get_attribute("aria-label")


def clean(page: Any) -> None:
    """Nothing but the image."""
    for name in ("mask", "truth"):
        page.click(f'[data-contour="{name}"]')


def test_the_wipe_moves_with_the_slider_the_mouse_and_the_keys(show):
    page = show("3d.html")
    clean(page)
    page.locator("#wipe").fill("100")
    only_fixed = pixels(page)
    page.locator("#wipe").fill("0")
    only_warped = pixels(page)
    assert np.abs(only_fixed - only_warped).mean() > 1
    page.locator("#wipe").fill("50")
    half, columns = pixels(page), only_fixed.shape[1]
    left, right = slice(0, columns // 2 - 4), slice(columns // 2 + 4, None)
    assert np.array_equal(half[:, left], only_fixed[:, left])
    assert np.array_equal(half[:, right], only_warped[:, right])
    page.locator("canvas").first.scroll_into_view_if_needed()
    box = page.locator("canvas").first.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 50)
    page.mouse.up()
    assert int(page.locator("#wipe").input_value()) == pytest.approx(25, abs=1)
    page.keyboard.press("ArrowRight")
    assert int(page.locator("#wipe").input_value()) == pytest.approx(30, abs=1)


def test_slices_scroll_by_wheel_key_and_slider(show):
    page = show("3d.html")
    canvas, slider = page.locator("canvas").first, page.locator("input.slice").first
    start = int(slider.input_value())
    before = pixels(page)
    canvas.hover()
    page.mouse.wheel(0, 60)
    expect(slider).to_have_value(str(start + 1))
    assert not np.array_equal(pixels(page), before)
    canvas.focus()
    page.keyboard.press("ArrowDown")
    assert int(slider.input_value()) == start
    assert np.array_equal(pixels(page), before)
    page.keyboard.press("Home")
    assert "slice 1 of" in label(page)
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert "slice 2 of" in label(page)
    expect(page.locator("#live")).to_contain_text("slice 2 of")


def test_at_the_last_slice_the_wheel_scrolls_the_page_again(show):
    page = show("3d.html")
    page.locator("canvas").first.focus()
    page.keyboard.press("End")
    page.locator("canvas").first.hover()
    page.mouse.wheel(0, 300)
    page.wait_for_timeout(300)
    assert page.evaluate("window.scrollY") > 0


def test_flicker_swaps_by_hand_and_by_itself_until_it_is_stopped(show):
    page = show("3d.html")
    clean(page)
    page.click('[data-mode="flicker"]')
    first = pixels(page)
    page.click("#swap")
    second = pixels(page)
    assert label(page).endswith("warped")
    assert np.abs(first - second).mean() > 1
    page.locator("canvas").first.focus()
    page.keyboard.press("Space")
    assert np.array_equal(pixels(page), first)
    page.click("#auto")
    for name in ("warped", "fixed"):
        expect(page.locator("canvas").first).to_have_attribute("aria-label", re.compile(f"{name}$"))
    page.click("#auto")
    stopped = label(page)
    page.wait_for_timeout(900)
    assert label(page) == stopped


def test_who_asks_for_less_motion_gets_no_automatic_flicker(show):
    page = show("3d.html", reduced_motion="reduce")
    page.click('[data-mode="flicker"]')
    assert page.locator("#auto").is_disabled()
    page.click("#swap")
    assert label(page).endswith("warped")


def test_the_theme_follows_the_system_and_the_switch(show):
    for scheme, dark in (("light", False), ("dark", True)):
        page = show("3d.html", color_scheme=scheme)
        colour = "getComputedStyle(document.body).backgroundColor"
        brightness = lambda: sum(map(int, page.evaluate(colour)[4:-1].split(",")))  # noqa: B023, E731
        assert (brightness() < 200) == dark
        page.click("#theme")
        assert (brightness() < 200) != dark
        assert page.locator("#theme").get_attribute("aria-pressed") == str(not dark).lower()
        page.reload()
        assert (brightness() < 200) != dark


def test_contours_are_where_the_masks_end_and_can_be_hidden(show):
    page = show("3d.html")
    amber = np.array([255, 176, 0])

    def near(colour: np.ndarray) -> int:
        return int((np.abs(pixels(page) - colour).max(-1) < 40).sum())

    shown = near(amber)
    assert shown > 50
    page.click('[data-contour="mask"]')
    assert near(amber) == 0
    truth = np.array([92, 242, 165])
    assert near(truth) > 50
    page.click('[data-contour="truth"]')
    assert near(truth) == 0
    page.locator("canvas").first.focus()
    page.keyboard.press("c")
    assert near(amber) == shown


def test_every_view_shows_something_of_its_own(show):
    page = show("3d.html")
    clean(page)
    page.locator("#wipe").fill("100")
    seen = [pixels(page)]
    for mode in ("checker", "mask", "residual", "grid", "jacobian"):
        page.click(f'[data-mode="{mode}"]')
        view = pixels(page)
        assert all(np.abs(view - other).mean() > 1 for other in seen), mode
        seen.append(view)
        assert page.locator(f'[data-mode="{mode}"]').get_attribute("aria-pressed") == "true"
        assert page.locator("#scale").is_visible() == (mode in ("residual", "jacobian"))
        assert page.locator("#wipe").is_hidden()


def test_the_residual_can_be_shown_outside_or_inside_the_mask(show):
    page = show("3d.html")
    clean(page)
    page.click('[data-mode="residual"]')
    grey = np.array([58, 60, 64])
    shares = {}
    for region in ("all", "outside", "inside"):
        page.click(f'[data-region="{region}"]')
        shares[region] = float((np.abs(pixels(page) - grey).max(-1) == 0).mean())
    assert shares["all"] == 0
    assert 0 < shares["outside"] < 0.3 < shares["inside"] < 1


def test_a_click_takes_the_other_planes_there(show):
    page = show("3d.html")
    page.click('[data-mode="jacobian"]')
    canvas = page.locator("canvas").first
    box = canvas.bounding_box()
    canvas.click(position={"x": 0.2 * box["width"], "y": 0.75 * box["height"]})
    coronal, sagittal = (page.locator("input.slice").nth(n) for n in (1, 2))
    for slider, share in ((coronal, 0.75), (sagittal, 0.2)):
        last = int(slider.get_attribute("max"))
        assert int(slider.input_value()) == pytest.approx(share * (last + 1) - 0.5, abs=1)


def test_keys_choose_views_and_planes_have_one_scale(show):
    page = show("3d.html")
    page.locator("canvas").first.focus()
    page.keyboard.press("7")
    assert page.locator('[data-mode="jacobian"]').get_attribute("aria-pressed") == "true"
    sizes = [page.locator("canvas").nth(n).bounding_box() for n in range(3)]
    mm = page.evaluate(
        "JSON.parse(document.querySelector('#scene').textContent).planes.map((p) => p.size_mm)"
    )
    scales = [box["width"] / size[1] for box, size in zip(sizes, mm, strict=True)]
    scales += [box["height"] / size[0] for box, size in zip(sizes, mm, strict=True)]
    assert max(scales) / min(scales) < 1.03


def test_a_picture_of_two_dimensions_has_one_plane_and_no_slices(show):
    page = show("2d.html")
    assert page.locator("canvas").count() == 1
    assert page.locator("input.slice").count() == 0
    before = pixels(page)
    page.click('[data-mode="grid"]')
    assert np.abs(pixels(page) - before).mean() > 1


def test_nothing_is_clipped_in_a_narrow_window(show):
    for name in ("3d.html", "2d.html", "cohort.html"):
        page = show(name)
        page.set_viewport_size({"width": 600, "height": 900})
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 600
        for canvas in page.locator("canvas").all():
            box = canvas.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 600


def test_every_control_can_be_reached_by_tab_and_has_a_name(show):
    page = show("3d.html")
    visible = page.locator("button:visible:enabled, input:visible, canvas, summary:visible").count()
    reached = set()
    for _ in range(2 * visible):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                """() => { const e = document.activeElement;
                if (!e.matches("button, input, canvas, summary")) return null;
                return e.getAttribute("aria-label") || e.textContent.trim(); }"""
            )
        )
    reached.discard(None)
    assert "" not in reached
    assert len(reached) == visible


def test_the_table_of_a_cohort_sorts_and_filters(show):
    page = show("cohort.html")
    names = lambda: page.locator("#pairs tbody tr:visible th").all_inner_texts()  # noqa: E731
    assert names()[:2] == ["broken", "pair-2"]
    page.click('#pairs th button:has-text("distance, after")')
    assert names() == ["pair-1", "pair-3", "pair-0", "pair-2", "broken"]
    head = page.locator('#pairs th:has-text("distance, after")')
    assert head.get_attribute("aria-sort") == "ascending"
    page.click('#pairs th button:has-text("distance, after")')
    assert names() == ["pair-2", "pair-0", "pair-3", "pair-1", "broken"]
    page.click('#pairs th button:text-is("pair")')
    assert names() == ["broken", "pair-0", "pair-1", "pair-2", "pair-3"]
    page.click('[data-grade="good"]')
    assert names() == ["pair-0", "pair-1", "pair-3"]
    page.locator("#search").fill("pair-3")
    assert names() == ["pair-3"]
    assert page.locator("#count").inner_text() == "1 of 5 shown"


def test_keys_work_at_once_and_a_question_mark_explains_them(show):
    page = show("3d.html")
    page.keyboard.press("6")
    expect(page.locator('[data-mode="grid"]')).to_have_attribute("aria-pressed", "true")
    help = page.locator("#help")
    assert help.get_attribute("open") is None
    page.keyboard.press("?")
    assert help.get_attribute("open") is not None
    page.keyboard.press("x")
    expect(page.locator('[data-contour="cross"]')).to_have_attribute("aria-pressed", "true")


def test_values_under_the_pointer_are_those_of_the_images(show, registration):
    fixed, _, result = registration((40, 52))
    page = show("2d.html")
    line, canvas = page.locator("#values"), page.locator("canvas").first
    assert line.text_content() == ""
    canvas.hover()  # in the middle
    expect(line).not_to_be_empty()
    text = line.text_content()
    told = [float(word) for word in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]\d+)?", text)]
    row, column = 20, 26  # of the object too, to which the page is cut
    near = (slice(row - 3, row + 3), slice(column - 3, column + 3))
    wanted = (
        fixed.array[near], result.warped.array[near],
        100 * result.noncorrespondence.array[near], result.jacobian.array[near],
    )  # fmt: skip
    for value, values in zip(told, wanted, strict=True):
        # A byte of the window, and what JPEG adds.
        slack = 0.04 * max(float(np.ptp(values)), float(np.abs(values).max()))
        assert values.min() - slack <= value <= values.max() + slack, text
    page.mouse.move(0, 0)
    expect(line).to_be_empty()


def test_ratings_are_kept_sorted_and_exported(show):
    page = show("cohort.html")
    row = page.locator('tr[data-name="pair-2"]')
    row.locator("select").select_option("reject")
    page.reload()
    assert row.locator("select").input_value() == "reject"
    page.click("thead >> text=rating")
    page.click("thead >> text=rating")
    assert page.locator("tbody tr").first.get_attribute("data-name") == "pair-2"
    page.fill("#search", "reject")  # what may be chosen is no text of a row
    assert page.locator("tbody tr:visible").count() == 0
    with page.expect_download() as waiting:
        page.click("#export")
    lines = Path(waiting.value.path()).read_text().splitlines()
    assert lines[0] == "pair,verdict,rating"
    assert len(lines) == 6
    assert next(line for line in lines if "reject" in line).startswith('"pair-2"')
