import copy

import pytest
import torch
from lightning_modules import trainer, written
from torch import nn

from refiner.core.errors import ModelError, RunError
from refiner.core.lightning_modules import (
    check_module,
    detached,
    has_own_steps,
    is_lightning,
    lightning_class,
    overrides,
    plain,
    scriptable,
    stored_arguments,
    version_of,
)
from refiner.core.models import ModelSpec
from refiner.core.user_code import only_named

lightning = pytest.importorskip("lightning")


@pytest.fixture
def lit(tmp_path):
    return written(tmp_path)


@pytest.fixture
def fitted(lit, tmp_path):
    model = lit.Classifier(width=6)
    trainer(tmp_path, enable_checkpointing=False).fit(model, datamodule=lit.Colours())
    return model


def test_modules_of_both_packages_are_known(lit) -> None:
    assert is_lightning(lit.Classifier())
    assert not is_lightning(nn.Linear(1, 1))
    other = pytest.importorskip("pytorch_lightning")
    model = type("Other", (other.LightningModule,), {})()
    assert is_lightning(model)
    assert not has_own_steps(model)
    assert version_of(model) == other.__version__


def test_a_module_leaves_its_trainer_behind(fitted) -> None:
    alone = detached(fitted)
    assert alone is not fitted
    assert type(alone) is type(fitted)
    assert alone._trainer is None
    assert fitted._trainer is not None, "the caller's module stays as it is"
    assert torch.equal(alone.net[0].weight, fitted.net[0].weight)
    assert detached(alone) is alone


def test_torchscript_may_ask_for_the_trainer_inside(lit) -> None:
    model = lit.Classifier()
    with pytest.raises(RuntimeError, match="not attached"):
        model.trainer  # noqa: B018
    with scriptable(model):
        assert model.trainer is None
    with pytest.raises(RuntimeError, match="not attached"):
        model.trainer  # noqa: B018


def test_a_class_is_built_from_its_checkpoint(fitted, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    fitted.trainer.save_checkpoint("last.ckpt")
    spec = ModelSpec(source="lightning:lit.py:Classifier", weights="last.ckpt")
    spec = spec.with_stored_arguments()
    assert spec.arguments == {"width": 6, "lr": 0.1}
    assert torch.equal(spec.build().net[0].weight, fitted.net[0].weight)
    named = ModelSpec(source=spec.source, weights="last.ckpt", arguments={"lr": 0.2})
    assert named.with_stored_arguments().arguments == {"width": 6, "lr": 0.2}
    other = ModelSpec(source="timm:resnet18", weights="last.ckpt")
    assert other.with_stored_arguments() is other


def test_a_checkpoint_runs_no_code(fitted, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "hyper_parameters": {"width": nn.Linear(1, 1)}}, "bad.ckpt")
    spec = ModelSpec(source="lightning:lit.py:Classifier", weights="bad.ckpt")
    with pytest.raises(ModelError, match=r"bad\.ckpt"):
        spec.with_stored_arguments()


def test_a_folder_may_not_name_a_class(lit, tmp_path) -> None:
    source = f"lightning:{tmp_path / 'lit.py'}:Classifier"
    with only_named("run", ()), pytest.raises(RunError, match="asks to run"):
        lightning_class(source)
    with only_named("run", (source,)):
        assert lightning_class(source).__name__ == "Classifier"


def test_other_classes_are_refused(lit, tmp_path) -> None:
    with pytest.raises(ModelError, match="no LightningModule"):
        lightning_class(f"lightning:{tmp_path / 'lit.py'}:net")


def test_arguments_are_plain_and_those_of_the_class() -> None:
    class Whole(nn.Module):
        def __init__(self, conf) -> None:
            super().__init__()

    class Any(nn.Module):
        def __init__(self, **options) -> None:
            super().__init__()

    kept = {"width": 2, "blocks": [1, 2], "net": nn.Linear(1, 1), "_instantiator": "x"}
    assert plain(kept) == {"width": 2, "blocks": [1, 2], "_instantiator": "x"}
    content = {"hyper_parameters": kept, "hparams_name": "kwargs"}
    assert stored_arguments(nn.Identity, {"hyper_parameters": 3}) == {}
    assert stored_arguments(Any, content) == {"width": 2, "blocks": [1, 2]}
    assert stored_arguments(Whole, content) == {}
    assert stored_arguments(Whole, {**content, "hparams_name": "conf"}) == {"conf": plain(kept)}


def test_modules_that_cannot_be_refined_are_refused(lit) -> None:
    model = lit.Classifier()
    assert overrides(model, "training_step")
    assert not overrides(model, "test_step")
    check_module(model)
    model.automatic_optimization = False
    with pytest.raises(ModelError, match="steps its optimizers itself"):
        check_module(model)
    bare = type("Bare", (lightning.LightningModule,), {})()
    with pytest.raises(ModelError, match="has no forward"):
        check_module(bare)


def test_a_detached_module_can_be_copied(fitted) -> None:
    assert copy.deepcopy(detached(fitted)).net[0].weight.shape == (6, 3, 3, 3)
