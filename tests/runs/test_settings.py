import dataclasses

import pytest
import torch
from models import TinyResNet, images

import refiner
from refiner.core.errors import ConfigError
from refiner.core.options import options_of
from refiner.runs.settings import DISTILLED_SEARCH, ESTIMATED_SEARCH, Settings
from refiner.search.strategies import INFORMED, STRATEGIES


def test_keyword_arguments_become_settings() -> None:
    settings = Settings.of({"budget": "macs=60%", "candidates": ["depthwise3x3"], "seed": 3})
    assert settings.budget == ("macs=60%",)
    assert settings.candidates == ("depthwise3x3",)
    assert settings.seed == 3


def test_a_mistyped_name_is_met_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="Did you mean budget"):
        Settings.of({"budgte": "macs=60%"})


def test_settings_and_keyword_arguments_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="holds seed already"):
        Settings.of({"seed": 1}, Settings())


@pytest.mark.parametrize(
    ("options", "strategy", "search"),
    [
        ({}, "controller", refiner.SearchConfig()),
        ({"budget": "macs=60%"}, "controller", refiner.SearchConfig()),
        ({"distill": refiner.DistillConfig()}, "controller", DISTILLED_SEARCH),
        ({"distill": refiner.DistillConfig(), "budget": "macs=60%"}, "milp", ESTIMATED_SEARCH),
        (
            {"distill": refiner.DistillConfig(), "strategy": "informed_controller"},
            "informed_controller",
            ESTIMATED_SEARCH,
        ),
        ({"strategy": "random"}, "random", refiner.SearchConfig()),
    ],
)
def test_what_is_left_open_follows_from_the_rest(options, strategy, search) -> None:
    resolved = Settings.of(options).resolved()
    assert (resolved.strategy, resolved.search) == (strategy, search)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": "layers"}, "unknown slots"),
        ({"strategy": "luck"}, "luck"),
        ({"budget": "money=3"}, "no budget for 'money'"),
        ({"latency_batch": 0}, "latency_batch is 0. Give 1 or more."),
        ({"search": refiner.TrainConfig()}, "TrainConfig was given for a SearchConfig"),
        (
            {"distill": refiner.DistillConfig(), "search": refiner.SearchConfig()},
            "keeps the weights",
        ),
    ],
)
def test_bad_values_are_refused_at_once(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Settings.of(options)


def test_every_plain_setting_is_an_option_of_the_command() -> None:
    nested = {"distill", "refit", "search", "train"}
    names = {each.name for each in dataclasses.fields(Settings)}
    assert set(options_of(Settings)) == names - nested


def test_config_json_holds_everything_that_a_resumed_run_needs() -> None:
    torch.manual_seed(0)
    space = refiner.search_space(TinyResNet(), images())
    kept = Settings.of({"budget": "macs=60%"}).resolved().to_json(space)
    assert kept["budget"] == "macs=60%"
    assert kept["slots"] == "conv"
    assert len(kept["candidates"]) == len(space.slots)
    assert kept["search"]["trials"] == refiner.SearchConfig().trials


def test_networks_with_weights_are_scored_before_fine_tuning() -> None:
    train = refiner.TrainConfig(epochs=1)

    def phases(**options) -> list[str]:
        return Settings.of({"baselines": False, **options}).resolved().phases()

    fine_tuning = ["train original", "train refined"]
    assert phases(distill=refiner.DistillConfig(), train=train)[-3:] == ["scores", *fine_tuning]
    assert "scores" not in phases(train=train)
    assert phases()[-1] == "scores"


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_effects_are_a_phase_of_trained_models_and_informed_strategies(strategy: str) -> None:
    trained = Settings.of({"distill": refiner.DistillConfig(), "strategy": strategy}).resolved()
    assert ("effects" in trained.phases()) == (strategy in INFORMED)
    assert "effects" not in Settings.of({"strategy": strategy}).resolved().phases()
