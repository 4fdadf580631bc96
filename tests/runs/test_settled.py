from dataclasses import replace

import pytest
import torch
from lightning_modules import trainer, written
from models import PlainNet
from small_detectors import batch, small

import refiner
from refiner.core.errors import ConfigError, DataError
from refiner.runs.settings import DISTILLED_SEARCH
from refiner.runs.settled import check_example, settled
from refiner.training.detection_task import Detection
from refiner.training.lightning_task import LightningClassification

pytest.importorskip("lightning")


@pytest.fixture
def lit(tmp_path):
    return written(tmp_path)


def test_a_module_and_its_data_module_are_refined(lit, tmp_path) -> None:
    model = lit.Classifier()
    trainer(tmp_path, 2, enable_checkpointing=False).fit(model, datamodule=lit.Colours())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = refiner.refine(
        model, lit.Colours(), budget="macs=70%", distill=refiner.DistillConfig(),
        search=replace(DISTILLED_SEARCH, trials=4), baselines=False, slots="conv", device="cpu",
        refit=refiner.RefitConfig(steps=2), train=refiner.TrainConfig.fine_tuning(epochs=1),
        progress=False, force=True,
    )  # fmt: skip
    assert type(result.model) is lit.Classifier
    assert result.report.metric == "accuracy"
    assert result.model._trainer is None
    assert model._trainer is not None
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    result.export(tmp_path / "refined.ckpt", "lightning")
    x = torch.randn(2, 3, 8, 8)
    loaded = refiner.load_lightning(tmp_path / "refined.ckpt", lit.Classifier).eval()
    torch.testing.assert_close(loaded(x), result.model(x), rtol=0, atol=1e-5)


def test_the_parts_are_those_of_the_data_module(lit) -> None:
    given = settled(lit.Classifier(), lit.Colours(), None, None, "classification")
    assert len(given.train) == 3
    assert len(given.val) == 2
    assert isinstance(given.task, LightningClassification)
    plain = settled(PlainNet(), lit.Colours(), None, None, "classification")
    assert plain.task == "classification"


def test_a_named_task_is_kept(lit) -> None:
    loader, task = lit.DataLoader(lit.dataset(6), 3), refiner.Classification()
    assert settled(lit.Classifier(), loader, None, None, task).task is task
    assert settled(lit.Classifier(), loader, None, None, "regression").task == "regression"


def test_two_sources_of_loaders_are_refused(lit) -> None:
    with pytest.raises(ConfigError, match="Leave the others out"):
        settled(lit.Classifier(), lit.Colours(), [1], None, "classification")


def test_hooks_that_change_batches_are_refused(lit) -> None:
    changed = type("Changed", (lit.Classifier,), {"on_after_batch_transfer": lambda self, b, i: b})
    loader = lit.DataLoader(lit.dataset(6), 3)
    with pytest.raises(DataError, match="changes batches"):
        settled(changed(), loader, None, None, "classification")


def test_a_detector_with_its_batches_brings_its_task() -> None:
    model, pairs = small("ssd"), [(torch.rand(2, 3, 8, 8), torch.zeros(2))]
    assert isinstance(settled(model, [batch()], None, None, "classification").task, Detection)
    assert settled(model, pairs, None, None, "classification").task == "classification"
    assert settled(PlainNet(), [batch()], None, None, "classification").task == "classification"
    assert settled(model, [batch()], None, None, "regression").task == "regression"


def test_detection_batches_want_a_task_that_reads_them() -> None:
    example = ([torch.rand(3, 8, 8)] * 2,)
    for task in (refiner.Classification(), refiner.OwnLoss()):
        with pytest.raises(DataError, match="--task detection, task='detection'"):
            check_example(example, task)
        check_example(torch.rand(2, 3, 8, 8), task)
    check_example(example, Detection())
    with pytest.raises(DataError, match="Name the task that reads them"):
        refiner.refine(PlainNet(), [batch()], [batch()], budget="macs=60%", progress=False)
