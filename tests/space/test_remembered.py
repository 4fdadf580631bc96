import copy

import pytest
import torch
from lightning_modules import written
from models import PlainNet

import refiner
from refiner.core.errors import ArchitectureError
from refiner.core.types import ARCHITECTURE_KEY
from refiner.space.remembered import architectures_in, remember, remembered

pytest.importorskip("lightning")
X = torch.randn(2, 3, 8, 8)


@pytest.fixture
def rewritten(tmp_path):
    model = written(tmp_path).Classifier()
    space = refiner.search_space(model, X, granularity="conv")
    return model, refiner.rewrite(model, space.architecture([1] * len(space.slots)))


def test_checkpoints_hold_the_architecture(rewritten) -> None:
    model, network = rewritten
    assert remembered(model) == ()
    (architecture,) = remembered(network)
    checkpoint = {}
    network.on_save_checkpoint(checkpoint)
    assert architectures_in(checkpoint, "x.ckpt") == [architecture]
    assert architectures_in({}, "x.ckpt") == []


def test_a_copy_remembers_for_itself(rewritten) -> None:
    twin = copy.deepcopy(rewritten[1])
    assert twin.on_save_checkpoint.module is twin
    remember(twin, rewritten[0], remembered(twin)[0])
    assert len(remembered(twin)) == 1, "counted from the original"


def test_the_hook_of_the_users_class_is_called(tmp_path) -> None:
    class Saving(written(tmp_path).Classifier):
        def on_save_checkpoint(self, checkpoint):
            checkpoint["mine"] = 1

    model = Saving()
    space = refiner.search_space(model, X, granularity="conv")
    checkpoint = {}
    refiner.rewrite(model, space.architecture([1] * len(space.slots))).on_save_checkpoint(
        checkpoint
    )
    assert checkpoint["mine"] == 1
    assert len(checkpoint[ARCHITECTURE_KEY]) == 1


def test_other_models_stay_as_they_are() -> None:
    model = PlainNet()
    before = set(vars(model))
    remember(model, model, None)
    assert set(vars(model)) == before


@pytest.mark.parametrize("kept", [3, ["{"], [[]]])
def test_damage_is_one_line(kept) -> None:
    with pytest.raises(ArchitectureError, match=r"x\.ckpt"):
        architectures_in({ARCHITECTURE_KEY: kept}, "x.ckpt")
