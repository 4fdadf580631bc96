import pytest
import torch
from lightning_modules import trainer, written
from torch import nn

import refiner
from refiner.core.errors import ArchitectureError, ModelError
from refiner.exports.lightning_checkpoint import load_lightning

lightning = pytest.importorskip("lightning")
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lit(tmp_path):
    return written(tmp_path)


def refined(model, name="depthwise3x3"):
    """Return the model with a candidate in each slot that offers it."""
    space = refiner.search_space(model, X, granularity="conv")
    vector = [names.index(name) if name in names else 0 for names in space.candidates]
    assert any(vector)
    return refiner.rewrite(model, space.architecture(vector), seed=3).eval()


def test_a_module_goes_there_and_back_and_trains_on(lit, tmp_path) -> None:
    network, file = refined(lit.Classifier(width=6)), tmp_path / "refined.ckpt"
    how = refiner.export(network, file, X, "lightning")
    assert how == "checkpoint for refiner.load_lightning, any batch size"
    loaded = load_lightning(file, lit.Classifier)
    assert type(loaded) is lit.Classifier
    assert loaded.training
    assert loaded.hparams.width == 6
    torch.testing.assert_close(loaded.eval()(X), network(X), rtol=0, atol=1e-5)
    fit = trainer(tmp_path)
    fit.fit(loaded.train(), datamodule=lit.Colours())
    assert not torch.equal(loaded.net[0].weight, network.net[0].weight)
    again = load_lightning(fit.checkpoint_callback.best_model_path, lit.Classifier)
    torch.testing.assert_close(again.eval()(X), loaded.eval()(X), rtol=0, atol=1e-5)
    count = sum(p.numel() for p in network.parameters())
    assert sum(p.numel() for p in again.parameters()) == count


def test_a_module_that_is_refined_twice_keeps_both(lit, tmp_path) -> None:
    model = lit.Classifier()
    once = refined(model)
    space = refiner.search_space(once, X, granularity="conv")
    twice = refiner.rewrite(once, space.architecture([1] * len(space.slots)), seed=4).eval()
    refiner.export(twice, tmp_path / "twice.ckpt", X, "lightning")
    loaded = load_lightning(tmp_path / "twice.ckpt", lit.Classifier).eval()
    torch.testing.assert_close(loaded(X), twice(X), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", ["torchscript", "onnx", "pt2", "python"])
def test_other_formats_hold_refined_modules(lit, tmp_path, form) -> None:
    file = tmp_path / {"torchscript": "x.ts", "onnx": "x.onnx", "pt2": "x.pt2", "python": "x"}[form]
    assert "any batch size" in refiner.export(refined(lit.Classifier()), file, X, form)


def test_what_a_file_cannot_hold_is_given_again(tmp_path) -> None:
    class Around(lightning.LightningModule):
        def __init__(self, net):
            super().__init__()
            self.save_hyperparameters()
            self.net = net

        def forward(self, x):
            return self.net(x)

    def net():
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
        )

    network = refined(Around(net()))
    how = refiner.export(network, tmp_path / "x.ckpt", X, "lightning")
    assert how.startswith("checkpoint for refiner.load_lightning(FILE, CLASS, net=...)")
    with pytest.raises(ModelError, match="NAME=VALUE"):
        load_lightning(tmp_path / "x.ckpt", Around)
    loaded = load_lightning(tmp_path / "x.ckpt", Around, net=net()).eval()
    torch.testing.assert_close(loaded(X), network(X))


def test_other_models_and_files_are_refused(lit, tmp_path) -> None:
    with pytest.raises(ModelError, match="LightningModules alone"):
        refiner.export(nn.Conv2d(3, 3, 1), tmp_path / "x.ckpt", X, "lightning")
    torch.save({"weights": torch.ones(1)}, tmp_path / "other.ckpt")
    with pytest.raises(ModelError, match="no checkpoint of Lightning"):
        load_lightning(tmp_path / "other.ckpt", lit.Classifier)
    with pytest.raises(ModelError, match="no class of a LightningModule"):
        load_lightning(tmp_path / "other.ckpt", nn.Linear)
    refiner.export(refined(lit.Classifier()), tmp_path / "x.ckpt", X, "lightning")
    with pytest.raises((ArchitectureError, ModelError), match="another model|do not fit"):
        load_lightning(tmp_path / "x.ckpt", lit.Classifier, width=4)
    with pytest.raises(ModelError, match="there is no file"):
        load_lightning(tmp_path / "missing.ckpt", lit.Classifier)
