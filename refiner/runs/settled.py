"""What a caller gave, settled: loaders of a LightningDataModule, the task that a model brings."""

from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from refiner.core.detection_batches import is_detection
from refiner.core.errors import ConfigError, DataError
from refiner.core.inputs import ExampleInput
from refiner.core.lightning_modules import detached, has_own_steps
from refiner.core.torchvision_detectors import detector_in
from refiner.core.types import DataModule, Loader
from refiner.data.lightning_data import data_of, is_data_module
from refiner.data.loader_checks import check_loader
from refiner.data.loaders import first_batch
from refiner.training.detection_task import Detection
from refiner.training.lightning_task import lightning_task
from refiner.training.own_loss import OwnLoss
from refiner.training.task import Classification, Regression, Segmentation, Task

_DEFAULT_TASK = "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A model without a Trainer, its loaders and its task."""

    model: nn.Module
    train: Loader
    val: Loader | None
    test: Loader | None
    task: Task | str


def settled(
    model: nn.Module,
    loader: Loader | DataModule,
    val_loader: Loader | None,
    test_loader: Loader | None,
    task: Task | str,
) -> Settled:
    """Return what a caller of :func:`refiner.refine` gave, without Lightning's own kinds.

    A LightningModule keeps its class. Its task is that of its own steps, unless another is named.
    That of a detector of torchvision is detection, where the batches have that form.

    Raises:
        RefinerError: a DataModule or a step does not work without a Trainer.
    """
    train: Any = loader
    if is_data_module(loader):
        if val_loader is not None or test_loader is not None:
            raise ConfigError("a DataModule gives its own loaders. Leave the others out.")
        data = data_of(loader)
        train, val_loader, test_loader = data.train, data.val, data.test
    if isinstance(model, nn.Module):
        model = detached(model)
        if task == _DEFAULT_TASK and has_own_steps(model):
            check_loader(train, "training")
            task = lightning_task(model, first_batch(cast(Loader, train)))
        elif task == _DEFAULT_TASK and detector_in(model) is not None:
            check_loader(train, "training")
            task = Detection() if is_detection(first_batch(cast(Loader, train))) else task
    return Settled(model=model, train=train, val=val_loader, test=test_loader, task=task)


def check_example(example: ExampleInput, task: Task) -> None:
    """Raise a DataError where the example is a list of images, which a task cannot pass on."""
    if not isinstance(example, tuple) or len(example) != 1 or not isinstance(example[0], list):
        return
    if isinstance(task, Classification | Segmentation | Regression | OwnLoss):
        raise DataError(
            "the loader gives detection batches: a list of images and a list of target dicts. Name "
            "the task that reads them (--task detection, task='detection'), or give one of your "
            "own (see refiner.Task)."
        )
