"""The four named test lesions, and the masks excluded from training."""

from __future__ import annotations

from dataclasses import dataclass

from itk_ncr.data.phantoms.appearance import Appearance


@dataclass(frozen=True)
class NamedLesion:
    """A mask and how it is filled.

    Attributes
    ----------
    mask : str
        Name of the file, without suffix.
    appearance : Appearance
    volume_mm3, area_mm2 : float
        Size of the mask, and of its section at z = 2.5 mm: a random shape of that size stands in
        where the masks are not at hand.
    """

    mask: str
    appearance: Appearance
    volume_mm3: float
    area_mm2: float


# After the four of NCR-Net's evaluation (doi:10.1007/s11548-022-02577-4): L1 and L4 huge, L2 and L3
# small, L3 of low contrast. All cross the central slice of the brains, z = 2.5 mm.
NAMED_LESIONS: dict[str, NamedLesion] = {
    "L1": NamedLesion(
        "soop_543", Appearance(level=(0.6, 0.6), texture=0.12, texture_mm=2.5), 115_366, 2912
    ),
    "L2": NamedLesion("lesymap_001", Appearance(level=(0.3, 0.3), texture=0.1), 9_272, 294),
    "L3": NamedLesion("soop_930", Appearance(gain=(0.82, 0.82), texture=0.03), 9_936, 432),
    "L4": NamedLesion(
        "lesymap_087", Appearance(level=(0.32, 0.32), texture=0.1, rim_mm=(1.0, 1.0)), 109_631, 2542
    ),
}

# With them the masks that examples and samples show.
TEST_LESIONS: tuple[str, ...] = (
    *(lesion.mask for lesion in NAMED_LESIONS.values()),
    "lesymap_119",
    "soop_16",
    "soop_1297",
    "soop_1698",
)
