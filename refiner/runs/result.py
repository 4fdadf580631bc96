"""What ``refine`` returns: the refined model, its architecture and its report."""

import os
from dataclasses import dataclass

from torch import nn

from refiner.core.inputs import ExampleInput
from refiner.core.preprocessing import preprocessing_of
from refiner.exports.exporting import export
from refiner.runs import result_view
from refiner.runs.report import Report
from refiner.search.pareto import Point
from refiner.search.search import SearchResult
from refiner.space.architecture import Architecture


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """What a refinement returns; a notebook shows it as tables and a plot of the front."""

    model: nn.Module
    """The rewritten model with its weights, on the CPU in eval mode."""
    architecture: Architecture
    report: Report
    search: SearchResult | None
    """None where a given architecture was trained."""
    example_input: ExampleInput
    points: tuple[Point, ...] = ()
    """Every architecture scored on the whole validation part; the Pareto front is among them."""

    def export(self, path: str | os.PathLike[str], format: str = "torchscript") -> str:  # noqa: A002
        """Write the model to a file that needs no refiner; see :func:`refiner.export`."""
        prepared = preprocessing_of(self.architecture.model)
        return export(self.model, path, self.example_input, format, prepared)

    def __repr__(self) -> str:
        """Return a few lines: the model's class, the vector, and how MACs and scores changed."""
        return result_view.as_text(type(self.model).__name__, self.report)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: costs and scores, the vector and the Pareto front."""
        return result_view.as_html(type(self.model).__name__, self.report, self.points)
