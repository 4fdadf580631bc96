"""The errors that a person is meant to read: what went wrong, where, and the next step."""

from refiner.core.printable import printable


class RefinerError(Exception):
    """Base of every error that refiner raises on purpose; its text is one line for the user."""


class ModelError(RefinerError):
    """The model cannot be built, run, traced or searched."""


class ArchitectureError(RefinerError):
    """A vector or an architecture file does not fit the model or the search space."""


class DataError(RefinerError):
    """A data set cannot be found, read, or fed to the model."""


class ConfigError(RefinerError):
    """A setting is out of its range, or two settings contradict each other."""


class TrainingError(RefinerError):
    """Training cannot go on, for example because the loss is not a number."""


class RunError(RefinerError):
    """A run's folder is missing, taken, incomplete or damaged."""


def one_line(error: BaseException, limit: int = 300) -> str:
    """Return ``error`` as one line of at most ``limit`` characters, its type's name in front."""
    text = " ".join(printable(str(error)).split()).rstrip(".")
    text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."
