"""OCT B-scans of virtual patients."""

from itk_ncr.data.phantoms.oct.anatomy import OctGrowth
from itk_ncr.data.phantoms.oct.source import OctPhantoms, surfaces

__all__ = ["OctGrowth", "OctPhantoms", "surfaces"]
