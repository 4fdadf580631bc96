import pytest
import torch
from models import TinyResNet, images
from torch import nn

import refiner
from refiner.core.errors import ConfigError, ModelError
from refiner.cost.reach import choose_space, shares_in_reach
from refiner.graph.tracing import trace_model
from refiner.space.admissible import Offer


class Pointwise(nn.Module):
    """A stem and two pointwise convs, such as a mobile network has many of."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.first = nn.Conv2d(8, 16, 1)
        self.second = nn.Conv2d(16, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        Pointwise.calls += 1
        return self.second(self.first(self.stem(x)).relu()).mean((2, 3))


def test_the_order_of_preference_follows_from_the_weights() -> None:
    trained, text = choose_space(TinyResNet(), images(), slots="auto", trained=True)
    assert trained.granularity == "group"
    assert text.startswith("--slots auto takes group, which reaches ")
    space, text = choose_space(TinyResNet(), images(), slots="auto", trained=False)
    assert space.granularity == "conv"
    assert space == refiner.search_space(TinyResNet(), images(), granularity="auto")


def test_a_network_of_pointwise_convs_is_not_refused_and_traced_once() -> None:
    with pytest.raises(ModelError):
        refiner.search_space(Pointwise(), images())
    Pointwise.calls = 0
    space, text = choose_space(Pointwise(), images(), slots="auto", trained=False)
    assert space.granularity == "all"
    assert "conv 0 %" in text
    assert Pointwise.calls <= 9


def test_channel_pruning_steers_the_choice_and_a_named_granularity_stands() -> None:
    space, _ = choose_space(
        TinyResNet(), images(), slots="auto", trained=False, offer=Offer(candidates=["keep0.5"])
    )
    assert space.granularity == "group"
    space, text = choose_space(TinyResNet(), images(), slots="block", trained=True)
    assert (space.granularity, text) == ("block", "")
    with pytest.raises(ConfigError, match="unknown candidate"):
        choose_space(
            TinyResNet(), images(), slots="auto", trained=True, offer=Offer(candidates=["keep9"])
        )


def test_networks_without_slots_are_refused() -> None:
    with pytest.raises(ModelError, match="no convs"):
        choose_space(nn.Flatten(), images(), slots="auto", trained=True)


def test_shares_are_of_all_macs() -> None:
    shares = shares_in_reach(trace_model(Pointwise(), images()), images(), Offer())
    assert shares["conv"] == 0
    assert shares["all"] == shares["group"] == pytest.approx(256 / (216 + 256))


@pytest.mark.parametrize("slots", ["conv", "auto"])
def test_candidates_and_larger_ones_are_passed_on(slots) -> None:
    def names(**options) -> set[str]:
        offer = Offer(**options)
        space, _ = choose_space(TinyResNet(), images(), slots=slots, trained=False, offer=offer)
        return {name for row in space.candidates for name in row[1:]}

    assert names(candidates=["avgpool3x3"]) == {"avgpool3x3"}
    larger = ["avgpool3x3", "conv5x5"]
    assert names(candidates=larger) == {"avgpool3x3"}
    assert names(candidates=larger, allow_larger=True) == set(larger)


def test_shares_are_those_of_the_named_candidates() -> None:
    traced = trace_model(TinyResNet(), images())

    def shares(**options) -> dict[str, float]:
        return shares_in_reach(traced, images(), Offer(**options))

    assert set(shares(candidates=["keep0.5"])) == {"group"}
    assert shares(candidates=["conv5x5"], allow_larger=True)["conv"] > 0
    assert shares(candidates=["conv5x5"])["conv"] == 0
