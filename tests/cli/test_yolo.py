"""A detector of ultralytics from the command line: refined, evaluated and exported."""

import json
from pathlib import Path

import pytest
import torch
from image_folders import fill
from refiner.cli.app import main
from yolo_shapes import shapes, tiny_model

import refiner

ultralytics = pytest.importorskip("ultralytics")
CLASSIFIER = """
nc: 2
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
head:
  - [-1, 1, Classify, [nc]]
"""


@pytest.fixture(params=["one"])
def files(tmp_path, monkeypatch, request) -> list[str]:
    monkeypatch.chdir(tmp_path)
    source = "ultralytics:" + tiny_model(tmp_path, request.param)
    model = refiner.ModelSpec(source=source, seed=1).build()
    for parameter in model.parameters():  # as ultralytics leaves its checkpoints
        parameter.requires_grad = False
    torch.save({"model": model, "ema": None, "train_args": {**model.args, "imgsz": 64}}, "best.pt")
    shapes(tmp_path, outlines=request.param == "yolo26-seg")
    return ["ultralytics:best.pt", "--data", "shapes.yaml", "--batch-size", "6"]


@pytest.mark.parametrize(
    ("files", "metric"), [("one", "mAP50-95"), ("yolo26-seg", "mask mAP50-95")], indirect=["files"]
)
def test_a_checkpoint_is_refined_and_goes_back(files, metric, capsys) -> None:
    run = [*files, "--budget", "macs=60%", "--trials", "4", "--epochs", "1", "--device", "cpu"]
    assert main([*run, "--no-baselines", "--refit-steps", "2", "--out", "run"]) == 0
    report = json.loads(Path("run/report.json").read_text())
    assert report["metric"] == metric
    assert report["after"]["macs"] <= 0.6 * report["before"]["macs"]
    assert report["top_k"][0][2] <= 0, "agreement: the checkpoint is the teacher"
    assert "inputs 3x64x64" in capsys.readouterr().err, "the size of its training"
    assert Path("run/refined.ts").exists()
    named = ["--model", "ultralytics:best.pt", "--trust"]
    assert main(["export", "run", "--format", "ultralytics", "--to", "refined.pt", *named]) == 0
    boxes = ultralytics.YOLO("refined.pt").predict("images/val/0.png", imgsz=64, verbose=False)
    assert len(boxes) == 1
    assert main(["eval", "run", *named, "--json"]) == 0


def test_a_folder_reads_no_checkpoint_by_itself(files, capsys) -> None:
    run = [*files, "--budget", "macs=60%", "--trials", "2", "--epochs", "0", "--device", "cpu"]
    assert main([*run, "--no-baselines", "--refit-steps", "0", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["export", "run", "--format", "ultralytics"]) == 2
    assert "best.pt" in capsys.readouterr().err


def test_data_with_other_classes_is_refused(files, capsys) -> None:
    text = Path("shapes.yaml").read_text().replace("[square, circle]", "[square, circle, star]")
    Path("shapes.yaml").write_text(text)
    assert main([*files, "--budget", "macs=60%", "--out", "run"]) == 2
    assert "the model has 2 classes, and" in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_classifier_is_refined_with_folders_of_images(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny-cls.yaml").write_text(CLASSIFIER)
    model = refiner.ModelSpec(source="ultralytics:tiny-cls.yaml", seed=1).build()
    model.names = {0: "cat", 1: "dog"}
    torch.save({"model": model, "ema": None, "train_args": {"imgsz": 32}}, "best-cls.pt")
    fill(Path("pets"), ("cat", "dog"), count=20, size=(32, 32))
    run = [
        "ultralytics:best-cls.pt",
        "--data",
        "folder:pets",
        "--budget",
        "macs=70%",
        "--out",
        "run",
    ]
    run += ["--trials", "4", "--epochs", "1", "--device", "cpu", "--no-baselines"]
    assert main([*run, "--refit-steps", "2", "--batch-size", "8"]) == 0
    assert "inputs 3x32x32 from 0" in capsys.readouterr().err, "as it was trained"
    report = json.loads(Path("run/report.json").read_text())
    assert report["metric"] == "accuracy"
    assert report["top_k"][0][2] < 1e-5, "agreement: the checkpoint is the teacher"
    fill(Path("pets"), ("fox",), count=20, size=(32, 32))
    assert main(["other" if word == "run" else word for word in run]) == 2
    assert "the model has 2 classes" in capsys.readouterr().err


def test_rotated_boxes_are_refused_before_data_is_read(files, capsys) -> None:
    model = ultralytics.nn.tasks.OBBModel("yolo11n-obb.yaml", verbose=False)
    torch.save({"model": model, "ema": None, "train_args": {"task": "obb"}}, "obb.pt")
    Path("shapes.yaml").write_text("no data")
    assert main(["ultralytics:obb.pt", *files[1:], "--budget", "macs=60%", "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert "which may segment, and the model is a OBBModel. Choose another task." in error
    assert not Path("run").exists()


def test_a_detector_asks_for_boxes(files, capsys) -> None:
    for data in ([], ["--data", "folder:images"]):
        assert main([files[0], *data, "--budget", "macs=60%", "--out", "run"]) == 2
        assert "a detector is trained on boxes" in capsys.readouterr().err
