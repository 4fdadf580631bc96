import pytest
import torch
from torch import nn

from refiner.distill.patches import PatchSums, drawn_rows
from refiner.graph.conv_spec import conv_spec
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")
CONVS = {
    "plain": nn.Conv2d(3, 4, 3, padding=1, bias=False),
    "strided": nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False),
    "dilated": nn.Conv2d(3, 4, 3, dilation=2, bias=False),
    "long": nn.Conv2d(3, 4, (1, 5), padding=(0, 2), bias=False),
    "reflecting": nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=False),
    "same": nn.Conv2d(3, 4, 4, padding="same", bias=False),
    "pointwise": nn.Conv2d(3, 4, 1, bias=False),
    "1d": nn.Conv1d(3, 4, 3, stride=2, bias=False),
    "3d": nn.Conv3d(3, 4, 2, padding=1, bias=False),
}


@pytest.mark.parametrize("name", CONVS)
def test_patches_are_what_a_conv_reads_and_targets_are_its_outputs(name: str, monkeypatch) -> None:
    monkeypatch.setattr("refiner.distill.patches._PIECE", 30)
    conv = CONVS[name]
    x = torch.randn(2, 3, *[7] * (conv.weight.dim() - 2))
    y = conv(x).detach()
    pieces = list(drawn_rows(x, y, conv_spec(conv), 10**9, torch.Generator()))
    assert len(pieces) > 1
    read, outputs = map(torch.cat, zip(*pieces))
    assert torch.allclose(read @ conv.weight.flatten(1).T, outputs, atol=1e-5)
    assert len(outputs.unique(dim=0)) == len(outputs) == y[:, 0].numel()


def test_so_many_patches_are_drawn_and_by_the_generator_alone() -> None:
    conv, x = CONVS["plain"], torch.randn(2, 3, 9, 9)

    def drawn(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([r for r, _ in drawn_rows(x, conv(x), conv_spec(conv), 20, generator)])

    assert drawn(0).shape == (20, 27)
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert len(drawn(0).unique(dim=0)) == 20


def test_sums_are_full_when_rows_and_batches_are_enough(monkeypatch) -> None:
    monkeypatch.setattr("refiner.distill.patches._LEAST_ROWS", 10)
    conv, x = CONVS["plain"], torch.randn(2, 3, 4, 4)
    sums = PatchSums("conv", conv_spec(conv), seed=0)
    sums.want(rows=100, batches=2)
    added = 0
    with torch.no_grad():
        sums.add_held_out(x, conv(x))
        while not sums.full:
            sums.add(x, conv(x))
            added += 1
    assert added == 4  # 32 positions each
    fit, held_out = sums.moments(DEVICES)
    assert (fit.count, held_out.count) == (128, 32)
    sums.clear()
    assert not sums.full


def test_a_batch_gives_its_share_of_the_rows(monkeypatch) -> None:
    monkeypatch.setattr("refiner.distill.patches._LEAST_ROWS", 10)
    conv, x = CONVS["plain"], torch.randn(2, 3, 9, 9)
    sums = PatchSums("conv", conv_spec(conv), seed=0)
    sums.want(rows=99, batches=10)
    sums.want(rows=50, batches=5)
    sums.add(x, conv(x).detach())
    assert sums.moments(DEVICES)[0].count == 10


def test_layers_before_the_conv_see_few_images(monkeypatch) -> None:
    monkeypatch.setattr("refiner.distill.patches._LEAST_ROWS", 10)
    monkeypatch.setattr("refiner.distill.patches._LEAST_IMAGES", 3)
    seen = []

    class Before(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return 2 * x

    conv, x = CONVS["pointwise"], torch.randn(9, 3, 4, 4)
    sums = PatchSums("conv", conv_spec(conv), Before(), seed=0)
    sums.want(rows=10, batches=1)
    sums.add(x, conv(x).detach())
    sums.want(rows=70, batches=1)
    sums.add(x, conv(x).detach())
    assert seen == [3, 5]
    fit, held_out = sums.moments(DEVICES)
    assert fit is held_out
    expected = 2 * fit.gram_FF @ conv.weight[:, :, 0, 0].double().T / 4
    assert torch.allclose(fit.cross_FC, expected, atol=1e-5)
