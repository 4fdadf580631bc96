"""The files of a result: the refined model, its architecture and its report."""

import contextlib
from dataclasses import replace

from safetensors.torch import save_model
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.files import new_partial, put_in_place
from refiner.core.inputs import ExampleInput
from refiner.core.preprocessing import preprocessing_of
from refiner.exports.embedded import metadata
from refiner.exports.exporting import export
from refiner.graph.tracing import trace_model
from refiner.runs.drawing import network_drawing
from refiner.runs.html_files import DRAWING
from refiner.runs.html_page import write_page
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder
from refiner.space.architecture import Architecture
from refiner.space.search_space import SearchSpace


def write_result(
    folder: RunFolder,
    *,
    original: nn.Module,
    space: SearchSpace,
    model: nn.Module,
    architecture: Architecture,
    report: Report,
    example_input: ExampleInput,
) -> None:
    """Write a refined model, its architecture and its report into a run's folder.

    The page shows a drawing of the original with its slots. A model that TorchScript cannot hold is
    written without ``refined.ts``, and a note says why.
    """
    folder.write_text("architecture.json", architecture.to_json())
    partial = new_partial(folder.path / "refined.safetensors")
    prepared = preprocessing_of(architecture.model)
    save_model(model, str(partial), metadata=metadata(prepared))
    put_in_place(partial, folder.path / "refined.safetensors")
    try:
        file = folder.path / "refined.ts"
        note = f"refined.ts: {export(model, file, example_input, preprocessing=prepared)}"
    except (ModelError, OSError) as error:  # the other files of a long run are worth keeping
        note = f"refined.ts is missing: {error}"
    report = replace(report, notes=(*report.notes, note))
    with contextlib.suppress(ModelError):
        graph = trace_model(original, example_input).graph_module
        folder.write_json(DRAWING, network_drawing(graph, space).to_json())
    folder.write_text("report.md", report.to_markdown())
    write_page(folder, report)
    folder.write_json("report.json", report.to_json())  # the last: with it, a run is finished
