"""``refine benchmark`` and ``refine export --int8``, on a small run of the command."""

import json
from pathlib import Path

import pytest
from refiner.cli.app import main

NET = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def model():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )


def data():
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.arange(40) % 3), 10)
    return loader, loader


def few():
    loader, _ = data()
    return loader, loader
"""


@pytest.fixture
def run(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(NET)
    command = ["net.py:model", "--data", "net.py:data", "--epochs", "0", "--trials", "2"]
    command += ["--no-baselines", "--slots", "conv", "--device", "cpu", "--out", "run"]
    assert main([*command, "--candidates", "depthwise3x3"]) == 0
    return "run"


def test_a_run_is_benchmarked_beside_its_original(run, capsys) -> None:
    capsys.readouterr()
    command = ["benchmark", run, "--trust", "--runtime", "onnxruntime", "--threads", "1"]
    assert main([*command, "--latency-batch", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metric"] == "accuracy"
    assert all(row["hardware"].endswith("1 thread") for row in document["rows"])
    assert [row["network"] for row in document["rows"]] == ["original", "refined"]
    for row in document["rows"]:
        assert (row["format"], row["batch"]) == ("onnx", 2)
        assert row["samples_per_second"] > 0
        assert 0 <= row["score"] <= 1
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "batch 1" in shown
    assert "onnxruntime" in shown
    assert main(["benchmark", run]) == 2
    assert "asks to run code of its own" in capsys.readouterr().err


def test_a_model_is_benchmarked_and_wrong_options_are_named(run, capsys) -> None:
    capsys.readouterr()
    model = ["benchmark", "net.py:model", "--data", "net.py:data", "--device", "cpu"]
    assert main([*model, "--runtime", "onnxruntime", "--json"]) == 0
    assert [row["network"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["original"]
    for options, said in (
        (["--runtime", "tflite"], "unknown runtime 'tflite'"),
        (["--threads", "0"], "--threads is 0. Give 1 or more."),
        (["--latency-batch", "0"], "--latency-batch is 0. Give 1 or more."),
        (["--trust"], "go with a run's folder"),
    ):
        assert main([*model, *options]) == 2
        assert said in capsys.readouterr().err


def test_a_run_is_quantised_and_compared_with_float32(run, capsys) -> None:
    capsys.readouterr()
    assert main(["export", run, "--format", "onnx", "--int8", "--trust"]) == 0
    shown = capsys.readouterr().out
    assert "float32" in shown
    assert "int8" in shown
    assert Path("run/refined_int8.onnx").exists()
    assert main(["export", run, "--int8", "--trust"]) == 2
    assert "--int8 goes with --format onnx" in capsys.readouterr().err
    assert main(["export", run, "--data", "net.py:data", "--trust"]) == 2
    assert "--data goes with --int8" in capsys.readouterr().err
    again = ["export", run, "--format", "onnx", "--int8", "--to", "again.onnx"]
    assert main([*again, "--data", "net.py:few", "--model", "net.py:model"]) == 0
    assert Path("again.onnx").exists()
    assert main(["export", run, "--fold-norms", "--trust", "--to", "folded.ts"]) == 0
    assert "0 batch norms folded" in capsys.readouterr().out
