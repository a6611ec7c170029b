"""The part of the Slicer module that runs without Slicer."""
