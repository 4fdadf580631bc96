"""The files of a result: the refined model, its architecture and its report."""

from dataclasses import replace

from safetensors.torch import save_model
from torch import nn

from refiner.core.errors import ModelError
from refiner.core.files import new_partial, put_in_place
from refiner.core.inputs import ExampleInput
from refiner.exports.exporting import export
from refiner.runs.report import Report
from refiner.runs.run_folder import RunFolder
from refiner.space.architecture import Architecture


def write_result(
    folder: RunFolder,
    *,
    model: nn.Module,
    architecture: Architecture,
    report: Report,
    example_input: ExampleInput,
) -> None:
    """Write a refined model, its architecture and its report into a run's folder.

    A model that TorchScript cannot hold is written without ``refined.ts``, and a note says why.
    """
    folder.write_text("architecture.json", architecture.to_json())
    partial = new_partial(folder.path / "refined.safetensors")
    save_model(model, str(partial))
    put_in_place(partial, folder.path / "refined.safetensors")
    try:
        note = f"refined.ts: {export(model, folder.path / 'refined.ts', example_input)}"
    except (ModelError, OSError) as error:  # the other files of a long run are worth keeping
        note = f"refined.ts is missing: {error}"
    report = replace(report, notes=(*report.notes, note))
    folder.write_text("report.md", report.to_markdown())
    folder.write_json("report.json", report.to_json())  # the last: with it, a run is finished
