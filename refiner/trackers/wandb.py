"""Weights & Biases: a run of a project, on its server or offline."""

import os
from collections.abc import Mapping
from typing import Any

from refiner.trackers.base import BaseTracker, Figures, needed


class WandB(BaseTracker):
    """Logs to a run of Weights & Biases.

    With ``WANDB_MODE=offline`` nothing leaves the machine until ``wandb sync``. A run that goes on
    logs to a second one of the same name.

    Args:
        name: of the run.
        project: that it belongs to; by default ``WANDB_PROJECT``, else refiner.
        interval: seconds between two figures of how far a phase is.

    Raises:
        ConfigError: wandb is not installed.
    """

    title = "Weights & Biases"

    def __init__(
        self, name: str | None = None, *, project: str | None = None, interval: float = 10.0
    ) -> None:
        super().__init__(interval)
        self.name, self.project = name, project or os.environ.get("WANDB_PROJECT", "refiner")
        self._module: Any = needed("wandb", "wandb")
        self._run: Any = None
        self._groups: set[str] = set()

    def _begin(self, settings: Mapping[str, str]) -> None:
        self._groups = set()
        self._run = self._module.init(
            project=self.project,
            name=self.name,
            config=dict(settings),
            reinit="create_new",  # a run of the caller's own goes on
            settings=self._module.Settings(console="off"),  # the terminal stays the command's
        )

    def _log(self, group: str, step: int, values: Figures) -> None:
        if group not in self._groups:
            self._groups.add(group)
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/step")
        self._run.log({f"{group}/step": step, **{f"{group}/{k}": v for k, v in values.items()}})

    def _result(self, values: Figures) -> None:
        self._run.summary.update(dict(values))

    def _end(self, finished: bool) -> None:
        self._run.finish(exit_code=0 if finished else 1)
