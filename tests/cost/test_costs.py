import pytest
import timm
import torch
import torch.nn.functional as F
from models import TinyResNet, images
from torch import nn
from torchvision.models import vit_b_16

from refiner.cost.costs import measure_cost, slot_costs
from refiner.space.rewriting import rewrite
from refiner.space.search_space import search_space


def test_macs_and_parameters_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)
    )
    cost = measure_cost(model, images(count=4, size=8))
    assert cost.macs == 64 * 8 * 27 + 512 * 10
    assert cost.params == 8 * 27 + 8 + 512 * 10 + 10
    assert cost.thop_macs == cost.macs
    assert cost.uncounted == ("relu x 1",)
    assert cost.notes == ()


def test_resnet18_as_its_card_says_and_thop_agrees() -> None:
    cost = measure_cost(timm.create_model("resnet18"), images(size=224))
    assert cost.macs == cost.thop_macs == 1_814_073_344
    assert cost.params == 11_689_512


def test_thop_counts_subclasses_of_conv() -> None:
    model = timm.create_model("resnetv2_50")  # StdConv2d throughout
    cost = measure_cost(model, images(count=1, size=64))
    assert cost.thop_macs == cost.macs > 0


def test_where_the_counters_differ_it_is_said() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

        def forward(self, x):
            return F.conv2d(x, self.weight)

    cost = measure_cost(nn.Sequential(Functional(), nn.Conv2d(4, 4, 1)), images())
    assert cost.macs == 36 * (4 * 27 + 16)
    assert "torch's figure is used" in cost.notes[0]


def test_keyword_inputs_are_counted_by_both() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, *, image):
            return self.conv(image)

    cost = measure_cost(Named(), {"image": images()})
    assert cost.macs == cost.thop_macs == 36 * 4 * 27


def test_the_model_is_left_as_it_was() -> None:
    model = TinyResNet().train()
    names = list(model.state_dict())
    measure_cost(model, images())
    assert list(model.state_dict()) == names
    assert all(m.training for m in model.modules())
    assert not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("granularity", ["conv", "block"])
def test_slot_costs_add_up_to_the_rewritten_model(granularity) -> None:
    model, x = TinyResNet(), images()
    space = search_space(model, x, granularity=granularity)
    before, costs = measure_cost(model, x), slot_costs(space)
    for vector in ((1, 2, 3, 1), (3, 0, 0, 2)):
        vector = vector[: len(space.slots)]
        after = measure_cost(rewrite(model, space.architecture(vector)), x)
        chosen = [(c[i], c[0]) for c, i in zip(costs, vector, strict=True)]
        assert after.macs == before.macs + sum(n.macs - o.macs for n, o in chosen)
        assert after.params == before.params + sum(n.params - o.params for n, o in chosen)


def test_each_uncounted_operation_comes_with_how_often_it_ran() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ReLU(), nn.Sigmoid())
    assert measure_cost(model, images()).uncounted == ("relu x 2", "sigmoid x 1")


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.qkv = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 48)

    def forward(self, x):
        x = self.conv(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).view(len(x), -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v)


def test_attention_by_hand_and_a_note_that_thop_does_not_see_it() -> None:
    cost = measure_cost(Attends(), images(count=2, size=8))
    linear = 64 * 16 * 27 + 64 * 16 * 48
    assert cost.macs == linear + 2 * 64 * 64 * 16
    assert cost.thop_macs == linear
    assert cost.missed == ()
    assert "thop, which sees layers alone" in cost.notes[0]


def test_vit_b_16_as_its_card_says() -> None:
    with torch.device("meta"):
        cost = measure_cost(vit_b_16(), torch.empty(1, 3, 224, 224), cross_check=False)
    assert cost.macs == 17_563_828_224  # 17.56 GFLOPS, as torchvision's page calls MACs
    assert cost.params == 86_567_656


def test_what_nobody_counts_is_named_with_the_number_of_calls() -> None:
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return torch.fft.irfft2(torch.fft.rfft2(self.conv(x)))

    cost = measure_cost(Fourier(), images(size=8))
    assert cost.macs == 64 * 12
    assert cost.missed == ("_fft_c2r x 1", "_fft_r2c x 1")
    assert set(cost.missed) <= set(cost.uncounted)
    assert cost.notes == (
        "not counted, though they may multiply and accumulate: _fft_c2r x 1, _fft_r2c x 1. "
        "The MACs are those of all else",
    )
