"""The preprocessing of a command: where it comes from, where it is kept, what is said of it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from image_folders import fill
from refiner.cli.app import main
from refiner.cli.options import ModelAndData
from refiner.cli.preparing import kept_preprocessing, loading

from refiner.core.errors import RunError
from refiner.core.models import ModelSpec

SOURCE = """
import torch
from torch import nn


def build_model(num_classes=2):
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes),
    )


def grey(num_classes=2):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, num_classes))


def noted(num_classes=2):
    net = build_model(num_classes)
    net.pretrained_cfg = {"input_size": (3, 8, 8), "mean": (0.1,) * 3, "std": (0.2,) * 3, "crop_pct": 0.8}
    return net
"""
SCALE = ["--mean", "0.4,0.5,0.6", "--std", "0.25"]


@pytest.fixture
def net(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(SOURCE)
    for part, count in (("train", 5), ("valid", 2)):
        fill(Path("images", part), ["ant", "bee"], count)
    return "net.py:build_model"


def train(model, *options, out="run"):
    return main(
        ["train", model, "--data", "folder:images", "--epochs", "1", "--batch-size", "4", "--device", "cpu",
         "--out", out, *options]
    )  # fmt: skip


def kept(folder="run"):
    provenance = json.loads(Path(folder, "config.json").read_text())["provenance"]
    return provenance["preprocessing"]


def test_it_is_kept_and_shown_and_exported(net, capsys) -> None:
    fill(Path("images", "test"), ["ant", "bee"], 3)
    assert train(net, *SCALE) == 0
    line = "3x8x8; mean 0.4,0.5,0.6; std 0.25,0.25,0.25; from --mean and --std"
    printed = capsys.readouterr()
    assert f"inputs: {line}" in printed.err
    assert f"preprocessing {line}" in printed.out
    found = kept()
    assert (found["mean"], found["classes"]) == ([0.4, 0.5, 0.6], ["ant", "bee"])
    architecture = json.loads(Path("run", "architecture.json").read_text())
    assert architecture["model"]["preprocessing"] == found
    assert line in Path("run", "report.md").read_text()
    files = {"preprocessing.json": ""}
    scripted = torch.jit.load("run/refined.ts", _extra_files=files)
    assert json.loads(files["preprocessing.json"]) == found
    assert main(["report", "run"]) == 0
    assert f"preprocessing {line}" in capsys.readouterr().out
    assert main(["export", "run", "--format", "python", "--trust"]) == 0
    scope = {"__file__": str(Path("run/refined_python/model.py").resolve())}
    exec(Path("run/refined_python/model.py").read_text(), scope)
    report = json.loads(Path("run", "report.json").read_text())
    files = [f for name in scope["CLASSES"] for f in sorted(Path("images/test", name).iterdir())]
    inputs = scope["preprocess"](files)
    for network in (scope["load"](), scripted):
        right = (network(inputs).argmax(1) == torch.tensor([0, 0, 0, 1, 1, 1])).sum().item()
        assert right / 6 == pytest.approx(report["trained"]["refined"])


def test_a_folder_as_weights_hands_its_preprocessing_on(net, capsys) -> None:
    assert train(net, *SCALE) == 0
    shutil.rmtree("images/train/bee")
    shutil.rmtree("images/valid/bee")
    for part in ("train", "valid"):
        fill(Path("images", part), ["wasp"], 2, size=(12, 12))
    for option, folder in (("--weights", "run"), ("--teacher", "run/refined.safetensors")):
        capsys.readouterr()
        assert train(net, option, folder, out=option[2:]) == 0
        later = kept(option[2:])
        assert {**later, "classes": ["ant", "bee"]} == kept()  # 8 x 8, too
        said = capsys.readouterr().err
        assert "had the classes ant, bee, and this data has ant, wasp" in said
        assert "if the model was trained" not in said, "the run's own are taken"


def test_weights_of_the_users_own_are_told_of(net, capsys) -> None:
    torch.save(ModelSpec(source=net).build().state_dict(), "mine.pt")
    assert train(net, "--weights", "mine.pt") == 0
    assert "give --mean and --std, or --norm, if the model was trained" in capsys.readouterr().err
    assert kept()["source"] == "the training images"
    assert train(net, "--weights", "mine.pt", "--norm", "half", out="half") == 0
    assert "if the model was" not in capsys.readouterr().err
    assert kept("half")["mean"] == [0.5] * 3


def test_what_a_model_notes_is_taken_where_it_is_asked_for(net) -> None:
    source = ModelAndData(model="net.py:noted", data="folder:images", norm="model")
    data = source.load()[2]
    assert data.preprocessing.mean == (0.1,) * 3


def test_pretrained_weights_bring_their_own() -> None:
    spec = ModelSpec(source="timm:mobilenetv3_small_050.lamb_in1k", pretrained=True)
    model = ModelSpec(source=spec.source).build()
    found = loading(spec, model, 3, [None], None)
    assert found["of_model"].mean == (0.485, 0.456, 0.406)
    assert not found["keep_size"]
    model.pretrained_cfg["fixed_input_size"] = True
    assert loading(spec, model, 3, [None], None)["keep_size"]


def test_a_model_for_grey_images(net, capsys) -> None:
    assert train("net.py:grey", "--norm", "none") == 0
    assert "inputs: 1x8x8; mean 0; std 1; from --norm none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mean", "124,116,104", "--std", "0.2"], "Divide by 255"),
        (["--mean", "0.5"], "std is not. Give both"),
        (["--norm", "imagnet"], "unknown norm 'imagnet'"),
        (["--norm", "model"], "nothing notes how this model's inputs"),
        (["--test-data", "folder:other"], "other are not those of folder:"),
        (["--test-data", "folder:gone"], "there is no folder"),
        (["--test-data", "digits"], "digits has no test part"),
    ],
)
def test_mistakes_are_told(net, options, message, capsys) -> None:
    fill(Path("other"), ["ant", "C"])
    assert train(net, *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not Path("run").exists()


def test_test_data_of_its_own(net) -> None:
    fill(Path("more"), ["ant", "bee"], 4)
    source = ModelAndData(model=net, data="folder:images", test_data="folder:more")
    assert len(source.load()[2].test.labels) == 8
    Path("loaders.py").write_text(
        "import torch\nbatch = torch.zeros(2, 3, 8, 8), torch.zeros(2).long()\n"
        "def three():\n    return [batch], [batch], [batch, batch]\n"
    )
    source = ModelAndData(model=net, data="loaders.py:three")
    assert len(source.load()[2].test) == 2


def test_a_damaged_folder_is_refused(net) -> None:
    assert train(net) == 0
    config = json.loads(Path("run/config.json").read_text())
    config["provenance"]["preprocessing"]["std"] = ["x"]
    Path("run/config.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match="damaged"):
        kept_preprocessing([None, "run"])
    assert kept_preprocessing([None, "net.py", "nowhere"]) is None
