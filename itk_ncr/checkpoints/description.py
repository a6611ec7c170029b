"""Description of a trained model: everything but its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from itk_ncr.errors import ArgumentError, GeometryError
from itk_ncr.geometry import direction_of

# Half of them at the finest level. On six slices of validation subjects, Jaccard with and without
# lesions: a network alone .417 and .435, after 60 .478 and .496, after 120 .477 and .499; the
# solver alone .479 and .494.
DEFAULT_REFINEMENT = 60
# Far above any useful value, and harmless.
MOST_ITERATIONS, LARGEST_SIZE = 1_000_000, 1_000_000
KINDS: dict[str, type] = {
    **dict.fromkeys(("name", "network", "contrast", "preset", "variant", "limits"), str),
    **dict.fromkeys(("network_settings", "training", "figures", "licence"), dict),
}

PRINTED = ("name", "network", "contrast", "preset", "variant")


@dataclass(frozen=True)
class ModelDescription:
    """A trained model in words and numbers; every value is plain JSON.

    Attributes
    ----------
    name : str
        By which it is chosen.
    network : str
        Row of ``NETWORKS``.
    network_settings : dict
        ``build_network(network, **network_settings)`` rebuilds it.
    dimension : int
        2 or 3.
    contrast : str
        What it was trained on: "brain-t1", "oct", or a word of yours.
    preset : str
        Row of ``SOLVER_PRESETS`` for the refinement.
    refine : int
        Iterations of the refinement unless the caller says otherwise: what served best on images
        to validate with.
    spacing_mm : tuple of float, in array order, or None
        Voxel size it was trained at: (z, y, x) or (y, x). None: on pictures whose voxels have no
        physical size; then images are brought to the longest side of ``size``.
    orientation : str or None
        How the arrays of training were stored: one letter for each index i, j(, k) (so in the
        reverse of array order), the side towards which the index grows. "LPS" and "LP" are an
        identity direction in ITK, which pictures have. None (2D models of earlier versions): not
        recorded; images are turned to an identity direction.
    size : tuple of int, in array order
        Typical training grid.
    variant : str
        "ncr-u", "regnet", ...
    training : dict
        Recipe (the command), seed, steps, wall_seconds, data_hash, code_version.
    figures : dict
        Measured on held-out data.
    licence : dict
        Of the weights and of the data they were trained on.
    limits : str
        What it must not be used for, or is known to do badly.
    """

    name: str
    network: str
    network_settings: dict[str, Any]
    dimension: int
    contrast: str
    preset: str
    spacing_mm: tuple[float, ...] | None
    orientation: str | None
    size: tuple[int, ...]
    variant: str
    training: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    licence: dict[str, Any] = field(default_factory=dict)
    limits: str = ""
    refine: int = DEFAULT_REFINEMENT

    def __post_init__(self) -> None:
        for name, kind in KINDS.items():
            if not isinstance(getattr(self, name), kind):
                what = "a text" if kind is str else "an object of names and values"
                raise ArgumentError(f"{name} must be {what}; got {_shown(getattr(self, name))}.")
        for name in PRINTED:
            if not getattr(self, name).isprintable():
                raise ArgumentError(
                    f"{name} must be one line of printable characters; got "
                    f"{_shown(getattr(self, name))}."
                )
        if not _is_whole(self.dimension) or self.dimension not in (2, 3):
            raise ArgumentError(f"dimension must be 2 or 3; got {_shown(self.dimension)}.")
        if self.spacing_mm is not None:
            object.__setattr__(self, "spacing_mm", self._spacing())
        if not _is_whole(self.refine) or not 0 <= self.refine <= MOST_ITERATIONS:
            raise ArgumentError(f"refine must be a whole number >= 0; got {_shown(self.refine)}.")
        if (
            not isinstance(self.size, Sequence)
            or len(self.size) != self.dimension
            or not all(_is_whole(n) and 1 <= n <= LARGEST_SIZE for n in self.size)
        ):
            raise ArgumentError(
                f"size must be {self.dimension} positive whole numbers in array order; got "
                f"{_shown(self.size)}."
            )
        object.__setattr__(self, "size", tuple(self.size))
        if not self._names_every_axis():
            examples = {2: "'LP' or 'RA'", 3: "'LPS' or 'RAS'"}[self.dimension]
            raise ArgumentError(
                f"orientation must name a side for each of {self.dimension} axes, such as "
                f"{examples}; got {self.orientation!r}."
            )

    def _spacing(self) -> tuple[float, ...]:
        given = self.spacing_mm
        if (
            not isinstance(given, Sequence)
            or len(given) != self.dimension
            or not all(isinstance(s, int | float) and 0 < s < float("inf") for s in given)
        ):
            raise ArgumentError(
                f"spacing_mm must be {self.dimension} positive numbers in array order, or None; "
                f"got {_shown(given)}."
            )
        return tuple(float(s) for s in given)

    def _names_every_axis(self) -> bool:
        """Whether the orientation fits the dimension; 2D models of earlier versions have none."""
        if self.orientation is None:
            return self.dimension == 2
        if not isinstance(self.orientation, str):
            return False
        try:
            return len(direction_of(self.orientation)) == self.dimension
        except GeometryError:
            return False

    def as_dict(self) -> dict[str, Any]:
        """The description as plain JSON values."""
        values = dataclasses.asdict(self)
        spacing = None if self.spacing_mm is None else list(self.spacing_mm)
        return values | {"spacing_mm": spacing, "size": list(self.size)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelDescription:
        """Read the description that :meth:`as_dict` returns.

        Parameters
        ----------
        values : mapping
            Every field by name; those with a default may be missing.

        Returns
        -------
        ModelDescription
            The description, checked.

        Raises
        ------
        ArgumentError
            If an entry is missing, unknown, or out of its range.
        """
        if not isinstance(values, Mapping):
            raise ArgumentError(
                f"description of a model must be an object of names and values; got "
                f"{_shown(values)}."
            )
        known = {entry.name for entry in dataclasses.fields(cls)}
        needed = {
            entry.name
            for entry in dataclasses.fields(cls)
            if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        }
        wrong = sorted(set(values) - known) + sorted(needed - set(values))
        if wrong:
            raise ArgumentError(
                f"description of a model must have the entries {', '.join(sorted(known))}; "
                f"unknown or missing: {', '.join(wrong)}."
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ArgumentError(f"description of a model must be right; {error}.") from error


def _is_whole(value: object) -> bool:
    """Whether a value is an int of any kind, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """A value in a message, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def model_card(description: ModelDescription, sha256: str) -> str:
    """The model card: the description as Markdown.

    Parameters
    ----------
    description : ModelDescription
        The model.
    sha256 : str
        Checksum of its weights.

    Returns
    -------
    str
        Markdown text.
    """
    d = description
    grid = " x ".join(map(str, d.size))
    spacing = "no physical size"
    if d.spacing_mm is not None:
        spacing = " x ".join(f"{s:g}" for s in d.spacing_mm) + " mm (array order)"
    lines = [
        f"# {d.name}",
        "",
        f"{d.variant} ({d.network}), {d.dimension}D, {d.contrast}. Trained on grids of {grid} "
        f"voxels of {spacing}" + (f", orientation {d.orientation}." if d.orientation else "."),
        "",
        f"Refined by {d.refine} iterations of the solver preset `{d.preset}`. "
        f"SHA-256 of the weights: `{sha256}`.",
        "",
    ]
    for title, entries in (
        ("Training", d.training),
        ("Figures on held-out data", d.figures),
        ("Licence", d.licence),
        ("Network", d.network_settings),
    ):
        if entries:
            lines += [f"## {title}", "", *_bullets(entries), ""]
    if d.limits:
        lines += ["## Limits", "", d.limits, ""]
    text = "\n".join([*lines, "For research use only.", ""])
    # Descriptions come from other people: none of theirs steers a terminal.
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _bullets(entries: Mapping[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in entries.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}- {key}:", *_bullets(value, indent + "  ")]
        else:
            lines.append(f"{indent}- {key}: {value}")
    return lines
