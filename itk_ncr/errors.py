"""Errors by name: every error of the package derives from :class:`NCRError`."""


class NCRError(Exception):
    """Base of all errors raised by itk_ncr; its text is one line."""


class ArgumentError(NCRError, ValueError):
    """An argument is outside what its documentation allows."""


class InputError(NCRError, ValueError):
    """A file, folder or table that was named cannot be used; nothing has been written."""


class ShapeError(NCRError, ValueError):
    """Arrays or tensors do not fit each other."""


class GeometryError(NCRError, ValueError):
    """An image's origin, spacing or direction is unusable, or two images do not overlap."""


class ImageValueError(NCRError, ValueError):
    """The voxels of an image cannot be registered (none finite, all equal, empty mask)."""


class ImageReadError(NCRError, OSError):
    """A file cannot be read, or reading it would give a silently wrong image."""


class ImageWriteError(NCRError, OSError):
    """A file cannot be written; nothing partial is left behind."""


class CheckpointError(NCRError, OSError):
    """Saved weights or a saved training state cannot be read, or are not what was written."""


class TrainingError(NCRError, RuntimeError):
    """A training cannot continue; its last state is saved."""


class MemoryLimitError(NCRError, MemoryError):
    """The work needs more memory than there is."""


class MissingDependencyError(NCRError, ImportError):
    """An optional package is needed and not installed."""


class RegistrationError(NCRError, RuntimeError):
    """A registration tool failed, or returned an invalid transform."""


class RegistrationAborted(NCRError, RuntimeError):
    """The caller's abort callback asked to stop."""


class WorkerError(NCRError, RuntimeError):
    """The processes that were to do the work do not start, or cannot be reached any more."""
