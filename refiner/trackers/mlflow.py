"""MLflow: a run of an experiment, in the store of ``MLFLOW_TRACKING_URI``."""

import os
import re
from collections.abc import Mapping
from typing import Any

from refiner.trackers.base import BaseTracker, Figures, needed

_MOST_PARAMS, _LONGEST = 100, 500
"""What MLflow takes in one call, and characters that every version takes in a value."""


class MLflow(BaseTracker):
    """Logs to a run of MLflow; a run of the caller's own stays the active one.

    A run that goes on logs to a second one of the same name.

    Args:
        name: of the run.
        experiment: that it belongs to; by default ``MLFLOW_EXPERIMENT_NAME``, else refiner.
        interval: seconds between two figures of how far a phase is.

    Raises:
        ConfigError: mlflow is not installed.
    """

    title = "MLflow"

    def __init__(
        self, name: str | None = None, *, experiment: str | None = None, interval: float = 10.0
    ) -> None:
        super().__init__(interval)
        self.name = name
        self.experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "refiner")
        self._module: Any = needed("mlflow", "mlflow")
        self._client: Any = None
        self._run = ""

    def _begin(self, settings: Mapping[str, str]) -> None:
        self._client = client = self._module.MlflowClient()
        found = client.get_experiment_by_name(self.experiment)
        number = found.experiment_id if found else client.create_experiment(self.experiment)
        self._run = client.create_run(number, run_name=self.name).info.run_id
        param = self._module.entities.Param
        params = [param(_allowed(name), value[:_LONGEST]) for name, value in settings.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            client.log_batch(self._run, params=params[first : first + _MOST_PARAMS])

    def _log(self, group: str, step: int, values: Figures) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, _allowed(f"{group}/{name}"), value, step=step)

    def _result(self, values: Figures) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, _allowed(name), value)

    def _end(self, finished: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if finished else "FAILED")


def _allowed(name: str) -> str:
    """Return a name without the characters that MLflow refuses."""
    return re.sub(r"[^\w\-. /]", "_", name)
