import pytest

from refiner.core.errors import ConfigError
from refiner.core.options import options_of
from refiner.training.train_config import TrainConfig


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigError, match="epochs is -1"):
        TrainConfig(epochs=-1)
    with pytest.raises(ConfigError, match="^lr_m"):
        TrainConfig(lr_max=0.0)
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match="ema is"):
            TrainConfig(ema=decay)
    with pytest.raises(ConfigError, match="warmup_steps is -1"):
        TrainConfig(warmup_steps=-1)
    with pytest.raises(ConfigError, match="unknown schedule 'linear'"):
        TrainConfig(schedule="linear")


def test_options_of_the_command_are_declared_with_their_defaults() -> None:
    found = {
        name: (f.default, o.flag, o.choices) for name, (f, o) in options_of(TrainConfig).items()
    }
    assert found == {
        "epochs": (15, None, ()),
        "lr_max": (0.1, "--lr", ()),
        "schedule": ("sgdr", None, ("sgdr", "cosine", "step")),
        "teacher_weight": (0.0, None, ()),
        "ema": (0.0, None, ()),
    }
    assert {shown.panel for _, shown in options_of(TrainConfig).values()} == {"Fine-tuning"}


def test_learning_rates_go_from_the_largest_to_the_least() -> None:
    config = TrainConfig(lr_max=0.1, lr_min=0.02, schedule="cosine")
    rates = [config.learning_rate(epoch, 4) for epoch in (0, 2, 4)]
    assert rates == pytest.approx([0.1, 0.06, 0.02])


def test_the_learning_rate_rises_over_the_steps_of_a_warm_up() -> None:
    config = TrainConfig(lr_max=0.08, lr_min=0.0, schedule="step", warmup_steps=3)
    rates = [config.learning_rate(0.0, 4, step) for step in range(5)]
    assert rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.08])


@pytest.mark.parametrize("name", ["momentum", "weight_decay", "gradient_clip", "lr_max", "lr_min"])
def test_a_setting_that_is_no_number_is_refused(name) -> None:
    with pytest.raises(ConfigError, match="Give"):
        TrainConfig(**{name: float("nan")})


@pytest.mark.parametrize("rates", [(0.1, 0.2), (0.1, -0.1), (0.0, 0.0)])
def test_learning_rates_out_of_order_are_refused(rates: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="^lr_m"):
        TrainConfig(lr_max=rates[0], lr_min=rates[1])
    for name, value in (("momentum", -0.1), ("weight_decay", -1.0), ("gradient_clip", 0.0)):
        with pytest.raises(ConfigError, match=name):
            TrainConfig(**{name: value})
    for share in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="teacher_weight is"):
            TrainConfig(teacher_weight=share)
    assert TrainConfig(teacher_weight=1.0, gradient_clip=1e-9).teacher_weight == 1.0


def test_a_trained_model_is_fine_tuned_with_a_teacher() -> None:
    config = TrainConfig.fine_tuning(epochs=3, schedule="cosine")
    assert (config.epochs, config.schedule) == (3, "cosine")
    assert config.teacher_weight > 0
    assert config.lr_max < TrainConfig().lr_max
    assert TrainConfig.fine_tuning(teacher_weight=1.0).teacher_weight == 1
