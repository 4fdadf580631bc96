import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from refiner.recipes import resnet18_8_cifar10, resnet18_16_cifar10, resnet18_imagenet_transfer
from refiner.recipes.lresnet50e_ir import build_model

from refiner.cost import measure_cost
from refiner.recipe import RecipeSettings, Scale
from refiner.rewriting import rewrite
from refiner.space import search_space


def test_lresnet50e_ir_and_the_row_of_the_paper() -> None:
    model, x = build_model(), torch.zeros(1, 3, 112, 112)
    before = measure_cost(model, x)
    assert before.params == pytest.approx(4.35e7, rel=0.005)
    assert before.macs == pytest.approx(6.32e9, rel=0.005)
    space = search_space(model, x, granularity="block")
    assert len(space.slots) == 24
    assert {len(slot.sites) for slot in space.slots} == {2}
    vector = (0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 2, 1, 0, 1, 0)
    after = measure_cost(rewrite(model, space.architecture(vector)), x)
    assert after.params == pytest.approx(3.38e7, rel=0.01)
    assert after.macs == pytest.approx(4.69e9, rel=0.01)


def folder_of_images(root: Path) -> str:
    rng = np.random.default_rng(0)
    for part, count in (("train", 12), ("val", 6)):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return f"folder:{root}"


def settings(tmp_path: Path, **more) -> RecipeSettings:
    options = {"scale": Scale(0.004), "device": "cpu", "progress": False, **more}
    data = folder_of_images(tmp_path / "images")
    return RecipeSettings(out=tmp_path / "run", data=data, **options)


@pytest.mark.parametrize(
    ("recipe", "slots", "pretrain"),
    [(resnet18_8_cifar10, 8, True), (resnet18_16_cifar10, 16, False)],
    ids=["resnet18-8, RP", "resnet18-16, R"],
)
def test_the_cifar10_recipes(recipe, slots: int, pretrain: bool, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(resnet18_8_cifar10, "TELLS", 1)
    monkeypatch.setattr(resnet18_8_cifar10, "SAMPLES", 2)
    recipe.run(settings(tmp_path, pretrain=pretrain))
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert len(report["vector"]) == slots
    assert "search epochs 3 of 150" in report["notes"][0]
    records = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    phases = [json.loads(line)["phase"] for line in records]
    assert phases == ["warm-up" if pretrain else "search", "search", "search"]
    assert report["trained"]["epochs"] == 3


def test_the_numbers_of_table_5_at_full_size() -> None:
    model, x = resnet18_imagenet_transfer.build_model(), torch.zeros(1, 3, 224, 224)
    costs = {}
    for name, (slots, vector) in resnet18_imagenet_transfer.ARCHITECTURES.items():
        space = search_space(model, x, granularity=slots)
        costs[name] = measure_cost(rewrite(model, space.architecture(vector)), x)
    full = costs["resnet18"]
    assert full.params == pytest.approx(1.17e7, rel=0.005)
    assert costs["resnet18-8"].params == pytest.approx(1.16e7, rel=0.01)
    assert costs["resnet18-16"].params == pytest.approx(0.92e7, rel=0.01)
    assert costs["resnet18-8"].macs / full.macs == pytest.approx(1.57 / 1.76, rel=0.01)
    assert costs["resnet18-16"].macs / full.macs == pytest.approx(1.41 / 1.76, rel=0.01)


def test_the_transfer_trains_three_networks_alike(tmp_path) -> None:
    resnet18_imagenet_transfer.run(settings(tmp_path, scale=Scale(0.02)))
    reports = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.rglob("report.json")}
    assert set(reports) == {"resnet18", "resnet18-8", "resnet18-16"}
    assert len({json.dumps(r["before"]) for r in reports.values()}) == 1
    assert reports["resnet18-16"]["after"]["macs"] < reports["resnet18-8"]["after"]["macs"]
    assert "training epochs 3 of 90" in reports["resnet18"]["notes"][0]
