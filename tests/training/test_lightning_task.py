import copy

import pytest
import torch
import torch.nn.functional as F
from lightning_modules import written

from refiner.core.errors import ConfigError, DataError, ModelError
from refiner.training.agreement import LOGITS, Agreement, compared_by
from refiner.training.lightning_task import (
    LightningClassification,
    LightningLoss,
    lightning_task,
    training_loss,
    validation_loss,
)
from refiner.training.task import Classification
from refiner.training.teacher import WithTeacher

lightning = pytest.importorskip("lightning")


@pytest.fixture
def lit(tmp_path):
    return written(tmp_path)


@pytest.fixture
def batch(lit):
    images = lit.dataset(12)
    return images.tensors[0], images.tensors[1]


def variant(kind, **methods):
    """Return a module of a class with other methods."""
    return type("Variant", (kind,), methods)()


def test_the_loss_is_that_of_training_step(lit, batch) -> None:
    model = lit.Classifier().eval()
    task = lightning_task(model, batch)
    assert isinstance(task, LightningClassification)
    assert task.metric == "accuracy"
    assert compared_by(task) == LOGITS
    loss = task.loss(model, batch)
    torch.testing.assert_close(loss, 2 * F.cross_entropy(model(batch[0]), batch[1]))
    assert loss.requires_grad
    assert "log" not in vars(model)
    assert torch.equal(task.measure(model, batch), Classification().measure(model, batch))


def test_metrics_are_left_as_new(lit, batch, recwarn) -> None:
    model = lit.Classifier()
    validation_loss(model, batch)
    assert int(model.accuracy.tp.sum()) == 0
    assert not [each for each in recwarn if "self.log" in str(each.message)]


def test_other_modules_are_scored_by_their_validation_loss(lit, batch) -> None:
    model = lit.Painter().eval()
    task = lightning_task(model, batch)
    assert isinstance(task, LightningLoss)
    expected = F.mse_loss(model.net(batch[0]), batch[0]).detach()
    sums = task.measure(model, batch) + task.measure(model, batch)
    assert task.score(sums) == pytest.approx(-float(expected))
    assert int(sums[1]) == 24
    torch.testing.assert_close(task.loss(model, batch), expected)


def test_without_a_validation_step_the_training_loss_counts(lit, batch) -> None:
    base = lightning.LightningModule
    model = variant(lit.Painter, validation_step=base.validation_step)
    torch.testing.assert_close(validation_loss(model, batch), training_loss(model, batch))


def test_what_the_steps_call_is_compared(lit, batch) -> None:
    model, other = lit.Painter().eval(), lit.Painter().eval()
    task = lightning_task(model, batch)
    assert task.compared_network(model) is model.net
    agreement = Agreement(task, copy.deepcopy(model))
    assert agreement.score(agreement.measure(model, batch)) == 0
    ours, theirs = other.net(batch[0]), model.net(batch[0])
    expected = -float(F.mse_loss(ours, theirs) / theirs.var(correction=0))
    assert agreement.score(agreement.measure(other, batch)) == pytest.approx(expected, rel=1e-4)
    loss = WithTeacher(task, model, weight=1.0).loss(other, batch)
    assert float(loss) == pytest.approx(-expected, rel=1e-4)


def test_shares_of_classes_are_no_logits(lit, batch) -> None:
    model = variant(lit.Classifier, forward=lambda self, x: self.net(x).softmax(1))
    assert isinstance(lightning_task(model, batch), LightningLoss)
    images, labels = batch
    assert isinstance(lightning_task(lit.Classifier(), (images, labels)), LightningClassification)


def test_logits_inside_are_compared_where_forward_gives_shares(lit, batch) -> None:
    model = variant(
        lit.Classifier,
        forward=lambda self, x: self.net(x).softmax(1),
        training_step=lambda self, batch, i: F.cross_entropy(self.net(batch[0]), batch[1]),
    )
    task = lightning_task(model, batch)
    assert isinstance(task, LightningClassification)
    assert task.network == "net"


def test_the_model_and_the_generators_stay_as_they_are(lit, batch) -> None:
    model = lit.Classifier().train()
    state, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    lightning_task(model, batch)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert model.training
    assert model.net[0].weight.grad is None


def _uses_trainer(self, batch, batch_idx):
    return self.trainer.max_epochs * self(batch[0]).sum()


def _calls_parts(self, batch, batch_idx):
    return F.mse_loss(self.net[2](self.net[1](self.net[0](batch[0]))), torch.ones(12, 8, 8, 8))


@pytest.mark.parametrize(
    ("methods", "error", "message"),
    [
        ({"training_step": _uses_trainer}, ConfigError, r"uses self\.trainer"),
        ({"training_step": lambda self, batch, i: None}, ConfigError, "gives no loss"),
        ({"training_step": _calls_parts}, ConfigError, r"Call self\(x\) in its steps"),
        ({"training_step": lambda self, batch, i: batch["x"]}, DataError, "fails on a batch"),
        ({"forward": lightning.LightningModule.forward}, ModelError, "has no forward"),
    ],
)
def test_steps_that_do_not_work_are_refused(lit, batch, methods, error, message) -> None:
    with pytest.raises(error, match=message):
        lightning_task(variant(lit.Classifier, **methods), batch)


def test_a_validation_step_without_a_loss_is_refused(lit, batch) -> None:
    model = variant(
        lit.Painter, validation_step=lambda self, batch: self.log("psnr", self.net(batch[0]).sum())
    )
    with pytest.raises(ConfigError, match="log it as val_loss"):
        lightning_task(model, batch)


def test_what_has_no_steps_is_not_scored_by_them(lit, batch) -> None:
    model = lit.Painter()
    with pytest.raises(ConfigError, match="has no validation_step"):
        lightning_task(model, batch).measure(model.net, batch)


def test_several_processes_are_refused(lit, batch, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        lightning_task(lit.Classifier(), batch)
