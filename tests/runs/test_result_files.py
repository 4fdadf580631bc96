import json

import pytest
from models import TinyResNet, images

import refiner
from refiner.core.errors import ModelError
from refiner.runs import result_files
from refiner.runs.report import Report
from refiner.runs.result_files import write_result
from refiner.runs.run_folder import RunFolder

FILES = {"config.json", "architecture.json", "network.json", "report.json", "report.md", "report.html", "refined.ts",
         "refined.safetensors"}  # fmt: skip


def written(folder, report: Report) -> list[str]:
    model, x = TinyResNet(), images()
    space = refiner.search_space(model, x)
    architecture = space.architecture((1, 2, 3, 0))
    write_result(
        RunFolder.create(folder, {}), original=model, space=space, model=refiner.rewrite(model, architecture),
        architecture=architecture, report=report, example_input=x,
    )  # fmt: skip
    notes: list[str] = json.loads((folder / "report.json").read_text())["notes"]
    return notes


def test_the_files_of_a_rewrite(tmp_path, report: Report) -> None:
    notes = written(tmp_path / "run", report)
    assert {p.name for p in (tmp_path / "run").iterdir()} == FILES
    assert notes == ["a note", "refined.ts: TorchScript, made by script, any batch size"]


@pytest.mark.parametrize(
    "trouble", [ModelError("TorchScript cannot hold this model"), OSError(28, "No space left")]
)
def test_a_model_that_cannot_be_exported_keeps_its_report(
    tmp_path, monkeypatch, report: Report, trouble: Exception
) -> None:
    def fail(*_args, **_options):
        raise trouble

    monkeypatch.setattr(result_files, "export", fail)
    assert written(tmp_path / "run", report)[1:] == [f"refined.ts is missing: {trouble}"]
