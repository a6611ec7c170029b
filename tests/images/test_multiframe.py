"""DICOM files of many frames are held to the same rules as series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from itk_ncr.errors import ImageReadError
from itk_ncr.images import ImageWarning, read_image

SHAPE = (9, 6, 7)  # frames, rows, columns
VALUES = np.random.default_rng(0).integers(-900, 1500, SHAPE).astype(np.int16)
TURNED = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
TURNED[:, 2] = np.cross(TURNED[:, 0], TURNED[:, 1])
START, STEP = np.array([-70.0, -90.0, -100.0]), 5.0
PLACES = START + STEP * np.arange(SHAPE[0])[:, None] * TURNED[:, 2]


def item(**values):
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(path, *, places=PLACES, values=VALUES, decimals=6, slopes=None, direction=TURNED):
    """An enhanced MR file of 1.5 mm (across) by 2 mm (down)."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    orientation = [f"{v:.6f}" for v in direction[:, :2].T.ravel()]
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=["2", "1.5"])],
        PlaneOrientationSequence=[item(ImageOrientationPatient=orientation)],
    )
    frames = []
    for at, place in enumerate(places):
        written = [f"{v:.{decimals}f}" for v in place]
        frame = item(PlanePositionSequence=[item(ImagePositionPatient=written)])
        if slopes is not None:
            slope, intercept = slopes[at]
            scale = item(RescaleSlope=f"{slope}", RescaleIntercept=f"{intercept}")
            frame.PixelValueTransformationSequence = [scale]
        frames.append(frame)
    dataset = item(
        SOPClassUID=EnhancedMRImageStorage,
        SOPInstanceUID=meta.MediaStorageSOPInstanceUID,
        Modality="MR",
        SeriesInstanceUID="1.2.3.4",
        Rows=values.shape[1],
        Columns=values.shape[2],
        NumberOfFrames=len(values),
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=1,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=frames,
        PixelData=values.tobytes(),
    )
    dataset.file_meta = meta
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def refuses(path, pattern):
    with pytest.raises(ImageReadError, match=pattern) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def frame_places(grid):
    return grid.origin + np.arange(grid.size[2])[:, None] * grid.matrix[:, 2]


@pytest.mark.filterwarnings("error::itk_ncr.images.ImageWarning")
@pytest.mark.parametrize("decimals", [6, 2])
def test_rounded_positions_are_read(here, decimals):
    enhanced("x.dcm", decimals=decimals)
    image = read_image("x.dcm")
    assert np.array_equal(image.array, VALUES)
    np.testing.assert_allclose(image.grid.spacing, (1.5, 2, 5), rtol=0.01)
    assert np.linalg.norm(frame_places(image.grid) - PLACES, axis=1).max() < 0.1
    np.testing.assert_allclose(image.grid.direction, TURNED, atol=2e-3)


@pytest.mark.filterwarnings("ignore::itk_ncr.images.ImageWarning")
@pytest.mark.parametrize("seed", range(5))
def test_positions_that_jitter_by_a_twentieth_of_a_millimetre_are_read(here, seed):
    generator = np.random.default_rng(seed)
    away = generator.normal(size=PLACES.shape)
    places = PLACES + 0.05 * away / np.linalg.norm(away, axis=1, keepdims=True)
    order = generator.permutation(len(places))
    enhanced("x.dcm", places=places[order], values=VALUES[order])
    image = read_image("x.dcm")
    assert np.array_equal(image.array, VALUES)
    assert image.grid.spacing[2] == pytest.approx(5, rel=0.01)
    assert np.linalg.norm(frame_places(image.grid) - places, axis=1).max() < 0.1


def test_a_short_stack_with_rounded_positions_is_not_sheared(here):
    places = START + 0.7 * np.arange(2)[:, None] * TURNED[:, 2] + [[0, 0, 0], [0.04, -0.02, 0.0]]
    enhanced("x.dcm", places=places, values=VALUES[:2])
    image = read_image("x.dcm")
    assert np.linalg.norm(frame_places(image.grid) - places, axis=1).max() < 0.1


def test_frames_are_put_in_the_order_of_their_places(here):
    order = np.random.default_rng(1).permutation(len(PLACES))
    enhanced("x.dcm", places=PLACES[order], values=VALUES[order])
    image = read_image("x.dcm")
    assert np.array_equal(image.array, VALUES)
    np.testing.assert_allclose(image.grid.origin, START, atol=1e-4)


@pytest.mark.parametrize("missing", [1, 4, 7])
def test_a_missing_frame_is_named(here, missing):
    keep = [at for at in range(len(PLACES)) if at != missing]
    enhanced("x.dcm", places=PLACES[keep], values=VALUES[keep])
    refuses("x.dcm", rf"1 frame\(s\) missing: 10 mm between {missing} and {missing + 1}, 5 mm else")


