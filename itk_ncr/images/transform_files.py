"""Transform files, checked before ITK reads them.

ITK's readers take a cut text for the identity, read memory behind a cut .mat, and pass over numbers
that are too many. Texts and .mat are parsed here, HDF5 by a process of its own, for its library may
crash on damaged files; ITK then gets a new text of the numbers that were checked.
"""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from itk_ncr.geometry import AffineMap
from itk_ncr.images.formats import Refused
from itk_ncr.images.formats.content import opened, read_array
from itk_ncr.images.locales import numeric_locale

TEXTS, BINARIES, HDF5 = (".tfm", ".txt"), (".mat",), (".h5", ".hdf5", ".hdf")
READABLE = (*TEXTS, *BINARIES, *HDF5, ".xfm")
# Name without dimension and precision, dimension -> number of parameters and of fixed parameters.
COUNTS: dict[tuple[str, int], tuple[int, tuple[int, ...]]] = {
    ("AffineTransform", 2): (6, (2,)),
    ("AffineTransform", 3): (12, (3,)),
    ("MatrixOffsetTransformBase", 2): (6, (2,)),
    ("MatrixOffsetTransformBase", 3): (12, (3,)),
    ("TranslationTransform", 2): (2, (0,)),
    ("TranslationTransform", 3): (3, (0,)),
    ("IdentityTransform", 2): (0, (0,)),
    ("IdentityTransform", 3): (0, (0,)),
    ("ScaleTransform", 2): (2, (2,)),
    ("ScaleTransform", 3): (3, (3,)),
    ("ScaleLogarithmicTransform", 3): (3, (3,)),
    ("Euler2DTransform", 2): (3, (2,)),
    ("Rigid2DTransform", 2): (3, (2,)),
    ("CenteredRigid2DTransform", 2): (5, (2,)),
    ("Similarity2DTransform", 2): (4, (2,)),
    ("Euler3DTransform", 3): (6, (3, 4)),  # the fourth tells the order of the angles
    ("VersorTransform", 3): (3, (3,)),
    ("VersorRigid3DTransform", 3): (6, (3,)),
    ("QuaternionRigidTransform", 3): (7, (3,)),
    ("Similarity3DTransform", 3): (7, (3,)),
    ("ScaleVersor3DTransform", 3): (9, (3,)),
    ("ScaleSkewVersor3DTransform", 3): (15, (3,)),
    ("ComposeScaleSkewVersor3DTransform", 3): (12, (3,)),
}
# Their first three parameters are the vector part of a unit quaternion.
VERSORS = ("Versor", "Similarity3D", "ScaleVersor3D", "ScaleSkewVersor3D", "ComposeScaleSkewVersor")
CURVED = ("DisplacementField", "BSpline", "Spline", "VelocityField")
COMPOSITE = "CompositeTransform"
TEXT_LIMIT = 2**20  # of a linear transform and its comments
MATLAB_LIMIT = 2**16
HDF5_SECONDS = 60
# Of processor time and memory, beyond what reading the file's bytes takes.
HDF5_CPU_SECONDS, HDF5_BYTES = 10, 200 * 2**20
BYTES_PER_SECOND, BYTES_PER_BYTE = 20e6, 10
# Prints the parts of a file. ITK keeps numbers that are too many; SimpleITK gives kinds that it
# does not know as composites. There are no limits on Windows, and none of memory on macOS.
HDF5_READER = r"""
import json, re, sys
sys.path[:] = json.loads(sys.argv[1])
import SimpleITK as sitk
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[3]),) * 2)
    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[4]),) * 2)
except (ImportError, OSError, ValueError):
    pass
transform = sitk.ReadTransform(sys.argv[2])
parts = [transform]
if transform.GetName() == "CompositeTransform":
    composite = sitk.CompositeTransform(transform)
    composite.FlattenTransform()
    parts += [composite.GetNthTransform(n) for n in range(composite.GetNumberOfTransforms())]
found = [["CompositeTransform", None, None]] if len(parts) > 1 else []
for part in parts[1:] or parts:
    names = re.findall(r"typeinfo: +itk::(\w+)<", str(part))
    name = next((name for name in names if name != "CompositeTransform"), "CompositeTransform")
    kind = "_".join([name, "double", *[str(part.GetDimension())] * 2])
    both = (part.GetParameters(), part.GetFixedParameters()) if part.IsLinear() else (None, None)
    found.append([kind, *both])
print(json.dumps(found))
"""
MANY = "transforms without a CompositeTransform before them; keep the one to use"
SURPLUS = "more than one transform"  # SimpleITK warns, and takes the first


@dataclass
class Part:
    """One transform of a file, as it is written there."""

    kind: str = ""
    parameters: list[float] | None = None
    fixed: list[float] | None = None


