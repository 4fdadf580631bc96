"""The command on faces: identity folders, ArcFace, and verification on pairs."""

import json
from pathlib import Path

import pytest
from face_folders import make_faces, make_pack
from refiner.cli.app import main

SMALL = ["--warmup-epochs", "1", "--search-epochs", "1", "--trials", "2", "--samples", "2", "--batch-size", "8",
         "--epochs", "1", "--device", "cpu"]  # fmt: skip

SOURCE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, outputs, width, flat):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1)
        self.one = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, outputs, 1)
        self.flat = flat

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = self.last(x + self.one(x))
        return x.mean((2, 3)) if self.flat else x


def build_model(num_classes=10, width=4):
    return Net(num_classes, width, True)


def without_classes():
    return Net(6, 4, True)


def maps():
    return Net(6, 4, False)


def loaders():
    batch = (torch.zeros(8, 3, 16, 16), torch.zeros(8).long())
    return [batch], [batch]
"""


@pytest.fixture
def net(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(SOURCE)
    make_faces(Path("faces"))
    make_pack(Path("other.bin"))
    return "net.py:build_model"


def report(arguments: list[str], capsys) -> dict:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def names_of_tests(document: dict) -> list[str]:
    return [name for name, _, _ in document["trained"]["tests"]]


def test_a_run_with_arcface_verifies_both_networks_and_goes_on(net, capsys) -> None:
    arguments = [net, *SMALL, "--data", "faces:faces", "--task", "arcface", "--out", "run"]
    first = report(arguments, capsys)
    assert first["metric"] == "identification"
    ((name, original, refined),) = first["trained"]["tests"]
    assert name == "accuracy on pairs.txt"
    assert 0 <= original <= 1
    assert 0 <= refined <= 1
    made = json.loads(Path("run/architecture.json").read_text())["model"]["spec"]
    assert made["classes"] == 512, (
        "a builder that takes num_classes gives embeddings of ArcFace's size"
    )
    Path("run/checkpoint/refined.pt").unlink()
    again = report(["--resume", "run", net], capsys)
    assert (again["vector"], again["trained"]) == (first["vector"], first["trained"])
    assert main(["report", "run"]) == 0
    assert "accuracy on pairs.txt" in capsys.readouterr().out


def test_training_verifies_on_each_file_that_is_named(net, capsys) -> None:
    arguments = ["train", net, "--data", "faces:faces", "--task", "arcface", "--epochs", "1",
                 "--device", "cpu", "--model-arg", "num_classes=6", "--out", "run"]  # fmt: skip
    Path("faces/pairs.txt").rename("list")
    verified = ["--verify", "list:faces/val", "--verify", "other.bin"]
    first = report([*arguments, *verified], capsys)
    assert names_of_tests(first) == ["accuracy on list", "accuracy on other.bin"]
    kept = json.loads(Path("run/config.json").read_text())["provenance"]["command"]
    assert kept["verify"] == [
        f"{Path('list').resolve()}:{Path('faces/val').resolve()}",
        str(Path("other.bin").resolve()),
    ]
    again = report(["train", "--resume", "run", net], capsys)
    assert again["trained"] == first["trained"]


def test_a_classifier_of_image_folders_is_verified_too(net, capsys) -> None:
    arguments = [
        "train",
        net,
        "--data",
        "folder:faces/train",
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--out",
        "run",
    ]
    first = report([*arguments, "--verify", "faces/pairs.txt"], capsys)
    assert first["metric"] == "accuracy"
    assert names_of_tests(first) == ["accuracy on pairs.txt"]
    made = json.loads(Path("run/architecture.json").read_text())["model"]["spec"]
    assert made["classes"] == 4


def test_a_model_without_num_classes_keeps_its_embedding(net, capsys) -> None:
    arguments = ["train", "net.py:without_classes", "--data", "faces:faces", "--task", "arcface", "--limit", "12",
                 "--epochs", "1", "--device", "cpu", "--image-size", "8", "--out", "run"]  # fmt: skip
    assert names_of_tests(report(arguments, capsys)) == ["accuracy on pairs.txt"]
    import torch

    state = torch.load("run/checkpoint/train.pt", weights_only=True)
    assert state["trainer"]["head"]["weight"].shape == (2, 6)  # two of five images of each validate


ARCFACE = ["--task", "arcface"]
BAD = {
    "no names of identities": (["NET", *ARCFACE, "--data", "net.py:loaders"], "does not name its identities"),
    "no embedding": (["net.py:maps", *ARCFACE, "--data", "faces:faces"], "the model gives torch.float32 of shape"),
    "no embedding to verify": (
        ["net.py:maps", "--task", "net.py:build_model", "--data", "faces:faces"], "lacks loss",
    ),
    "pixels of unknown scale": (
        ["NET", "--data", "net.py:loaders", "--verify", "other.bin"], "does not know how net.py:loaders"
    ),
    "missing faces": (["NET", *ARCFACE, "--data", "faces:gone"], "there is no folder gone"),
    "missing pairs": (["NET", "--data", "faces:faces", "--verify", "gone.txt"], "there is no file gone.txt"),
    "missing pack": (["train", "NET", "--data", "faces:faces", "--verify", "gone.bin"], "there is no file gone.bin"),
    "images that lie elsewhere": (
        ["NET", "--data", "faces:faces", "--verify", "faces/pairs.txt:faces/train"], "names the image V0/V0_0001"
    ),
    "verification of nothing": (
        ["NET", "--data", "faces:faces", "--epochs", "0", "--verify", "other.bin"], "Give --epochs"
    ),
    "unknown task": (["NET", "--task", "cosface"], "own_loss, arcface"),
    "recipe without faces": (["--recipe", "lresnet50e-ir-faces", "--data", "folder:faces"], "--data faces:PATH"),
    "recipe with too few faces": (
        ["--recipe", "lresnet50e-ir-faces", "--data", "faces:faces"], "4000 are wanted"
    ),
    "verification of a recipe": (["--recipe", "lresnet50e-ir-faces", "--verify", "other.bin"], "--verify is set"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(BAD))
def test_bad_input_is_one_line_and_status_2(case, net, capsys) -> None:
    arguments, message = BAD[case]
    before = {p for p in Path().rglob("*") if "__pycache__" not in p.parts}
    assert main([net if a == "NET" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0].replace(f"{Path().resolve()}/", "")
    after = {p for p in Path().rglob("*") if "__pycache__" not in p.parts}
    assert after == before


def test_faces_give_the_example_of_slots(net, capsys) -> None:
    assert report(["slots", net, "--data", "faces:faces"], capsys)["input"] == "2x3x16x16"


def test_the_pairs_beside_the_faces_are_those_of_the_beginning(net, capsys) -> None:
    arguments = ["train", net, "--data", "faces:faces", "--task", "arcface", "--epochs", "1",
                 "--device", "cpu", "--model-arg", "num_classes=6", "--out", "run"]  # fmt: skip
    first = report(arguments, capsys)
    kept = json.loads(Path("run/config.json").read_text())["provenance"]["command"]
    assert kept["verify"] == [str(Path("faces/pairs.txt").resolve())]
    make_pack(Path("faces/late.bin"))
    assert report(["train", "--resume", "run", net], capsys)["trained"] == first["trained"]


def test_a_run_without_pairs_or_training_tells_what_is_not_verified(net, capsys) -> None:
    arguments = [net, *SMALL, "--data", "faces:faces", "--task", "arcface", "--out"]
    assert main([*arguments, "untrained", "--epochs", "0"]) == 0
    assert "nothing is verified" not in capsys.readouterr().err
    Path("faces/pairs.txt").unlink()
    assert main([*arguments, "run"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "faces holds no pairs.txt and no *.bin, so nothing is verified. Add one, or give" in told
