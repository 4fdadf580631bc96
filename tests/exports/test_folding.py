import pytest
import torch
from models import TinyResNet, images
from timm.layers import BatchNormAct2d
from torch import nn

import refiner
from refiner.core.errors import ModelError
from refiner.exports.folding import fold_norms


def unlike_new(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights of its own."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.running_mean, -1), (module.running_var, 0.5)):
                tensor.uniform_(low, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 2, generator=generator)
            nn.init.uniform_(module.bias, -1, 1, generator=generator)
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def test_norms_behind_convs_go_and_outputs_stay() -> None:
    model, x = unlike_new(TinyResNet()), images(3)
    model.train()
    folded, count = fold_norms(model, x)
    assert count == norms(model) > 0 == norms(folded)
    assert type(folded) is TinyResNet
    assert model.training
    torch.testing.assert_close(folded(x), model.eval()(x), rtol=1e-4, atol=1e-4)


class Others(nn.Module):
    """Holds norms that cannot be folded, and one of timm with an activation, which can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.twice = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.act, self.shared = BatchNormAct2d(4), nn.BatchNorm2d(4)
        self.branched, self.after_pool = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.conv(x))
        x = self.shared(self.twice(self.shared(self.twice(x))))
        return self.after_pool(nn.functional.max_pool2d(x, 2))


def test_only_norms_that_alone_read_a_conv_that_runs_once_are_folded() -> None:
    model, x = unlike_new(Others()).eval(), images(2)
    folded, count = fold_norms(model, x)
    assert count == 1
    assert type(folded.act) is nn.ReLU
    assert type(folded.shared) is type(folded.after_pool) is nn.BatchNorm2d
    torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-4)


def test_a_model_that_reads_its_weights_itself_is_refused() -> None:
    class Reads(TinyResNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * self.block1.conv1.weight.sum()

    with pytest.raises(ModelError, match="outputs change when batch norms are folded"):
        fold_norms(unlike_new(Reads()), images(2))


@pytest.mark.parametrize("name", ["torchscript", "python"])
def test_exports_can_be_folded(tmp_path, name) -> None:
    model, x = unlike_new(TinyResNet()).eval(), images(2)
    how = refiner.export(model, tmp_path / "folded", x, name, fold_norms=True)
    assert how.endswith("any batch size; 6 batch norms folded")
    if name == "torchscript":
        loaded = torch.jit.load(tmp_path / "folded")
        torch.testing.assert_close(loaded(x), model(x), rtol=1e-4, atol=1e-4)
    else:
        assert "BatchNorm" not in (tmp_path / "folded" / "model.py").read_text()


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(image)) * weight


def test_inputs_of_every_kind() -> None:
    for example in ((images(2), torch.ones(1)), {"weight": torch.ones(1), "image": images(2)}):
        assert fold_norms(unlike_new(Two()), example)[1] == 1