def read_linear(path: Path) -> AffineMap:
    """The map of a file that holds one linear transform, or a composite of some.

    Raises
    ------
    Refused
        If the file is damaged, incomplete, contradicts itself or is not linear.
    GeometryError
        If its map cannot be inverted or is not finite.
    """
    suffix = path.suffix.lower()
    with opened(path) as (file, length):
        if suffix not in READABLE:
            raise Refused(f"its name must end in one of {', '.join(READABLE)}")
        limit = MATLAB_LIMIT if suffix in BINARIES else TEXT_LIMIT
        content = read_array(file, 0, min(length, limit + 1)).tobytes()
    if suffix in HDF5:
        return _of_parts(_of_hdf5(path, content, length))
    if len(content) > limit:
        if any(word.encode() in content for word in CURVED):
            raise Refused("its transform is not affine")
        raise Refused(f"is not a linear transform: it has {length} bytes")
    if suffix == ".xfm":
        return _of_minc(content)
    parts = _of_text(content) if suffix in TEXTS else _of_matlab(content)
    return _of_parts(parts)


def _lines(content: bytes) -> list[str]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Refused(f"damaged: line {line} is not text (byte {error.start})") from None
    if "\0" in text:
        raise Refused("damaged: it holds null bytes")
    return text.replace("\r\n", "\n").split("\n")


def _of_text(content: bytes) -> list[Part]:
    """The transforms of a text file of ITK, each with all its lines."""
    if not content.startswith(b"#Insight Transform File V"):
        raise Refused("not a transform file of ITK, or damaged (its first line is another)")
    lines = _lines(content)
    if lines.pop():
        raise Refused(
            "truncated (its last line has no end). If it is complete, add a line break there"
        )
    parts: list[Part] = []
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        key, colon, value = line.partition(":")
        key = key.strip()
        if not colon or key not in ("Transform", "Parameters", "FixedParameters"):
            raise Refused(f"not a transform file of ITK, or damaged (line {number}: {line[:40]!r})")
        if key == "Transform":
            parts.append(Part(kind=value.strip()))
            continue
        if not parts:
            raise Refused(f"damaged: line {number} has {key} of no transform")
        name = "parameters" if key == "Parameters" else "fixed"
        if getattr(parts[-1], name) is not None:
            raise Refused(f"damaged: line {number} has {key} for a second time")
        setattr(parts[-1], name, _words(value, key))
    if not parts:
        raise Refused("truncated (it holds no transform)")
    return parts


def _words(text: str, what: str) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        raise Refused(f"its {what} are not all numbers ({text.strip()[:60]!r})") from None


def _of_matlab(content: bytes) -> list[Part]:
    """The vectors of a MATLAB file of version 4: parameters by the transform's name, then fixed."""
    _refuse_text_matrix(content)
    parts: list[Part] = []
    at = 0
    while at < len(content):
        name, values, at = _matlab_vector(content, at)
        if not name.startswith("fixed"):
            parts.append(Part(kind=name, parameters=values))
        elif not parts or parts[-1].fixed is not None:
            raise Refused("damaged: it has fixed parameters of no transform")
        else:
            parts[-1].fixed = values
    return parts


def _refuse_text_matrix(content: bytes) -> None:
    """Refuse a matrix as text: its axes and its direction are unknown."""
    try:
        numbers = [float(word) for word in content.decode("ascii").split()]
    except ValueError:
        return
    if len(numbers) == 16:
        raise Refused(
            "not a transform file of ITK but a 4 x 4 matrix as text. Of greedy or c3d: "
            "`c3d_affine_tool FILE -oitk affine.txt`; of FSL's FLIRT: `c3d_affine_tool -ref FIXED "
            "-src MOVING FILE -fsl2ras -oitk affine.txt`"
        )


def _matlab_vector(content: bytes, at: int) -> tuple[str, list[float], int]:
    """Name and values of the vector that starts at a byte, and where it ends."""
    if at + 20 > len(content):
        raise Refused(f"truncated (it ends after {len(content)} bytes, within a header)")
    order = "<"
    code, *_ = struct.unpack_from("<i", content, at)
    if not 0 <= code < 5000:
        order = ">"
    code, rows, columns, imaginary, letters = struct.unpack_from(order + "5i", content, at)
    single = code % 100 == 10
    if code % 1000 not in (0, 10, 100, 110) or (code >= 1000) != (order == ">"):
        raise Refused("not a transform file of ITK (no vectors of MATLAB 4)")
    if min(rows, columns) != 1 and rows * columns != 0:
        raise Refused("not a transform file of ITK (it holds no vectors)")
    count = rows * columns
    if imaginary or not 1 <= letters <= 256 or not 0 <= count <= 4096:
        raise Refused("not a transform file of ITK, or damaged")
    begin = at + 20 + letters
    end = begin + count * (4 if single else 8)
    if end > len(content):
        raise Refused(f"truncated (header needs {end} bytes, file has {len(content)})")
    name = content[at + 20 : begin].rstrip(b"\0").decode("latin-1")
    values = np.frombuffer(content, order + ("f4" if single else "f8"), count, begin)
    return name, [float(value) for value in values], end


