"""TensorBoard: event files in a folder."""

import os
from collections.abc import Mapping
from typing import Any

from refiner.trackers.base import BaseTracker, Figures, needed


class TensorBoard(BaseTracker):
    """Writes event files, which ``tensorboard --logdir FOLDER`` shows.

    A run that goes on adds to them.

    Args:
        folder: of the files; it is made.
        interval: seconds between two figures of how far a phase is.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    title = "TensorBoard"

    def __init__(self, folder: str | os.PathLike[str], *, interval: float = 10.0) -> None:
        super().__init__(interval)
        self.folder = os.fspath(folder)
        self._module = needed("torch.utils.tensorboard", "tensorboard")
        self._writer: Any = None
        self._settings: dict[str, str] = {}

    def _begin(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)
        self._writer = self._module.SummaryWriter(self.folder)
        rows = "".join(f"| {name} | {value} |\n" for name, value in settings.items())
        self._writer.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}")

    def _log(self, group: str, step: int, values: Figures) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def _result(self, values: Figures) -> None:
        # The run's name is a folder below: a dot leaves the figures where the others are.
        self._writer.add_hparams(self._settings, dict(values), run_name=".")

    def _end(self, finished: bool) -> None:  # noqa: ARG002
        self._writer.close()