def test_two_volumes_in_one_file_are_named(here):
    enhanced("x.dcm", places=np.repeat(PLACES[:4], 2, axis=0), values=VALUES[:8])
    refuses("x.dcm", "holds 2 volumes: 2 frames lie at the same place, everywhere")
    enhanced("y.dcm", places=np.tile(PLACES[:3], (3, 1)), values=VALUES)
    refuses("y.dcm", "holds 3 volumes")


def test_a_duplicate_frame_is_named(here):
    places = PLACES.copy()
    places[5] = places[2]
    enhanced("x.dcm", places=np.delete(places, 8, 0), values=VALUES[:8])
    refuses("x.dcm", r"frames 3 and 6 lie at the same place; 1 duplicate\(s\) in all")


def test_a_tilted_gantry_is_refused(here):
    tilted = START + np.arange(9)[:, None] * (5 * TURNED[:, 2] + 0.5 * TURNED[:, 1])
    enhanced("x.dcm", places=tilted)
    refuses("x.dcm", r"its frames are sheared \(gantry tilt\)")


def test_a_frame_away_from_its_place_is_named(here):
    places = PLACES.copy()
    places[3] += 0.4 * TURNED[:, 2]
    enhanced("x.dcm", places=places)
    refuses("x.dcm", "unevenly spaced: frame 4 lies 0.3.* mm from an even grid")


def test_every_frame_is_scaled_by_its_own_slope(here):
    slopes = [(1 + 0.25 * at, -3.5 * at) for at in range(len(PLACES))]
    enhanced("x.dcm", slopes=slopes)
    factors, offsets = np.array(slopes).T[:, :, None, None]
    assert np.array_equal(read_image("x.dcm").array, VALUES * factors + offsets)
    # Whole numbers stay whole.
    enhanced("y.dcm", slopes=[(2, -at) for at in range(len(PLACES))])
    image = read_image("y.dcm")
    assert image.array.dtype.kind == "i"
    assert np.array_equal(image.array[3], VALUES[3].astype(int) * 2 - 3)


def test_run_lengths_are_unpacked(here):
    dataset = enhanced("x.dcm")
    dataset.compress(RLELossless, generate_instance_uid=False)
    dataset.save_as("r.dcm", enforce_file_format=True)
    assert np.array_equal(read_image("r.dcm").array, VALUES)


def test_frames_without_positions_are_refused(here):
    dataset = enhanced("x.dcm")
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as("x.dcm", enforce_file_format=True)
    refuses("x.dcm", "holds 9 frames without a position of each")
    dataset = enhanced("x.dcm")
    del dataset.PerFrameFunctionalGroupsSequence[4].PlanePositionSequence
    dataset.save_as("x.dcm", enforce_file_format=True)
    refuses("x.dcm", r"frame 5 has no usable ImagePositionPatient \(0020,0032\)")
    dataset = enhanced("x.dcm")
    del dataset.PerFrameFunctionalGroupsSequence[-1]
    dataset.save_as("x.dcm", enforce_file_format=True)
    refuses("x.dcm", "describes 8 frames .*NumberOfFrames says 9")


def test_frames_of_dose_lie_at_their_offsets(here):
    dataset = enhanced("x.dcm")
    del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    dataset.ImagePositionPatient = START.tolist()
    dataset.ImageOrientationPatient = [float(f"{v:.6f}") for v in TURNED[:, :2].T.ravel()]
    dataset.PixelSpacing = [2, 1.5]
    dataset.GridFrameOffsetVector = [2.5 * at for at in range(SHAPE[0])]
    dataset.save_as("x.dcm", enforce_file_format=True)
    image = read_image("x.dcm")
    assert np.array_equal(image.array, VALUES)
    np.testing.assert_allclose(image.grid.spacing, (1.5, 2, 2.5), rtol=1e-5)
    np.testing.assert_allclose(image.grid.origin, START, atol=1e-4)


def test_a_cut_file_is_truncated(here):
    enhanced("x.dcm")
    content = Path("x.dcm").read_bytes()
    for kept in (len(content) - 1, len(content) - 300, len(content) // 2, 400):
        Path("x.dcm").write_bytes(content[:kept])
        refuses("x.dcm", "truncated|damaged|holds no image|has no usable")


def test_an_object_without_pixels_is_refused(here):
    dataset = enhanced("x.dcm")
    del dataset.PixelData
    dataset.save_as("x.dcm", enforce_file_format=True)
    refuses("x.dcm", r"holds no image \(it has no PixelData\)")


def test_one_frame_without_geometry_is_read_with_a_warning(here):
    dataset = enhanced("x.dcm")
    plain = item(
        SOPClassUID=dataset.SOPClassUID,
        SOPInstanceUID=dataset.SOPInstanceUID,
        Rows=SHAPE[1],
        Columns=SHAPE[2],
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=1,
        PixelData=VALUES[2].tobytes(),
    )
    plain.file_meta = dataset.file_meta
    plain.save_as("one.dcm", enforce_file_format=True)
    with pytest.warns(ImageWarning) as caught:
        image = read_image("one.dcm")
    assert any("no PixelSpacing (0028,0030); 1 mm" in str(w.message) for w in caught)
    assert np.array_equal(image.array, VALUES[2:3])
