"""A run from files to files: what is written, whether others can read it, and how it may end."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

IMAGES = {
    "warped",
    "displacement",
    "displacement_inverse",
    "mask",
    "mask_probability",
    "mask_moving",
    "jacobian",
}
COMMAND = [sys.executable, "-m", "itk_ncr", "register", "--threads", "1"]
# For tests of the process, not of the registration.
QUICK = ["--affine", "none", "--mask", "none", "--no-report"]


def record(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def test_a_run_writes_what_it_promises_in_the_format_of_the_fixed_image(registered):
    names = {path.name for path in registered.iterdir()}
    images = {f"{name}.nrrd" for name in IMAGES | {"labels"}}
    transforms = {"transform.h5", "transform_inverse.h5"}
    assert names == images | transforms | {"summary.json", "report.html", "overview.png"}
    assert names == set(record(registered)["outputs"].values())


def test_the_displacement_alone_carries_the_moving_image_in_simpleitk(registered, pair, read):
    fixed, moving = (sitk.ReadImage(str(path), sitk.sitkFloat32) for path in pair)
    field = sitk.ReadImage(str(registered / "displacement.nrrd"), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(field)
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform))
    ours = read(registered / "warped.nrrd")
    both = (warped != 0) & (ours != 0)
    assert both.mean() > 0.9
    # Both interpolate linearly; the bound is 1e-3 of the range of 160.
    assert np.abs(warped - ours)[both].max() < 0.16
    # And the registration did something: the moving image alone is far from the warped one.
    assert np.abs(sitk.GetArrayFromImage(moving) - ours).max() > 20


def test_the_transform_file_is_the_same_map(registered):
    transform = sitk.ReadTransform(str(registered / "transform.h5"))
    field = sitk.ReadImage(str(registered / "displacement.nrrd"))
    for index in [(5, 6), (20, 20), (40, 31)]:
        point = np.array(field.TransformIndexToPhysicalPoint(index))
        assert transform.TransformPoint(point) == pytest.approx(point + field[index], abs=1e-3)


def test_the_inverse_transform_leads_back(registered):
    """From the file alone: points of the moving image, also beyond the fixed one, and a round."""
    there, back = (
        sitk.ReadTransform(str(registered / f"{name}.h5"))
        for name in ("transform", "transform_inverse")
    )
    field = sitk.ReadImage(str(registered / "displacement_inverse.nrrd"))
    for index in [(8, 9), (20, 20), (30, 25)]:
        point = np.array(field.TransformIndexToPhysicalPoint(index))
        assert back.TransformPoint(point) == pytest.approx(point + field[index], abs=1e-3)
        # Inversion error of the solver; a map that is not inverted misses by millimetres.
        assert there.TransformPoint(back.TransformPoint(point)) == pytest.approx(point, abs=0.1)
    far = np.array([300.0, -200.0])
    assert there.TransformPoint(back.TransformPoint(far)) == pytest.approx(far, abs=1e-6)


def test_the_labels_travel_with_the_image(registered, read):
    labels, warped = read(registered / "labels.nrrd"), read(registered / "warped.nrrd")
    assert labels.dtype == np.int32
    assert set(np.unique(labels)) == {0, 3}
    # They were the voxels above 60 before; interpolation blurs their rim only.
    assert ((labels == 3) == (warped > 60)).mean() > 0.97


def test_masks_are_the_probability_above_the_threshold(registered, read):
    probability, mask = read(registered / "mask_probability.nrrd"), read(registered / "mask.nrrd")
    assert mask.dtype == np.uint8
    assert probability.min() >= 0
    assert probability.max() <= 1
    assert np.array_equal(mask, probability > 0.5)


def test_the_summary_says_how_to_repeat_the_run(registered, pair):
    told = record(registered)
    assert told["inputs"]["fixed"]["sha256"] == hashlib.sha256(pair[0].read_bytes()).hexdigest()
    assert told["inputs"]["moving"]["size"] == [48, 40]
    assert told["inputs"]["labels"]["nan_count"] == 0
    assert told["seed"] == told["settings"]["seed"] == 7
    assert told["threads"] >= 1
    assert told["versions"]["torch"]
    assert "research use only" in told["notice"]
    assert told["quality"]["distance_outside"] < told["quality"]["distance_before"]
    assert np.shape(told["affine"]["matrix"]) == (2, 2)


def test_the_overview_is_a_picture(registered, read):
    picture = read(registered / "overview.png")
    assert min(picture.shape[:2]) > 400
    assert picture.std() > 20


def test_no_more_threads_than_processors(pair, run, tmp_path, monkeypatch):
    monkeypatch.setattr("itk_ncr.runs.single.cpus", lambda: 1)
    quick = ("--method", "affine", "--affine", "none", "--no-report")
    result = run("register", *pair, "-o", tmp_path / "run", "--threads", 999, *quick)
    assert result.exit_code == 0, result.output
    assert "note: 1 thread, for there are no more processors." in result.stderr.splitlines()
    assert record(tmp_path / "run")["threads"] == 1


def test_the_same_call_gives_the_same_files(registered, pair, run, tmp_path, read):
    words = ["-q", "--no-report", "--seed", 7, "--threads", 2]  # the other run had one
    result = run("register", *pair, "-o", tmp_path / "run", *words)
    assert result.exit_code == 0
    assert result.output == ""
    for name in IMAGES:
        assert np.array_equal(
            read(tmp_path / "run" / f"{name}.nrrd"), read(registered / f"{name}.nrrd")
        )


def test_a_pair_needs_no_itk_package(pair, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "itk", None)
    words = ["-o", tmp_path / "run", "--mask", "none", "--affine", "none", "-q"]
    assert run("register", *pair, *words).exit_code == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_json_on_stdout_is_the_summary(pair, run, tmp_path):
    result = run("register", *pair, "-o", tmp_path / "run", "--json", "--no-report")
    assert json.loads(result.stdout) == record(tmp_path / "run")
    assert not (tmp_path / "run" / "overview.png").exists()


def test_figures_are_printed_for_a_person(pair, run, tmp_path):
    result = run("register", *pair, "-o", tmp_path / "run", "--no-report", "--mask", "none")
    assert result.exit_code == 0
    assert "distance " in result.stdout
    assert str(tmp_path / "run") in result.stdout
    assert record(tmp_path / "run")["settings"]["mask"] == "none"
    assert record(tmp_path / "run")["quality"]["masked_fraction"] == 0


def test_every_option_reaches_the_solver(volumes, run, tmp_path, save):
    lesion = np.zeros((20, 24, 28), np.uint8)
    lesion[8:12, 10:14, 10:14] = 1
    region = np.ones((20, 24, 28), np.uint8)
    region[:2] = 0
    sitk.WriteTransform(sitk.AffineTransform(3), str(tmp_path / "affine.tfm"))
    options = {
        "--preset": "mri-3d",
        "--lesion-mask": save(lesion, tmp_path / "lesion.nii.gz"),
        "--moving-lesion-mask": save(lesion, tmp_path / "moving_lesion.nii.gz"),
        "--roi-mask": save(region, tmp_path / "region.nii.gz"),
        "--affine": tmp_path / "affine.tfm",
        "--smoothness": 1.5,
        "--mask-price": 2,
        "--mask-threshold": 0.4,
        "--seed": 3,
        "--threads": 2,
        "--working-voxels": 8000,
        "--format": "mha",
    }
    words = [word for option in options.items() for word in option]
    result = run("register", *volumes, "-o", tmp_path / "run", "--no-report", "-q", *words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "warped.mha").exists()
    told = record(tmp_path / "run")
    expected = {
        "preset": "mri-3d",
        "affine": "given",
        "smoothness": 1.5,
        "mask_price": 2,
        "mask_threshold": 0.4,
        "seed": 3,
        "threads": 2,
        "working_voxels": 8000,
    }
    assert {name: told["settings"][name] for name in expected} == expected
    assert set(told["inputs"]) == {
        "fixed",
        "moving",
        "lesion_mask",
        "moving_lesion_mask",
        "roi_mask",
        "affine",
    }
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "run" / "mask.mha")))
    assert mask[9:11, 11:13, 11:13].all()


def test_a_dicom_folder_goes_in_and_nifti_comes_out(blobs, run, tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    volume = blobs((6, 24, 28)).astype(np.int16)
    for number, values in enumerate(volume):
        slice_ = sitk.GetImageFromArray(values[None])
        slice_.SetSpacing((1.5, 1.5, 3.0))
        for tag, value in {
            "0008|0060": "MR",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{number + 1}",
            "0020|0013": str(number),
            "0020|0032": f"0\\0\\{3.0 * number}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0010|0010": "Secret^Name",
        }.items():
            slice_.SetMetaData(tag, value)
        writer.SetFileName(str(series / f"{number}.dcm"))
        writer.Execute(slice_)
    result = run("register", series, series, "-o", tmp_path / "run", "-q", "--affine", "none")
    assert result.exit_code == 0, result.output
    warped = sitk.ReadImage(str(tmp_path / "run" / "warped.nii.gz"))
    assert warped.GetSize() == (28, 24, 6)
    assert warped.GetSpacing() == pytest.approx((1.5, 1.5, 3.0))
    assert record(tmp_path / "run")["inputs"]["fixed"]["files"] == 6
    assert not any(b"Secret" in path.read_bytes() for path in (tmp_path / "run").iterdir())


def test_a_second_run_needs_permission(registered, pair, run, tmp_path, tree):
    before = tree(registered)
    result = run("register", *pair, "-o", registered)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert tree(registered) == before


def test_a_file_of_another_program_is_not_replaced(pair, run, tmp_path, tree):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mask.nrrd").write_text("drawn by hand")
    before = tree(tmp_path)
    result = run("register", "none.nrrd", pair[1], "-o", tmp_path / "run", "--overwrite")
    assert result.exit_code == 2
    assert "'mask.nrrd', not of an earlier run" in result.stderr  # said before anything is read
    assert tree(tmp_path) == before


def test_a_picture_that_fails_does_not_cost_the_registration(pair, run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = run("register", *pair, "-o", tmp_path / "run", "-q")
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("note: matplotlib must be installed for overview.png")
    assert "pip install" in result.stderr
    assert not (tmp_path / "run" / "overview.png").exists()
    assert "overview" not in record(tmp_path / "run")["outputs"]
    monkeypatch.setattr("itk_ncr.evaluation.overview.overview", lambda *_: 1 / 0)
    monkeypatch.setattr("itk_ncr.evaluation.write_pair_report", lambda *_, **__: 1 / 0)
    result = run("register", *pair, "-o", tmp_path / "two", "-q")
    assert result.exit_code == 0
    notes = result.stderr.splitlines()
    assert [note.split(" could not be drawn (ZeroDivisionError")[0] for note in notes] == [
        "note: report.html",
        "note: overview.png",
    ]
    assert not {"report", "overview"} & set(record(tmp_path / "two")["outputs"])


def test_a_full_disk_leaves_nothing(pair, run, tmp_path, tree, monkeypatch):
    from itk_ncr import images
    from itk_ncr.errors import ImageWriteError

    def full(*_: object) -> None:
        raise ImageWriteError("cannot write 'transform.h5': no space left on device")

    monkeypatch.setattr(images, "write_transform", full)
    before = tree(tmp_path)
    result = run("register", *pair, "-o", tmp_path / "run", *QUICK)
    assert result.exit_code == 1
    assert result.stderr == "error: cannot write 'transform.h5': no space left on device\n"
    assert tree(tmp_path) == before


def test_a_disk_that_fills_up_ends_with_status_1(pair, tmp_path, tree):
    before = tree(tmp_path)
    command = [*COMMAND, *pair, "-o", tmp_path / "run", *QUICK, "-q"]
    result = subprocess.run(
        ["bash", "-c", 'ulimit -f 20; exec "$@"', "bash", *map(str, command)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=300,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: cannot write '{tmp_path / 'run' / 'transform.h5'}'")
    assert tree(tmp_path) == before


def test_too_little_memory_is_said_before_it_is_used(pair, run, tmp_path, tree, monkeypatch):
    from itk_ncr.images import memory

    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    before = tree(tmp_path)
    result = run("register", *pair, "-o", tmp_path / "run")
    assert result.exit_code == 2
    assert "GB available" in result.stderr
    assert tree(tmp_path) == before


def test_spaces_umlauts_no_stdin_and_no_terminal(pair, tmp_path):
    folder = tmp_path / "Größe 1 – été"
    folder.mkdir()
    fixed = folder / "fixed image ü.nrrd"
    fixed.write_bytes(pair[0].read_bytes())
    command = [*COMMAND, fixed, pair[1], "-o", folder / "Ausgabe é", *QUICK]
    result = subprocess.run(
        ["bash", "-c", 'exec "$@" <&-', "bash", *map(str, command)],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "LANG": "C"},
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert b"error" not in result.stderr
    assert b"\x1b" not in result.stdout + result.stderr
    assert record(folder / "Ausgabe é")["inputs"]["fixed"]["path"] == str(fixed)


def test_a_terminal_sees_progress(pair, tmp_path):
    controller, terminal = pty.openpty()
    command = [*COMMAND, *pair, "-o", tmp_path / "run", *QUICK]
    process = subprocess.Popen(
        [str(word) for word in command],
        stderr=terminal,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(terminal)
    seen = b""
    try:
        while block := os.read(controller, 4096):
            seen += block
    except OSError:  # the other side of the terminal is closed
        pass
    stdout, _ = process.communicate(timeout=300)
    os.close(controller)
    assert process.returncode == 0
    assert b"register" in seen
    assert b"100" in seen or b"9" in seen
    assert b"\x1b" not in stdout


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_nothing(blobs, save, tmp_path, tree, sent, status):
    fixed = save(blobs((64, 72, 80)), tmp_path / "fixed.nrrd")
    moving = save(blobs((64, 72, 80), shift=0.2), tmp_path / "moving.nrrd")
    before = tree(tmp_path)
    process = subprocess.Popen(
        [str(word) for word in [*COMMAND, fixed, moving, "-o", tmp_path / "run"]],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
        # Tests started in the background of a script ignore it, and so does this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not list(tmp_path.glob(".itk-ncr-*")):  # the solver starts right after
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(3)  # torch is imported, the first levels are under way
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == status
    assert stdout == b""
    assert b"Traceback" not in stderr
    if sent == signal.SIGINT:
        assert stderr.strip() == b"error: interrupted; nothing was written"
    assert tree(tmp_path) == before
