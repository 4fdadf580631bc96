import pytest
from refiner.cli.request import RunRequest, TrainRequest, kept_form, request_from

from refiner.core.errors import ConfigError, RunError
from refiner.runs.settings import DISTILLED_SEARCH


def test_weights_mean_that_a_trained_model_is_refined() -> None:
    assert not RunRequest.of("timm:resnet18", {}).distilled
    assert RunRequest.of("timm:resnet18", {"weights": "w.pt"}).distilled
    assert RunRequest.of("timm:resnet18", {"pretrained": True}).distilled
    assert not RunRequest.of("timm:resnet18", {"pretrained": True, "distill": False}).distilled
    assert not RunRequest.of("timm:resnet18", {"pretrained": True, "warmup_epochs": 2}).distilled


def test_a_trained_model_is_fine_tuned_gently_with_a_teacher() -> None:
    settings = RunRequest.of("timm:resnet18", {"pretrained": True, "epochs": 3}).settings()
    assert settings.train is not None
    assert (settings.train.epochs, settings.train.lr_max) == (3, 0.01)
    assert settings.train.teacher_weight == 0.9
    assert settings.search is not None
    assert settings.search.trials == DISTILLED_SEARCH.trials
    assert settings.search.weights.teacher_weight == 0


def test_without_labels_the_teacher_is_all() -> None:
    given = {"pretrained": True, "unlabelled": True, "teacher": "pretrained"}
    settings = RunRequest.of("timm:resnet18", given).settings()
    assert settings.train is not None
    assert settings.train.teacher_weight == 1
    assert TrainRequest.of("timm:resnet18", given).config().teacher_weight == 1


def test_an_average_is_taken_of_the_refined_network_alone() -> None:
    settings = RunRequest.of("timm:resnet18", {"pretrained": True, "ema": 0.9}).settings()
    assert settings.train is not None
    assert settings.search is not None
    assert (settings.train.ema, settings.search.weights.ema) == (0.9, 0)


def test_a_small_learning_rate_lowers_the_least_one() -> None:
    config = TrainRequest.of("timm:resnet18", {"lr": 1e-6}).config()
    assert config.lr_min == config.lr_max == 1e-6


def test_a_request_survives_its_folder() -> None:
    request = RunRequest.of("timm:resnet18", {"budget": ["macs=60%"], "trials": 7})
    kept = kept_form(request)
    assert request_from(RunRequest, kept, "DIR") == request
    with pytest.raises(RunError, match="no run that this command began"):
        request_from(TrainRequest, kept, "DIR")
    for name, value in (
        ("trials", "many"),
        ("budget", 7),
        ("lr", [1]),
        ("model_arg", {}),
        ("seed", 0.5),
    ):
        with pytest.raises(RunError, match="DIR holds a"):
            request_from(RunRequest, {**kept, name: value}, "DIR")


def test_a_folder_never_asks_to_be_trusted() -> None:
    given = {"trust_weights": True, "weights": "w.pt"}
    kept = kept_form(RunRequest.of("timm:resnet18", given))
    assert "trust_weights" not in kept
    forged = request_from(RunRequest, {**kept, **given, "trust": True}, "DIR")
    assert not forged.source.trust_weights
    assert forged.trusting(True).source.spec().trust_weights


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"distill": True, "warmup_epochs": 1}, "Leave one of them out"),
        ({"distill": True}, "has none here"),
        ({"verify": ["pairs.txt"], "epochs": 0}, "Give --epochs 1"),
        ({"budget": ["macs"]}, "is not a budget"),
        ({"trials": 0}, "trials is 0"),
        ({"unlabelled": True}, "follows the outputs of a trained model"),
        ({"pretrained": True, "unlabelled": True, "teacher_weight": 1.0}, "Leave one of them"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, message) -> None:
    with pytest.raises(ConfigError, match=message):
        RunRequest.of("timm:resnet18", given).check()


def test_a_model_has_to_be_named() -> None:
    with pytest.raises(ConfigError, match="no MODEL is named"):
        RunRequest.of(None, {})
