import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from face_folders import face, make_faces
from PIL import Image
from refiner.recipes import (
    lresnet50e_ir_faces,
    nas_overfitting,
    resnet18_8_cifar10,
    resnet18_16_cifar10,
    resnet18_imagenet_transfer,
    resnet20,
)

from refiner.core.errors import ConfigError, DataError
from refiner.cost.costs import measure_cost
from refiner.data.loaders import Data
from refiner.enas.macro import MacroSpace
from refiner.runs.recipe import RecipeSettings, Scale
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


def test_lresnet50e_ir_and_the_row_of_the_paper() -> None:
    model, x = lresnet50e_ir_faces.build_model(), torch.zeros(1, 3, 112, 112)
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
    monkeypatch.setattr(resnet18_8_cifar10, "UPDATES", 1)
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


def test_resnet20_has_he_et_als_parameters_and_slots() -> None:
    x = torch.zeros(1, 3, 32, 32)
    narrow = measure_cost(resnet20.build_model(channels=(16, 32, 64)), x)
    assert narrow.params == pytest.approx(0.27e6, rel=0.005)  # He et al., 2016, table 6
    model = resnet20.build_model()
    convs = 27 * 64 + 9 * (6 * 64**2 + 64 * 128 + 5 * 128**2 + 128 * 256 + 5 * 256**2)
    norms = 2 * (7 * 64 + 6 * 128 + 6 * 256)
    assert measure_cost(model, x).params == convs + norms + 2570
    assert len(search_space(model, x).slots) == 18


def overfitting_settings(tmp_path: Path, **more) -> RecipeSettings:
    folder_of_images(tmp_path / "root" / "faces")
    return settings(tmp_path, data_root=str(tmp_path / "root"), **more)


def test_nas_overfitting_searches_trains_draws_and_goes_on(tmp_path, monkeypatch) -> None:
    for name, value in (("NODES", 4), ("LEAST_FACES", 2)):
        monkeypatch.setattr(nas_overfitting, name, value)
    chosen = overfitting_settings(tmp_path)

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(nas_overfitting.refiner, "train_architecture", stop)
        with pytest.raises(KeyboardInterrupt):
            nas_overfitting.run(chosen)
    out = tmp_path / "run"
    logs = {path: path.read_text() for path in out.glob("*/metrics.jsonl")}
    assert {path.parent.name for path in logs} == {"joint", "alternating", "operators"}
    nas_overfitting.run(replace(chosen, resume=True))
    assert all(path.read_text() == text for path, text in logs.items())
    report = json.loads((out / "report.json").read_text())
    assert set(report["gradient_variation"]) == {
        "operators, of the joint controller",
        "skips, of the joint controller",
        "operators, searched alone",
    }
    assert [phase["domain"] for phase in report["phases"]] == ["operators", "skips", "operators"]
    best = [phase["reward"] for phase in report["phases"]]
    assert best == sorted(best)
    found = report["overfitting"]
    assert found["tasks"] == ["folder:images", "faces"]
    ahead = [a - b for a, b in zip(found["searched"], found["handmade"])]
    assert found["gap"] == pytest.approx(ahead[0] - ahead[1])
    names = ("figure1.svg", "best-reward.svg", "assigned-reward.svg", "report.md")
    assert all((out / name).stat().st_size for name in names)
    trained = {path.parent.name for path in out.glob("*/report.json")}
    assert trained == {
        f"{name}-{task}"
        for name in ("searched", "resnet-20")
        for task in ("folder-images", "faces")
    }


def test_the_found_network_is_as_large_as_resnet20() -> None:
    space = MacroSpace(nodes=4)
    for vector in ((0,) * 7, (5, 1, 2, 1, 4, 1, 1)):
        network = nas_overfitting.macro_network(space, vector, (8, 16, 32), 10, 0)
        wanted = sum(p.numel() for p in resnet20.build_model(channels=(8, 16, 32)).parameters())
        assert sum(p.numel() for p in network.parameters()) == pytest.approx(wanted, rel=0.05)


def test_nas_overfitting_refuses_loaders_without_names_of_classes(tmp_path) -> None:
    chosen = replace(overfitting_settings(tmp_path), data="mine.py:loaders")
    with pytest.raises(ConfigError, match=r"mine\.py:loaders does not name its classes\. Give"):
        nas_overfitting.run(chosen)


