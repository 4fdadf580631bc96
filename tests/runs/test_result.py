import json

import pytest
from models import TinyResNet, images

import refiner
from refiner.core.errors import ModelError
from refiner.core.models import ModelSpec
from refiner.runs.result import cost_report, origin_settings, write_result
from refiner.runs.run_folder import RunFolder
from refiner.training.devices import Devices

FILES = {"config.json", "architecture.json", "report.json", "report.md", "refined.ts",
         "refined.safetensors"}  # fmt: skip


def written(folder) -> None:
    model, x = TinyResNet(), images()
    space = refiner.search_space(model, x)
    architecture = space.architecture((1, 2, 3, 0))
    rewritten = refiner.rewrite(model, architecture)
    report = cost_report(
        model, rewritten, space, architecture, x[:1], devices=Devices.choose("cpu")
    )
    assert report.after == refiner.measure_cost(rewritten, x)
    assert report.latency_batch == 1
    assert report.latency_noise is not None
    assert report.latency_predicted is None
    write_result(
        RunFolder.create(folder, {}), model=rewritten, architecture=architecture, report=report,
        example_input=x,
    )  # fmt: skip


def test_a_rewrite_alone_has_costs_and_files(tmp_path) -> None:
    written(tmp_path / "run")
    assert {p.name for p in (tmp_path / "run").iterdir()} == FILES
    notes = json.loads((tmp_path / "run" / "report.json").read_text())["notes"]
    assert notes[0].startswith("latency measured on ")
    assert notes[1:] == ["refined.ts: TorchScript, made by script, any batch size"]


def test_a_model_that_cannot_be_exported_keeps_its_report(tmp_path, monkeypatch) -> None:
    from refiner.runs import result

    for trouble in (ModelError("TorchScript cannot hold this model"), OSError(28, "No space left")):

        def fail(*_args, trouble=trouble):
            raise trouble

        monkeypatch.setattr(result, "export", fail)
        folder = tmp_path / type(trouble).__name__
        written(folder)
        notes = json.loads((folder / "report.json").read_text())["notes"]
        assert notes[1:] == [f"refined.ts is missing: {trouble}"]


@pytest.mark.parametrize(
    ("provenance", "expected"),
    [
        (None, {"model": "TinyResNet"}),
        ({"command": "train.py --data x", "spec": "resnet18"}, {"model": "TinyResNet"}),
        ({"spec": {"layers": 18}, "command": {}}, {"model": "TinyResNet"}),
        (
            {
                "spec": ModelSpec(source="timm:resnet18", arguments={"drop_rate": 0.1}).to_json(),
                "command": {"data": "cifar10"},
            },
            {
                "model": "timm:resnet18(drop_rate=0.1)",
                "weights of the original": "drawn from the seed",
                "data": "cifar10",
            },
        ),
    ],
)
def test_what_is_told_of_where_a_model_came_from(provenance, expected) -> None:
    assert origin_settings(TinyResNet(), provenance) == expected
