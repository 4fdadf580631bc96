"""What a caller gave, settled: loaders of a LightningDataModule, the steps of a LightningModule."""

from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from refiner.core.errors import ConfigError
from refiner.core.lightning_modules import detached, has_own_steps
from refiner.core.types import DataModule, Loader
from refiner.data.lightning_data import data_of, is_data_module
from refiner.data.loader_checks import check_loader
from refiner.data.loaders import first_batch
from refiner.training.lightning_task import lightning_task
from refiner.training.task import Task

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
    return Settled(model=model, train=train, val=val_loader, test=test_loader, task=task)