def test_nas_overfitting_runs_in_one_process(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        nas_overfitting.run(overfitting_settings(tmp_path))


def test_nas_overfitting_without_its_faces(tmp_path) -> None:
    chosen = settings(tmp_path, data_root=str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=r"nothing/faces, whose faces .* give --data-root DIR"):
        nas_overfitting.run(chosen)
    assert not (tmp_path / "run").exists()


def without_times(report: dict) -> dict:
    return {key: value for key, value in report.items() if not key.startswith("latenc")}


@pytest.mark.parametrize("pretrain", [True, False], ids=["RP", "R"])
def test_faces_are_searched_trained_verified_and_go_on(pretrain, tmp_path, monkeypatch) -> None:
    for name, value in (("LEAST_EPOCHS", 2), ("LEAST_TRAIN_EPOCHS", 1), ("SAMPLES", 2)):
        monkeypatch.setattr(lresnet50e_ir_faces, name, value)
    shallow = tuple((times, 1) for times, _ in lresnet50e_ir_faces.STAGES)
    monkeypatch.setattr(lresnet50e_ir_faces, "STAGES", shallow)
    faces = make_faces(tmp_path / "faces", identities=11, images=10, size=32)
    (faces / "train" / "P10" / "0.png").unlink()  # one image short, so not in the proxy task
    (faces / "train" / "P11").mkdir()
    face(11, 0, 32).save(faces / "train" / "P11" / "0.png")  # serves in the final trainings alone
    options = {"scale": Scale(0.001), "device": "cpu", "progress": False, "pretrain": pretrain}
    run = RecipeSettings(out=tmp_path / "run", data=f"faces:{faces}", **options)
    lresnet50e_ir_faces.run(run)

    def reports() -> dict:
        found = {p.parent.name: json.loads(p.read_text()) for p in run.out.glob("*/report.json")}
        return {name: without_times(report) for name, report in found.items()}

    first = reports()
    assert set(first) == {"search", "original", "refined"}
    assert len(first["search"]["vector"]) == 4
    assert first["refined"]["vector"] == first["search"]["vector"]
    assert first["original"]["vector"] == [0] * 4
    lines = (run.out / "search" / "metrics.jsonl").read_text().splitlines()
    phases = [json.loads(line)["phase"] for line in lines]
    assert phases == ["warm-up" if pretrain else "search", "search"]
    notes = "\n".join(first["search"]["notes"])
    assert "height and width of the images 32 of 112" in notes
    assert "channels of the stem 8 of 64" in notes
    assert "10 of 12 identities; 90 images train, 10 validate" in notes
    assert "12 of 12 identities; 109 images train, 1 validate" in first["refined"]["notes"][1]
    ((_, nothing, alone),) = first["original"]["trained"]["tests"]
    assert nothing is None
    ((name, original, refined),) = first["refined"]["trained"]["tests"]
    assert name == "accuracy on pairs.txt"
    assert original == alone
    assert 0 <= refined <= 1
    assert first["refined"]["trained"]["original"] == first["original"]["trained"]["refined"]

    shutil.rmtree(run.out / "refined")  # as if it had been stopped before
    (run.out / "original" / "checkpoint" / "train.pt").unlink()
    lresnet50e_ir_faces.run(replace(run, resume=True))
    assert reports() == first


def test_the_recipe_on_faces_has_the_numbers_of_the_paper(monkeypatch, tmp_path) -> None:
    asked: dict = {}

    class Stop(Exception):
        pass

    def refine(model, train, val, **options):
        asked.update(options, batch_size=train)
        raise Stop

    make_faces(tmp_path / "faces")

    def load(path, **options):
        asked.update(options)
        return Data(train=None, val=None, name="", classes=("a", "b"))

    monkeypatch.setattr(lresnet50e_ir_faces, "load_identities", load)
    monkeypatch.setattr(lresnet50e_ir_faces, "example_of", lambda _: torch.zeros(2, 3, 112, 112))
    monkeypatch.setattr(lresnet50e_ir_faces.refiner, "refine", refine)
    with pytest.raises(Stop):
        lresnet50e_ir_faces.run(RecipeSettings(out=tmp_path, data=f"faces:{tmp_path}/faces"))
    assert (asked["identities"], asked["images_per_identity"], asked["train_images"]) == (
        4000,
        40,
        36,
    )
    assert asked["search"].total_epochs == 150
    assert (asked["search"].weights.lr_max, asked["search"].weights.lr_min) == (0.1, 0.0001)
    assert (asked["slots"], asked["task"].scale, asked["task"].margin) == ("block", 64.0, 0.5)
    assert asked["notes"] == ("",)


def test_the_documentation_names_every_recipe_and_no_other() -> None:
    root = Path(__file__).resolve().parents[1]
    table = (
        (root / "docs" / "paper.md")
        .read_text("utf-8")
        .partition("| recipe |")[2]
        .partition("\n\n")[0]
    )
    named = set(re.findall(r"`([a-z0-9-]+)`", table))
    files = {path.stem.replace("_", "-") for path in (root / "recipes").glob("*.py")}
    assert named == files - {"--init--"}


def test_faces_without_pairs_are_told_before_the_search(tmp_path) -> None:
    faces = make_faces(tmp_path / "faces")
    (faces / "pairs.txt").unlink()
    run = RecipeSettings(out=tmp_path / "run", data=f"faces:{faces}", device="cpu", progress=False)
    with pytest.raises(DataError, match=r"faces holds no pairs\.txt and no \*\.bin .* Add one"):
        lresnet50e_ir_faces.run(run)
    assert not run.out.exists()
