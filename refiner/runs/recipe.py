"""Settings of recipes. A recipe is one file with an experiment.

Its ``run(settings)`` calls the library and names every number.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from refiner.core.errors import ConfigError
from refiner.core.progress import Progress
from refiner.core.types import Provenance


class Scale:
    """Shrinks an experiment: fewer images and epochs, and networks of fewer channels.

    Images and epochs are proportional to the scale, channels to its square root. So at 0.1 a
    training costs about a thousandth. ``notes`` lists what was shrunk, for the report.

    Args:
        share: the scale, above 0 and at most 1.

    Raises:
        ConfigError: the scale is out of its range.
    """

    def __init__(self, share: float = 1.0) -> None:
        if not 0 < share <= 1:
            raise ConfigError(f"the scale is {share}. Give more than 0, and at most 1.")
        self.share = share
        self._shrunk: dict[str, str] = {}

    def count(self, what: str, full: int, least: int = 1) -> int:
        """Return the share of ``full`` images or epochs, at least ``least``."""
        return self._noted(what, full, min(full, max(least, round(full * self.share))))

    def width(self, what: str, full: int, *, step: int = 8, least: int = 8) -> int:
        """Return channels, or the side of an image: a multiple of ``step``, at least ``least``.

        At full scale it is ``full``.
        """
        if self.share == 1:
            return full
        used = step * round(full * self.share**0.5 / step)
        return self._noted(what, full, min(full, max(least, used)))

    @property
    def notes(self) -> tuple[str, ...]:
        """One line on what is smaller than in the experiment; empty at full scale."""
        if not self._shrunk:
            return ()
        listed = "; ".join(f"{what} {how}" for what, how in self._shrunk.items())
        return (
            f"scale {self.share:g} of the experiment, so its figures are not the paper's: {listed}",
        )

    def _noted(self, what: str, full: int, used: int) -> int:
        if used != full:
            self._shrunk[what] = f"{used:,} of {full:,}"
        return used


class Running(TypedDict):
    """Arguments that ``refine`` and ``train_architecture`` share."""

    seed: int
    device: str
    precision: str
    progress: bool | Progress
    provenance: Provenance | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSettings:
    """What the user of a recipe chooses."""

    out: Path
    """Folder of the run, or of the folders of several runs."""
    data: str | None = None
    """Data set, as for ``load_data``; None takes the recipe's own."""
    data_root: str = "data"
    scale: Scale = field(default_factory=Scale)
    pretrain: bool = True
    """Whether the shared weights are trained on random paths first: the paper's RP, else its R."""
    seed: int = 0
    device: str = "auto"
    precision: str = "no"
    resume: bool = False
    progress: bool | Progress = True
    provenance: Provenance | None = None

    def running(self) -> Running:
        """Return the arguments that ``refine`` and ``train_architecture`` share."""
        return {
            "seed": self.seed,
            "device": self.device,
            "precision": self.precision,
            "progress": self.progress,
            "provenance": self.provenance,
        }