def _of_parts(parts: list[Part]) -> AffineMap:
    """The map of parsed transforms, computed by ITK from a text of their numbers."""
    composite = parts[0].kind.startswith(COMPOSITE) and len(parts) > 1
    if len(parts) > 1 and not composite:
        raise Refused(f"holds {len(parts)} {MANY}")
    maps = [_of_part(part) for part in (parts[1:] if composite else parts)]
    if len({one.dimension for one in maps}) > 1:
        raise Refused("its transforms are of different dimensions")
    whole = maps[0]
    for inner in maps[1:]:  # ITK applies the last one first
        whole = whole.compose(inner)
    return whole


def _of_part(part: Part) -> AffineMap:
    found = re.fullmatch(r"(\w+?)_(double|float)_([23])_([23])", part.kind)
    if found is None or found[3] != found[4]:
        raise Refused(f"its transform is unknown ({part.kind[:60]!r})")
    name, dimension = found[1], int(found[3])
    if any(word in name for word in CURVED):
        raise Refused(f"its transform is not affine ({name})")
    if (name, dimension) not in COUNTS:
        raise Refused(f"its transform is unknown ({part.kind[:60]!r})")
    needed, fixed_needed = COUNTS[name, dimension]
    for values, word, counts in (
        (part.parameters, "Parameters", (needed,)),
        (part.fixed, "FixedParameters", fixed_needed),
    ):
        if values is None:
            raise Refused(f"truncated (the {word} of its {name} are missing)")
        if len(values) not in counts:
            wanted = " or ".join(map(str, counts))
            raise Refused(f"its {name} has {len(values)} {word}; it must have {wanted}")
        if not np.isfinite(values).all():
            raise Refused(f"its {word} are not all finite")
    parameters, fixed = part.parameters or [], part.fixed or []
    if name.startswith(VERSORS) and np.linalg.norm(parameters[:3]) > 1 + 1e-6:
        raise Refused(f"its {name} holds no rotation (a versor longer than 1)")
    lines = [
        "#Insight Transform File V1.0",
        "#Transform 0",
        f"Transform: {name}_double_{dimension}_{dimension}",
        "Parameters: " + " ".join(map(repr, parameters)),
        "FixedParameters: " + " ".join(map(repr, fixed)),
        "",
    ]
    return _by_itk("\n".join(lines), ".tfm")


def _of_minc(content: bytes) -> AffineMap:
    """The one linear transform of a MINC file."""
    if not content.startswith(b"MNI Transform File"):
        raise Refused("not a transform file of MINC (its first line is another)")
    lines = [line for line in _lines(content)[1:] if not line.lstrip().startswith("%")]
    fields = [field.partition("=") for field in "\n".join(lines).split(";")]
    if fields.pop()[0].strip():
        raise Refused("truncated (its last field has no semicolon)")
    known = [(key.strip(), value.strip()) for key, _, value in fields]
    if [key for key, _ in known] != ["Transform_Type", "Linear_Transform"] or (
        known[0][1] != "Linear"
    ):
        raise Refused("its transform is not a single linear one, or damaged")
    numbers = _words(known[1][1], "numbers")
    if len(numbers) != 12 or not np.isfinite(numbers).all():
        raise Refused(f"its Linear_Transform has {len(numbers)} numbers; it must have 12, finite")
    rows = [" ".join(map(repr, numbers[4 * row : 4 * row + 4])) for row in range(3)]
    text = "\n".join(["MNI Transform File", "", "Transform_Type = Linear;", "Linear_Transform ="])
    return _by_itk(text + "\n" + "\n".join(rows) + ";\n", ".xfm")


def _by_itk(text: str, suffix: str) -> AffineMap:
    """The map that ITK makes of a text."""
    import SimpleITK as sitk

    with tempfile.TemporaryDirectory(prefix="itk_ncr-") as folder, numeric_locale():
        file = Path(folder) / f"transform{suffix}"
        file.write_text(text, encoding="ascii")
        try:
            transform = sitk.ReadTransform(str(file))
        except RuntimeError:
            raise Refused("not a transform that ITK can read") from None
    dimension = transform.GetDimension()
    corners = [[0.0] * dimension, *np.eye(dimension).tolist()]
    places = np.array([transform.TransformPoint(corner) for corner in corners])
    return AffineMap(tuple(map(tuple, (places[1:] - places[0]).T)), tuple(places[0]))


def _of_hdf5(path: Path, start: bytes, length: int) -> list[Part]:
    """The transforms of a file of HDF5, a composite's after itself."""
    if not start.startswith(b"\x89HDF\r\n\x1a\n"):
        raise Refused("is not an HDF5 file (its magic is missing)")
    seconds = HDF5_CPU_SECONDS + int(length / BYTES_PER_SECOND)
    command = [sys.executable, "-I", "-c", HDF5_READER, json.dumps(sys.path), str(path.absolute())]
    command += [str(seconds), str(HDF5_BYTES + BYTES_PER_BYTE * length)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=HDF5_SECONDS, check=False)
        found = json.loads(done.stdout.decode().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        raise Refused("not a transform file of ITK, or damaged") from None
    if SURPLUS in done.stderr.decode(errors="replace"):
        raise Refused(f"holds several {MANY}")
    return [Part(*part) for part in found]
