"""A detector of torchvision from the command line: refined, evaluated and exported."""

import json
from pathlib import Path

import pytest
import torch
from refiner.cli.app import main
from refiner.cli.options import ModelAndData
from safetensors.torch import load_file
from small_detectors import shapes, small, write_coco

from refiner.core.torchvision_detectors import classes_of
from refiner.training.detection_task import Detection
from refiner.training.task import Classification, Regression

FILE = """
import torch
from torch import nn
from torch.utils.data import DataLoader

from small_detectors import collate, shapes, small


def net():
    return small("ssd")


def any_classes(num_classes):
    return small("ssd", num_classes)


def plain():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))


def pairs():
    return [(torch.rand(2, 3, 64, 64), torch.zeros(2).long())] * 2, [(torch.rand(2, 3, 64, 64), torch.zeros(2).long())]


def loaders():
    train = DataLoader(shapes(8), 4, shuffle=True, collate_fn=collate)
    return train, DataLoader(shapes(6, 1), 3, collate_fn=collate)
"""
DATA = ["--data", "own.py:loaders"]


@pytest.fixture
def run(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(FILE)
    torch.save(small("ssd").state_dict(), "trained.pt")
    return [
        "own.py:net", "--weights", "trained.pt", *DATA, "--budget", "macs=60%", "--trials", "4",
        "--no-baselines", "--refit-steps", "2", "--device", "cpu", "--only", "backbone",
        "--out", "run",
    ]  # fmt: skip


def test_a_detector_is_refined_exported_and_evaluated(run, capsys) -> None:
    assert main([*run, "--epochs", "1"]) == 0
    report = json.loads(Path("run/report.json").read_text())
    assert report["metric"] == "mAP50-95"
    assert report["after"]["macs"] <= 0.6 * report["before"]["macs"]
    assert report["top_k"][0][2] <= 0, "agreement: the weights are the teacher"
    assert "inputs 3x64x64 from" in capsys.readouterr().err
    scripted = torch.jit.load("run/refined.ts")
    with torch.no_grad():
        _, (found,) = scripted([torch.rand(3, 50, 70)])
    assert set(found) == {"boxes", "scores", "labels"}
    assert set(load_file("run/refined.safetensors")) != set(small("ssd").state_dict())
    assert main(["eval", "run", "--trust", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert "mAP50-95" in json.dumps(score)


def test_the_task_is_the_models_own_or_named(run) -> None:
    for model, task, expected in (
        ("own.py:net", "classification", Detection),
        ("own.py:net", "detection", Detection),
        ("own.py:net", "regression", Regression),
        ("own.py:plain", "classification", Classification),
        ("own.py:plain", "detection", Detection),
    ):
        chosen = ModelAndData(model=model, data="own.py:loaders", task=task).load()[3]
        assert type(chosen) is expected


def test_boxes_in_the_format_of_coco_decide_the_number_of_classes(run) -> None:
    for part in ("train", "valid"):
        write_coco(Path("scenes") / part, shapes(4))
    source = ModelAndData(model="own.py:any_classes", data="coco:scenes", batch_size=2)
    spec, model, data, task, _ = source.load()
    assert spec.classes == classes_of(model) == 3
    assert data.classes == ("background", "wide", "high")
    sums = sum(task.measure(model.eval(), batch) for batch in data.val)
    assert 0 <= task.score(sums) <= 1


def test_a_detector_asks_for_boxes(run, capsys) -> None:
    for data in (["--data", "digits"], ["--data", "folder:images"]):
        assert main([*run, *data, "--epochs", "0"]) == 2
        assert "a detector is trained on boxes, and --data is" in capsys.readouterr().err
    assert main([*run, "--data", "own.py:pairs", "--epochs", "0"]) == 2
    assert "a batch is no pair of images and targets" in capsys.readouterr().err
    assert main(["own.py:plain", *DATA, "--budget", "macs=60%", "--out", "run"]) == 2
    assert "Name the task that reads them (--task detection" in capsys.readouterr().err
    assert not Path("run").exists()
