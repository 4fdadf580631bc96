from pathlib import Path

import pytest

from refiner.core.errors import ConfigError
from refiner.runs.recipe import RecipeSettings, Scale


def test_what_a_scale_shrinks_and_says() -> None:
    scale = Scale(0.25)
    assert scale.count("images", 1000) == 250
    assert scale.count("epochs", 10, least=5) == 5
    assert scale.count("epochs of warm-up", 1) == 1
    assert scale.width("channels", 64) == 32
    assert scale.width("channels of another", 8) == 8
    assert Scale(0.25).width("side", 112, step=16) == 64
    assert Scale(0.01).width("side", 112, step=16, least=48) == 48
    assert scale.notes == (
        "scale 0.25 of the experiment, so its figures are not the paper's: images 250 of 1,000; "
        "epochs 5 of 10; channels 32 of 64",
    )


def test_the_whole_experiment_is_as_it_is() -> None:
    scale = Scale()
    assert (scale.count("images", 7), scale.width("channels", 36)) == (7, 36)
    assert scale.notes == ()


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_a_scale_out_of_range(share: float) -> None:
    with pytest.raises(ConfigError, match="the scale is"):
        Scale(share)


def test_settings_are_handed_on() -> None:
    settings = RecipeSettings(out=Path("x"), seed=3, device="cpu")
    assert settings.running()["seed"] == 3
    assert set(settings.running()) == {"seed", "device", "precision", "progress", "provenance"}
