import pytest
import torch
import torch.nn.functional as F
from models import TinyResNet, images
from torch import nn

import refiner
from refiner.core.stand_ins import HYPERPARAMETERS, describe_as, same_window
from refiner.space.supernet import Supernet


class PadsLikeTensorFlow(nn.Module):
    """A block whose forward reads the window of its conv."""

    def __init__(self, own: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 5, padding=own, bias=False)
        self.norm, self.own = nn.BatchNorm2d(16), own

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p = (self.conv.kernel_size[0] - self.conv.stride[0]) // 2 - self.own
        return self.norm(self.conv(F.pad(x, (p, p, p, p)))).relu()


def padded() -> nn.Module:
    torch.manual_seed(0)
    blocks = PadsLikeTensorFlow(0), PadsLikeTensorFlow(1)
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *blocks).eval()


def test_a_model_that_reads_windows_has_slots_whose_candidates_answer(tmp_path) -> None:
    model, x = padded(), images()
    space = refiner.search_space(model, x)
    assert [slot.name for slot in space.slots] == ["1.conv", "2.conv"]
    # A bare conv of another kernel answers for its own window, and the model would pad for that.
    names = ("conv3x3", "depthwise3x3", "depthwise5x5", "avgpool3x3")
    space = refiner.search_space(model, x, candidates=names)
    assert space.candidates == (("original", *names), ("original", *names[1:]))
    supernet = Supernet(model, space)
    for k in range(4):
        supernet.select((k + 1, k))
        network = refiner.rewrite(model, space.architecture((k + 1, k)))
        assert network(x).shape == supernet(x).shape == model(x).shape
        conv, original = network.get_submodule("1.conv"), model.get_submodule("1.conv")
        assert all(getattr(conv, name) == getattr(original, name) for name in HYPERPARAMETERS)
    refiner.export(network, tmp_path / "net.ts", x)


@pytest.mark.parametrize("granularity", ["conv", "group"])
def test_channel_counts_are_those_of_what_stands_in(granularity: str) -> None:
    model, x = TinyResNet(), images()
    space = refiner.search_space(model, x, granularity=granularity)
    for slot, names in zip(space.slots, space.candidates, strict=True):
        for k, name in enumerate(names):
            vector = [k * (each is slot) for each in space.slots]
            network = refiner.rewrite(model, space.architecture(vector)).eval()
            for site in slot.sites:
                made = network.get_submodule(site.conv)
                seen = []
                hook = made.register_forward_hook(
                    lambda _, given, output, seen=seen: seen.append((given[0], output))
                )
                network(x)
                hook.remove()
                ((given, output),) = seen
                counts = made.in_channels, made.out_channels
                assert counts == (given.shape[1], output.shape[1]), name


def test_windows_are_compared_however_they_are_written() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    pool = nn.MaxPool2d(3, 1, 1)
    describe_as(pool, conv, 4, 4)
    assert same_window(pool, conv)
    assert (pool.groups, pool.padding_mode) == (1, "zeros")
    assert not same_window(nn.Conv2d(4, 4, (3, 1), padding=(1, 0)), conv)


def test_convs_are_candidates_that_leave_plain_convs() -> None:
    model, x = TinyResNet(), images()
    space = refiner.search_space(model, x, granularity="group", candidates=["convs"])
    assert all(name.startswith("keep") for names in space.candidates for name in names[1:])
    vector = [len(names) - 1 for names in space.candidates]
    network = refiner.rewrite(model, space.architecture(vector))
    for slot in space.slots:
        for site in slot.sites:
            conv = network.get_submodule(site.conv)
            assert type(conv) is nn.Conv2d
            assert conv.weight.shape[:2] == (conv.out_channels, conv.in_channels)
    more = refiner.search_space(model, x, granularity="group", candidates=["convs", "no_branch"])
    assert any("no_branch" in names for names in more.candidates)
    kernels = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5), nn.ReLU())
    assert refiner.search_space(kernels, x, candidates=["convs"]).candidates == (
        ("original", "conv3x3"),
    )
    with pytest.raises(refiner.RefinerError, match="convs is named twice"):
        refiner.search_space(model, x, candidates=["convs", "convs"])
