import copy
from pathlib import Path

import pytest
import torch
from torch import nn
from yolo_shapes import shapes, tiny_model

import refiner
from refiner.core.errors import ModelError
from refiner.exports.yolo_checkpoint import fusible, trainer

ultralytics = pytest.importorskip("ultralytics")
_SUMMED = ("[-1, 1, C2f, [32, True]]", "[-1, 1, C2fCIB, [32, True, True]]")


@pytest.fixture(params=["one", "yolo26", "yolo26-seg"])
def model(tmp_path, request):
    source = "ultralytics:" + tiny_model(tmp_path, request.param)
    return refiner.ModelSpec(source=source).build().eval()


def refined(model, name: str, granularity: str = "conv"):
    """Return the model with a candidate in each slot that offers it."""
    space = refiner.search_space(model, torch.rand(1, 3, 32, 32), granularity=granularity)
    vector = [names.index(name) if name in names else 0 for names in space.candidates]
    assert any(vector)
    return refiner.rewrite(model, space.architecture(vector), seed=0).eval()


def test_a_layer_without_a_plain_conv_becomes_one_that_is_not_fused(model) -> None:
    network, x = refined(model, "depthwise3x3"), torch.rand(2, 3, 32, 32)
    before = network(x)[0]
    before, *_ = before if isinstance(before, tuple) else (before,)
    fused = fusible(network).eval().fuse(verbose=False)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.model[0].modules())
    after = fused(x)[0]
    after, *_ = after if isinstance(after, tuple) else (after,)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)
    assert type(network.model[1]).__name__ == "Conv", "the network itself stays as it is"


@pytest.mark.parametrize("name", ["conv3x3", "identity"])
def test_two_depthwise_layers_are_fused_or_stay_two(tmp_path, name) -> None:
    """As YOLOv10 sums them: a smaller kernel is padded, and what is no conv stays."""
    file = tmp_path / "tiny.yaml"
    file.write_text(Path(tiny_model(tmp_path)).read_text().replace(*_SUMMED))
    model = refiner.ModelSpec(source=f"ultralytics:{file}", seed=1).build().train()
    with torch.no_grad():
        model(torch.rand(4, 3, 64, 64))  # norms differ from one another
    network, x = refined(model.eval(), name, "group"), torch.rand(2, 3, 32, 32)
    weights = copy.deepcopy(network.state_dict())
    kinds = {type(module).__name__ for module in fusible(network).modules()}
    assert ("RepVGGDW" in kinds, "Branches" in kinds) == (name == "conv3x3", name == "identity")
    fused = fusible(network).eval().fuse(verbose=False)
    summed = torch.rand(2, 32, 4, 4)
    with torch.no_grad():
        before, after = (m.model.get_submodule("4.m.0.cv1.2")(summed) for m in (network, fused))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(fused(x)[0], network(x)[0], rtol=1e-3, atol=1e-3)
    assert all(torch.equal(network.state_dict()[key], value) for key, value in weights.items())


def test_ultralytics_loads_validates_and_trains_it_further(model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_DISABLED", "1")
    monkeypatch.chdir(tmp_path)
    network, file = refined(model, "depthwise3x3"), tmp_path / "refined.pt"
    how = refiner.export(network, file, torch.rand(1, 3, 32, 32), "ultralytics")
    assert how.startswith("checkpoint that needs ultralytics")
    yolo = ultralytics.YOLO(file)
    count = sum(p.numel() for p in network.parameters())
    options = {
        "data": shapes(tmp_path, outlines=True), "imgsz": 64, "batch": 6, "device": "cpu", "workers": 0,
        "plots": False, "verbose": False, "project": str(tmp_path / "runs"),
    }  # fmt: skip
    assert 0 <= yolo.val(**options).box.map <= 1
    assert 0 <= ultralytics.YOLO(file).val(nms=False, **options).box.map <= 1
    assert len(yolo.predict(str(tmp_path / "images/val/0.png"), imgsz=64, verbose=False)) == 1
    more = ultralytics.YOLO(file)
    before = copy.deepcopy(next(more.model.parameters()))
    more.train(trainer=trainer(), epochs=1, val=False, **options)
    after = ultralytics.YOLO(more.trainer.last).model
    assert sum(p.numel() for p in after.parameters()) == count
    assert not torch.equal(next(after.parameters()), before)


def test_other_models_are_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match="models of ultralytics alone"):
        refiner.export(nn.Conv2d(3, 3, 1), tmp_path / "x.pt", torch.rand(1, 3, 8, 8), "ultralytics")
