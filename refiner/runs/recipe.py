"""Recipes: an experiment in one file, whose ``run(settings)`` calls the library with every number named."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refiner.core.errors import ConfigError
from refiner.core.progress import Progress


class Scale:
    """Shrinks an experiment: a share of its images and epochs, and narrower networks.

    Images and epochs go with the scale, the width with its square root; so at 0.1 a training costs
    about a thousandth. What was shrunk stands in ``notes``, for the report.

    Raises:
        ConfigError: the scale is not above 0 and at most 1.
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

        At full scale that is ``full`` itself.
        """
        if self.share == 1:
            return full
        used = step * round(full * self.share**0.5 / step)
        return self._noted(what, full, min(full, max(least, used)))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is smaller than in the experiment, in one line; nothing at full scale."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeSettings:
    """What the user of a recipe chooses."""

    out: Path
    """Folder of the run or, where a recipe makes several, of their folders."""
    data: str | None = None
    """As for ``load_data``; None takes what the recipe names."""
    data_root: str = "data"
    scale: Scale = field(default_factory=Scale)
    pretrain: bool = True
    """Whether the shared weights are trained on random paths first: the paper's RP, else its R."""
    seed: int = 0
    device: str = "auto"
    precision: str = "no"
    resume: bool = False
    progress: bool | Progress = True
    provenance: Mapping[str, Any] | None = None

    def running(self) -> dict[str, Any]:
        """Return what ``refine`` and ``train_architecture`` are given alike."""
        return {
            "seed": self.seed,
            "device": self.device,
            "precision": self.precision,
            "progress": self.progress,
            "provenance": self.provenance,
        }
