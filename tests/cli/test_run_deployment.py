import json

import pytest
import torch
from models import TinyResNet, images
from refiner.cli.finished import _EXPORTS
from refiner.cli.run_deployment import check_onnx, deployment_of, onnx_deployment

import refiner
from refiner.core.errors import ModelError, RunError
from refiner.exports.writers import FORMATS
from refiner.runs.run_folder import RunFolder
from refiner.runtimes import choice


def run_in(folder, **settings) -> RunFolder:
    (folder / "config.json").write_text(json.dumps({"settings": settings}))
    return RunFolder(folder)


def checked(run, file, model, x) -> str:
    return check_onnx(*onnx_deployment(run, x), file, model, x)


def test_a_deployment_is_read_from_the_settings(tmp_path) -> None:
    run, x = RunFolder(tmp_path), images(1)
    kept = {"runtime": "openvino", "threads": 1, "latency_batch": 3}
    where, notes = deployment_of(run, kept, x)
    assert (where.runtime.name, where.threads, len(where.batch)) == ("openvino", 1, 3)
    assert notes == []
    assert deployment_of(run, {"budget": []}, x)[0].runtime.name == "eager"
    for wrong in ({"runtime": "tflite"}, {"threads": 0}, {"latency_batch": "2"}):
        with pytest.raises(RunError, match="damaged config"):
            deployment_of(run, wrong, x)


def test_an_onnx_file_is_compared_in_the_runtime_of_its_run(tmp_path, monkeypatch) -> None:
    torch.manual_seed(0)
    model, x, file = TinyResNet().eval(), images(2), tmp_path / "refined.onnx"
    refiner.export(model, file, x, "onnx")
    assert checked(run_in(tmp_path, runtime="onnxruntime"), file, model, x) == ""
    run = run_in(tmp_path, runtime="openvino")
    said = checked(run, file, model, x)
    assert said.startswith("in openvino 2")
    assert "any batch size" in said
    (tmp_path / "config.json").write_text('{"settings": [1]}')
    with pytest.raises(RunError, match="settings are"):
        checked(RunFolder(tmp_path), file, model, x)
    run = run_in(tmp_path, runtime="openvino")
    with pytest.raises(ModelError, match="gives other outputs in openvino than the model"):
        checked(run, file, TinyResNet().eval(), x)
    monkeypatch.setitem(choice._PACKAGES, "openvino", "not_there")
    assert "not checked in the run's runtime" in checked(run, file, model, x)


def test_each_export_format_has_a_file_in_the_run_s_folder() -> None:
    assert set(_EXPORTS) == set(FORMATS)
