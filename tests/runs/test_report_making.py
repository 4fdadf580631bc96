import pytest
from models import TinyResNet, images

import refiner
from refiner.core.errors import ModelError
from refiner.core.models import ModelSpec
from refiner.runs.report import Report
from refiner.runs.report_making import cost_report, origin_settings
from refiner.training.devices import Devices


def test_slots_add_up_to_the_whole(report: Report) -> None:
    saved = sum(s.before.macs - s.after.macs for s in report.slots)
    assert report.before.macs - report.after.macs == saved > 0
    assert report.slots[0].original == "conv3x3 4->4"
    assert report.slots[2].original == "conv3x3 4->8 /2"
    assert report.slots[3].operation == "maxpool3x3"


def test_a_rewrite_alone_has_costs() -> None:
    model, x = TinyResNet(), images()
    space = refiner.search_space(model, x)
    architecture = space.architecture((1, 2, 3, 0))
    rewritten = refiner.rewrite(model, architecture)
    devices = Devices.choose("cpu")
    report = cost_report(model, rewritten, space, architecture, x[:1], devices=devices)
    assert report.after == refiner.measure_cost(rewritten, x)
    names = [each.conditions.runtime.split()[0] for each in report.latencies]
    assert names == ["onnxruntime", "eager"]
    assert {each.conditions.batch for each in report.latencies} == {1}
    assert report.latency_predicted is None
    assert report.notes[0].startswith("latency measured in onnxruntime ")


def test_a_runtime_that_cannot_hold_the_model_is_a_note(monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise ModelError("ONNX cannot hold this model: it is odd.")

    monkeypatch.setattr("refiner.runtimes.onnx_runtime.OnnxRuntime.prepare_copies", fails)
    model, x = TinyResNet(), images(1)
    space = refiner.search_space(model, x)
    report = cost_report(
        model, model, space, space.architecture((0,) * 4), x, devices=Devices.choose("cpu")
    )
    assert [each.conditions.runtime.split()[0] for each in report.latencies] == ["eager"]
    assert report.notes[0] == ("no latency in onnxruntime: ONNX cannot hold this model: it is odd.")


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
def test_what_a_report_says_of_where_a_model_came_from(provenance, expected) -> None:
    assert origin_settings(TinyResNet(), provenance) == expected
