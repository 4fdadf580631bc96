import pytest
import torch
from small_detectors import batch, small
from torch import nn

from refiner.core.errors import ConfigError
from refiner.runs.look import classifies, look_at
from refiner.training.detection_task import Detection
from refiner.training.devices import Devices
from refiner.training.task import Classification, Regression

CPU = Devices.choose("cpu")
X = torch.arange(24.0).reshape(4, 2, 3)
MODEL = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))


def test_the_scale_and_the_score_by_hand() -> None:
    labels = MODEL(X).argmax(1)
    look = look_at(
        MODEL, [(X[:3], labels[:3]), (X[3:], (labels[3:] + 1) % 3)], Classification(), CPU
    )
    assert look.score == 0.75
    assert look.images == 4
    assert look.classes == 3
    assert look.hits is not None
    assert look.hits.tolist() == [True, True, True, False]
    assert look.scale is not None
    assert look.scale.shape == (2, 3)
    assert look.scale.low.tolist() == [0, 3]
    assert look.scale.high.tolist() == [20, 23]
    assert look.scale.mean == pytest.approx(11.5)
    assert look.scale.std == pytest.approx(float(X.std(correction=0)))
    assert str(look.scale) == "inputs 2x3 from 0 to 23 (mean 11.5, std 6.92)"
    assert not MODEL._forward_hooks
    assert not MODEL._forward_pre_hooks


def test_a_change_is_applied_to_the_images() -> None:
    batches = [(X, MODEL(2 * X))]
    assert look_at(MODEL, batches, Regression(), CPU).score < 1
    assert look_at(MODEL, batches, Regression(), CPU, lambda x: 2 * x).score == pytest.approx(1)


def test_what_is_constant_or_not_finite_is_seen() -> None:
    labels = torch.zeros(4).long()
    look = look_at(MODEL, [(X, labels)], Classification(), CPU)
    assert not look.constant
    assert look.finite_inputs
    assert look.finite_outputs
    zero = nn.Sequential(nn.Flatten(), nn.Linear(6, 3))
    nn.init.zeros_(zero[1].weight)
    assert look_at(zero, [(X[:2], labels[:2]), (X[2:], labels[2:])], Classification(), CPU).constant
    bad = look_at(MODEL, [(X / 0, labels)], Classification(), CPU)
    assert not bad.finite_inputs
    assert not bad.finite_outputs


def test_a_score_that_is_no_number_is_refused() -> None:
    class Wrong(Classification):
        def score(self, sums):
            return None

    with pytest.raises(ConfigError, match=r"Wrong\.score gives a NoneType"):
        look_at(MODEL, [(X, torch.zeros(4).long())], Wrong(), CPU)
    assert classifies(Classification())
    assert not classifies(Wrong())
    assert not classifies(Regression())


def test_the_part_that_is_compared_is_looked_at() -> None:
    class Inner(Classification):
        def measure(self, model, batch):
            return super().measure(model[0], batch)

        def compared_network(self, model):
            return model[0]

    model = nn.Sequential(MODEL, nn.Softmax(1))
    assert look_at(model, [(X, torch.arange(4) % 3)], Inner(), CPU).images == 4


def test_a_detector_is_looked_at_before_it_prepares_its_images() -> None:
    detector = small("ssd")
    look = look_at(detector, [batch(4), batch(2)], Detection(), CPU)
    assert look.images == 6
    assert look.scale is not None
    assert look.scale.shape == (3, 64, 64)
    assert 0 <= float(look.scale.low.min()) < float(look.scale.high.max()) <= 1
    assert look.finite_outputs
    assert not look.constant
    seen = []
    hook = detector.backbone.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    look_at(detector, [batch(4)], Detection(), CPU, lambda x: torch.zeros_like(x))
    hook.remove()
    assert len(seen[0].flatten(2).unique(dim=2).flatten(1).unique(dim=0)) == 1, "all images are 0"
    with torch.no_grad():
        detector.backbone.second[0][0].weight.fill_(torch.nan)
    assert not look_at(detector, [batch(4)], Detection(), CPU).finite_outputs
