import pytest
import torch
from torch import nn

from refiner.core.errors import TrainingError
from refiner.distill.candidate_fit import LearnedFit, LeastSquaresFit, LowRankFit
from refiner.distill.depthwise import DepthwiseFit
from refiner.distill.fitting import ConvFit
from refiner.distill.grouped import GroupedFit
from refiner.distill.sum_table import SumTable
from refiner.space.operations import LowRank
from refiner.training.devices import Devices

DEVICES = Devices.choose("cpu", "no")


TABLE = SumTable(rows_per_feature=30, batches=8, seed=0)


def conv_fit(conv: nn.Module, **operations: nn.Module) -> ConvFit:
    return ConvFit("here", conv, operations, TABLE, centred=False)


def test_an_error_is_in_units_of_the_variance_of_the_output() -> None:
    conv = nn.Conv2d(2, 2, 1, bias=False)
    zero, same = (nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Identity()) for _ in range(2))
    with torch.no_grad():
        zero[0].weight.zero_()
        same[0].weight.copy_(conv.weight)
    x = torch.randn(8, 2, 6, 6)
    x -= x.mean((0, 2, 3), keepdim=True)  # then zero is as good as the mean
    fit = conv_fit(conv, zero=zero, same=same)
    assert fit.is_measured
    fit.measure(x, conv(x).detach())
    errors = fit.errors(DEVICES)
    assert errors["zero"] == pytest.approx(1.0, abs=1e-4)
    assert errors["same"] == 0.0


def test_a_last_conv_is_solved_for_and_what_is_before_it_learns() -> None:
    conv = nn.Conv2d(3, 4, 1, bias=True)
    pointwise = nn.Conv2d(3, 4, 1)
    group = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 1))
    fit = conv_fit(conv, pointwise=pointwise, group=group)
    assert fit.parameters() == list(group.parameters())
    assert not fit.is_measured
    x = torch.randn(4, 3, 9, 9)
    fit.add_gradients(x, conv(x).detach())
    assert group[0].weight.grad is not None
    assert pointwise.weight.grad is None


def test_an_output_that_is_not_finite_is_refused() -> None:
    fit = conv_fit(nn.Conv2d(2, 2, 1), pointwise=nn.Conv2d(2, 2, 1)).fits["pointwise"]
    fit.sums.add(torch.ones(1, 2, 3, 3), torch.full((1, 2, 3, 3), float("nan")))
    with pytest.raises(TrainingError, match="the output of here is not finite"):
        fit.solve(DEVICES)


def test_the_kind_of_a_candidate_decides_how_it_is_fitted() -> None:
    def low_rank() -> LowRank:
        return LowRank(nn.Conv2d(3, 2, 3, padding=1, bias=False), nn.Conv2d(2, 4, 1))

    class Scaled(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self._conv_forward(x, 2 * self.weight, self.bias)

    operations = {
        "low_rank": low_rank(),
        "pointwise": nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.Conv2d(3, 4, 1)),
        "dense": nn.Conv2d(3, 4, 3, padding=1),
        "pool": nn.AvgPool2d(3, 1, 1),
        "groups": nn.Sequential(nn.ChannelShuffle(1), nn.Conv2d(4, 4, 3, padding=1, groups=2)),
        "depthwise": nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), nn.Conv2d(3, 4, 1)
        ),
        "biased": nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, groups=3), nn.Conv2d(3, 4, 1)),
    }
    fit = conv_fit(nn.Conv2d(3, 4, 3, padding=1), **operations)
    kinds = [
        LowRankFit, LeastSquaresFit, LeastSquaresFit, LearnedFit, GroupedFit, DepthwiseFit,
        LeastSquaresFit,
    ]  # fmt: skip
    assert [type(each) for each in fit.fits.values()] == kinds
    learned = list(operations["biased"].parameters())
    assert fit.parameters() == learned
    # The principal components need the weight that the conv really uses.
    scaled = conv_fit(Scaled(3, 4, 3, padding=1), low_rank=low_rank())
    assert type(scaled.fits["low_rank"]) is LeastSquaresFit
    assert len(scaled.parameters()) == 3


@pytest.mark.parametrize("centred", [True, False])
def test_whether_means_count_is_passed_on_and_a_bias_makes_them_free(centred: bool) -> None:
    def operations(bias: bool) -> dict[str, nn.Module]:
        return {
            "pointwise": nn.Conv2d(3, 4, 1, bias=bias),
            "low_rank": LowRank(nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(2, 4, 1, bias=bias)),
            "pool": nn.AvgPool2d(3, 1, 1),
            "depthwise": nn.Sequential(
                nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), nn.Conv2d(3, 4, 1, bias=bias)
            ),
        }

    def of(bias: bool) -> dict[str, bool]:
        fit = ConvFit("c", nn.Conv2d(3, 4, 3, padding=1), operations(bias), TABLE, centred=centred)
        return {name: each.centred for name, each in fit.fits.items()}

    assert of(bias=False) == dict.fromkeys(operations(False), centred)
    assert of(bias=True) == dict.fromkeys(operations(True), True) | {"pool": centred}


def test_errors_are_means_over_the_batches() -> None:
    conv, zero = nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False)
    nn.init.zeros_(zero.weight)
    fit = conv_fit(conv, zero=nn.Sequential(zero, nn.Identity()))
    y = torch.tensor([[[[1.0, -1.0]]]])
    for offset in (0.0, 2.0):  # squared errors 1, 1 and 9, 1 over a variance of 1
        fit.measure(y, y + offset)
    assert fit.errors(DEVICES)["zero"] == pytest.approx((1 + 5) / 2)


@pytest.mark.parametrize(
    ("conv", "solved"),
    [
        (nn.Conv2d(4, 4, 1), True),
        (nn.Conv1d(4, 4, 1, padding="same"), True),
        (nn.Conv2d(4, 4, 1, groups=2), False),
        (nn.Conv2d(4, 4, 1, padding=1), True),
        (nn.Conv2d(4, 4, 1, stride=2), True),
        (nn.Conv2d(4, 4, 3, padding="same"), True),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), False),
        (nn.Sequential(), False),
    ],
    ids=["plain", "1d", "grouped", "padded", "strided", "3x3", "before a relu", "empty"],
)
def test_a_dense_conv_at_the_end_is_solved_for(conv: nn.Module, solved: bool) -> None:
    (fit,) = conv_fit(nn.Conv2d(4, 4, 1), operation=conv).fits.values()
    assert isinstance(fit, LeastSquaresFit) == solved
