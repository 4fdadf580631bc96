"""Passes over a loader: how many batches one has, and one after the other without an end."""

from collections.abc import Iterator

from refiner.core.errors import DataError
from refiner.core.types import Batch, Loader


def length(loader: Loader) -> int:
    """Return the number of batches in a pass over ``loader``, at least 1.

    Raises:
        DataError: the loader has no length, or no batch.
    """
    try:
        count = len(loader)
    except TypeError as error:
        raise DataError(
            f"the loader of type {type(loader).__name__} has no len(). Give one that knows its "
            "number of batches."
        ) from error
    if count == 0:
        raise DataError(
            f"the loader of type {type(loader).__name__} gives no batch. Give it data, or a "
            "smaller batch size if it drops the last batch when that is not full."
        )
    return count


def endless(loader: Loader) -> Iterator[Batch]:
    """Yield batches pass after pass, each pass in an order of its own if the loader has any.

    Raises:
        DataError: the loader has no length, or no batch.
    """
    length(loader)
    while True:
        yield from loader
