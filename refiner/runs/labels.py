"""Labels of a whole data set, where they can be read without its images."""

from collections.abc import Iterable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from refiner.core.batches import inputs_and_target
from refiner.core.errors import DataError
from refiner.core.types import Batch, Loader
from refiner.data.tensor_loader import TensorLoader
from refiner.runs.job import Job
from refiner.runs.look import Look
from refiner.training.task import Classification

IGNORED = -100
"""Label that the cross entropy leaves out."""


def check_labels(job: Job, look: Look) -> None:
    """Check the labels of a classifier: those of the sample, and all that are held in memory.

    Raises:
        DataError: there is a label that no output stands for.
    """
    if not isinstance(job.task, Classification) or look.classes < 1:
        return
    if look.labels is not None:
        if bool((look.labels == IGNORED).all()):
            raise DataError(
                f"all {look.images} validation labels that were looked at are {IGNORED}, which "
                "leaves a sample out. Give class numbers."
            )
        _check(look.labels, look.classes, "validation")
    loaders = {"training": job.train_loader, "validation": job.val_loader, "test": job.test_loader}
    for name, loader in loaders.items():
        labels = None if loader is None else _in_memory(loader, look.classes)
        if labels is not None:
            _check(labels, look.classes, name)


def _check(labels: torch.Tensor, outputs: int, name: str) -> None:
    """Raise a DataError for integer labels that are not below the number of outputs."""
    values = _wrong(labels, outputs)
    if not len(values):
        return
    kept = labels[labels != IGNORED]
    low, high = int(kept.min()), int(kept.max())
    has = f"the network has {outputs} outputs (0 to {outputs - 1})"
    said = f"the {name} labels run from {low} to {high}, but {has}"
    if low == 1 and high == outputs:
        raise DataError(f"{said}. Subtract 1 from the labels.")
    if low < 0:
        raise DataError(f"{said}. Number the classes from 0; {IGNORED} leaves a sample out.")
    raise DataError(
        f"{said}. Give a network with {high + 1} outputs, or number the classes from 0."
    )


def _wrong(labels: torch.Tensor, outputs: int) -> torch.Tensor:
    """Return the places of labels that no output stands for."""
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.dim() != 1:
        return torch.empty(0)
    return ((labels < 0) & (labels != IGNORED) | (labels >= outputs)).nonzero()[:, 0]


def _in_memory(loader: Loader, outputs: int) -> torch.Tensor | None:
    """Return the labels that a loader holds in memory; None where it does not tell them."""
    if isinstance(loader, TensorLoader):
        return loader.labels.cpu()
    if isinstance(loader, list | tuple):
        return _joined(map(_target, loader))
    if not isinstance(loader, DataLoader) or loader.collate_fn is None:
        return None
    labels = _of(loader.dataset)
    wrong = torch.empty(0) if labels is None else _wrong(labels, outputs)
    if labels is None or not len(wrong):
        return None
    # The item, or the collating, may number the classes otherwise.
    item = _target(loader.collate_fn([loader.dataset[int(wrong[0])]]))
    return labels if item is not None and len(_wrong(item, outputs)) else None


def _target(batch: Batch) -> torch.Tensor | None:
    try:
        target = inputs_and_target(batch)[1]
    except DataError:
        return None
    plain = isinstance(target, torch.Tensor) and target.dim() == 1
    return target.cpu() if plain else None


def _joined(parts: Iterable[torch.Tensor | None]) -> torch.Tensor | None:
    known = [part for part in parts if part is not None and not part.is_floating_point()]
    return torch.cat([part.long() for part in known]) if known else None


def _of(dataset: Dataset[object]) -> torch.Tensor | None:
    """Return what a data set holds as its labels, which its items need not have."""
    if isinstance(dataset, Subset):
        inner = _of(dataset.dataset)
        return None if inner is None else inner[list(dataset.indices)]
    if isinstance(dataset, TensorDataset):
        targets: object = dataset.tensors[-1]
    else:
        targets = getattr(dataset, "targets", None)
    if not isinstance(targets, list | tuple | np.ndarray | torch.Tensor) or not len(targets):
        return None
    try:
        labels = torch.as_tensor(np.asarray(targets))
    except (TypeError, ValueError):
        return None
    return labels if labels.dim() == 1 else None
