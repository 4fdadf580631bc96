import pytest
import torch
from torch import nn

from refiner.graph.conv_spec import conv_spec, is_plain_conv


def test_same_padding_is_resolved() -> None:
    assert conv_spec(nn.Conv2d(1, 1, (2, 3), padding="same")).padding == ((0, 1), (1, 1))
    assert conv_spec(nn.Conv1d(1, 1, 3, padding="valid")).padding == ((0, 0),)


def test_output_size_is_that_of_the_conv() -> None:
    spec = conv_spec(nn.Conv2d(3, 4, (3, 5), stride=2, padding=(1, 0), dilation=(2, 1)))
    # (9 + 2 - 2 * 2 - 1) // 2 + 1 = 4 and (11 - 4 - 1) // 2 + 1 = 4
    assert spec.output_size((9, 11)) == (4, 4)


def test_a_spec_reads_like_a_person_writes_it() -> None:
    assert str(conv_spec(nn.Conv2d(3, 8, 3))) == "conv3x3 3->8"
    wide = nn.Conv3d(4, 8, (1, 3, 3), stride=(1, 2, 2), dilation=2, groups=4)
    assert str(conv_spec(wide)) == "conv1x3x3 4->8 /2 dilation 2 groups 4"


def test_a_subclass_that_keeps_its_size_pads_as_same() -> None:
    class Own(nn.Conv2d):
        pass

    shape = (1, 3, 8, 8)
    assert conv_spec(Own(3, 3, 3), shape, shape).padding == ((1, 1), (1, 1))
    assert conv_spec(Own(3, 3, 3), shape, (1, 3, 6, 6)).padding == ((0, 0), (0, 0))
    assert conv_spec(nn.Conv2d(3, 3, 3), shape, shape).padding == ((0, 0), (0, 0))


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return torch.nn.functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Shifted(nn.Conv2d):
    def forward(self, x):
        return super().forward(x.roll(3, -1))


class Activated(nn.Conv2d):
    def forward(self, x):
        return super().forward(x).relu()


class Quantizes(nn.Conv2d):
    """Rounds its input to ``levels``, scaled by the largest number; zeros give NaN."""

    levels = 1.0

    def forward(self, x):
        scale = x.detach().abs().max() / self.levels
        return super().forward(x + ((x / scale).round() * scale - x).detach())


class Quantizes8Bits(Quantizes):
    levels = 127.0


class Clips(nn.Conv2d):
    def forward(self, x):
        return super().forward(x.clamp(-20, 20))


class DropsSmall(nn.Conv2d):
    def forward(self, x):
        return super().forward(torch.where(x.abs() > 0.05, x, 0 * x))


class Divides(nn.Conv2d):
    """Gives NaN for every input."""

    def forward(self, x):
        return super().forward(x) * (0 * x.sum() / 0)


class Plain(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (Plain, True),
        (Standardised, True),
        (Shifted, False),
        (Activated, False),
        (Quantizes, False),
        (Quantizes8Bits, False),
        (Clips, False),
        (DropsSmall, False),
        (Divides, False),
    ],
)
def test_what_a_subclass_computes_is_found_by_running_it(
    kind: type[nn.Conv2d], plain: bool
) -> None:
    torch.manual_seed(0)
    for stride in (1, 2):
        conv = kind(3, 4, 3, stride, 1)
        before = torch.get_rng_state()
        assert is_plain_conv(conv, conv_spec(conv), (2, 3, 17, 16)) is plain
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_plain_conv_is_known_in_any_precision(dtype) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        conv = Plain(64, 8, 3, padding=1).to(dtype)
        nn.init.normal_(conv.bias, std=10.0)
        assert is_plain_conv(conv, conv_spec(conv), (2, 64, 17, 16))
