"""Trackers by name."""

import difflib
from collections.abc import Callable, Sequence
from pathlib import Path

from refiner.core.errors import ConfigError
from refiner.trackers.base import BaseTracker
from refiner.trackers.mlflow import MLflow
from refiner.trackers.tensorboard import TensorBoard
from refiner.trackers.wandb import WandB

_MAKERS: dict[str, Callable[[Path], BaseTracker]] = {
    "tensorboard": lambda folder: TensorBoard(folder / "tensorboard"),
    "wandb": lambda folder: WandB(str(folder)),
    "mlflow": lambda folder: MLflow(str(folder)),
}
TRACKERS = tuple(_MAKERS)
"""Names of all trackers."""


def make_trackers(names: Sequence[str], folder: Path) -> list[BaseTracker]:
    """Return the trackers of a run.

    Args:
        names: of the trackers; a name that comes twice makes one.
        folder: of the run. It names the run, and holds the files of TensorBoard.

    Raises:
        ConfigError: an unknown name, or the package of a tracker is missing.
    """
    for name in names:
        if name not in TRACKERS:
            near = difflib.get_close_matches(name, TRACKERS, n=1)
            advice = f"Did you mean {near[0]}?" if near else f"Choose from: {', '.join(TRACKERS)}."
            raise ConfigError(f"there is no tracker {name!r}. {advice}")
    return [_MAKERS[name](folder) for name in dict.fromkeys(names)]
