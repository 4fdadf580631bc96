"""The refit of networks before they are ranked, and whether it pays."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(slots=True)
class RankedRefit:
    """A refit that one architecture decides on: few training images may make networks worse by it.

    Searches that are compared share one.
    """

    fit: Callable[[nn.Module], object]
    """Fits a network to the original as a whole, in place."""
    pays: bool | None = None
    """Whether it brought the first network nearer to the original; None before it was tried."""
    forget: Callable[[], object] = lambda: None
    """Lets go what is kept from one network to the next."""
