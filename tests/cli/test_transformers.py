"""Models of transformers from the command line: refined, exported and loaded again."""

import json
from pathlib import Path

import pytest
import torch
from image_folders import fill
from refiner.cli.app import main

import refiner

transformers = pytest.importorskip("transformers")
FAST = [
    "--trials", "4", "--epochs", "1", "--device", "cpu", "--no-baselines", "--refit-steps", "2",
    "--batch-size", "8", "--budget", "macs=60%",
]  # fmt: skip


@pytest.fixture
def net(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {0: "cat", 1: "dog"}
    config = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic",
        id2label=names, label2id={name: i for i, name in names.items()},
    )  # fmt: skip
    transformers.ResNetForImageClassification(config).save_pretrained("net")
    prepared = {
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    Path("net/preprocessor_config.json").write_text(json.dumps(prepared))
    fill(Path("pets"), ("cat", "dog"), count=24, size=(32, 32))
    return "transformers:net"


def test_a_folder_is_refined_and_goes_back(net, capsys) -> None:
    assert main([net, "--data", "folder:pets", *FAST, "--out", "run"]) == 0
    assert "inputs 3x32x32" in capsys.readouterr().err, "the size of its preprocessor"
    report = json.loads(Path("run/report.json").read_text())
    assert report["after"]["macs"] <= 0.6 * report["before"]["macs"]
    assert report["top_k"][0][2] <= 0, "agreement: the folder's weights are the teacher"
    assert Path("run/refined.ts").exists()
    assert main(["export", "run", "--format", "transformers"]) == 2
    assert "--trust" in capsys.readouterr().err, "a run's folder reads no other by itself"
    assert main(["export", "run", "--format", "transformers", "--trust"]) == 0
    again = refiner.from_pretrained("run/refined_transformers")
    assert Path("run/refined_transformers/preprocessor_config.json").exists()
    assert again(pixel_values=torch.zeros(1, 3, 32, 32)).logits.shape == (1, 2)


def test_data_with_other_classes_is_refused(net, capsys) -> None:
    fill(Path("pets"), ("fox",), count=24, size=(32, 32))
    assert main([net, "--data", "folder:pets", *FAST, "--out", "run"]) == 2
    assert "pets has 3. Name the data that the model was trained on" in capsys.readouterr().err
    assert main(["transformers:nowhere", "--data", "folder:pets", *FAST]) == 2
    assert "nowhere holds no config.json" in capsys.readouterr().err


SEGMENTER = """
import torch
from torch.utils.data import DataLoader, TensorDataset


def loaders():
    images = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, (images.mean(1) > 0.5).long()), 8)
    return loader, loader


def mappings():
    def collate(rows):
        images, masks = map(torch.stack, zip(*rows))
        return {"pixel_values": images, "labels": masks}

    loader = DataLoader(loaders()[0].dataset, 8, collate_fn=collate)
    return loader, loader
"""


@pytest.mark.parametrize(
    ("data", "more", "metric"),
    [("loaders", [], "mean IoU"), ("mappings", ["--task", "own_loss"], "minus loss")],
)
def test_a_segmenter_brings_its_task_or_its_own_loss(net, data, more, metric) -> None:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_labels=2, depths=[1, 1], num_encoder_blocks=2, hidden_sizes=[8, 16], patch_sizes=[3, 3],
        strides=[2, 2], sr_ratios=[2, 1], num_attention_heads=[1, 1], mlp_ratios=[2, 2],
        decoder_hidden_size=16,
    )  # fmt: skip
    transformers.SegformerForSemanticSegmentation(config).save_pretrained("seg")
    Path("scenes.py").write_text(SEGMENTER)
    run = ["transformers:seg", "--data", f"scenes.py:{data}", *FAST[:-1], "macs=97%", *more]
    assert main([*run, "--out", "run"]) == 0
    report = json.loads(Path("run/report.json").read_text())
    assert report["metric"] == metric
    assert report["after"]["macs"] < report["before"]["macs"]
    assert main(["export", "run", "--format", "transformers", "--trust"]) == 0
