"""What is asked of any loader: an example input, and a validation part where there is none; and loaders together."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset

from refiner.core.errors import DataError, one_line
from refiner.core.inputs import inputs_and_target, of_each_batch
from refiner.core.randomness import derive_seed, seeded
from refiner.data.split import stratified
from refiner.data.tensor_loader import TensorLoader

VALIDATION_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A training and a validation loader, and what is known of them."""

    train: Any
    """Iterable of batches; one pass is one epoch."""
    val: Any
    name: str
    classes: tuple[str, ...] = ()
    """Names of the classes, empty if not known."""
    note: str = ""
    """What a user should know of this data."""
    mean: torch.Tensor | None = None
    """What was taken from each channel of the images, on the scale 0 to 1; None if not known."""
    std: torch.Tensor | None = None
    """What each channel was then divided by."""


def example_of(loader: Any) -> Any:
    """Return two samples of the inputs in the loader's first batch, as an example input.

    A list of inputs, as torch's collating makes of a tuple, is taken for positional arguments.

    Raises:
        DataError: the loader gives nothing, or batches whose inputs cannot be told.
    """
    with seeded(0, generators_of(loader)):
        try:
            batch = next(iter(loader), None)
        except Exception as error:
            raise DataError(f"the training loader raised {one_line(error)}") from error
    if batch is None:
        raise DataError("the training loader gave no batch. Give it data.")
    if isinstance(batch, torch.Tensor):
        return batch[:2]
    if isinstance(batch, tuple | list) and len(batch) != 2:
        inputs = batch[0] if batch else batch  # of a task of the user's own
    else:
        inputs = inputs_and_target(batch)[0]
    inputs = tuple(inputs) if isinstance(inputs, list) else inputs
    return of_each_batch(inputs, lambda values: values[:2])


def generators_of(*loaders: Any) -> list[torch.Generator]:
    """Return the generators that loaders were given for their order, each once."""
    found: dict[torch.Generator, None] = {}
    holders = list(loaders)
    for holder in holders:  # grows
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator):
            found[generator] = None
        inner = (getattr(holder, name, None) for name in ("sampler", "batch_sampler"))
        holders += [held for held in inner if held is not None]
    return list(found)


def rebuilt(loader: DataLoader[Any], dataset: Any, **batches: Any) -> DataLoader[Any]:
    """Return a loader of ``dataset`` with the settings of ``loader``, batched as told.

    Workers do not outlive an epoch, since each epoch seeds its own.
    """
    return DataLoader(
        dataset,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        prefetch_factor=loader.prefetch_factor,
        generator=loader.generator,
        **batches,
    )


def mixed(loader: Any) -> Any:
    """Return a loader of the same samples in another random order each pass; as it is, where it cannot be.

    Validation sets lie class by class, as folders do, and their loaders keep that order: a batch then
    holds one class, and what scores well on it is no good network.
    """
    if isinstance(loader, TensorLoader):
        return loader.mixed()
    in_order = isinstance(loader, DataLoader) and type(loader.sampler) is SequentialSampler
    if in_order and loader.batch_size is not None:
        return rebuilt(loader, loader.dataset, batch_size=loader.batch_size, shuffle=True)
    return loader


def split_loader(loader: Any, seed: int) -> tuple[Any, Any]:
    """Return a training and a validation loader over the images of one, a fifth for validation.

    Where the data set knows its labels (``targets``), each class gives its share.

    Raises:
        DataError: it is no DataLoader over a data set with a length.
    """
    if not isinstance(loader, DataLoader) or loader.batch_size is None:
        raise DataError(
            f"a loader of type {type(loader).__name__} cannot be split. Give val_loader= too."
        )
    try:
        count = len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        raise DataError("a data set without len() cannot be split. Give val_loader= too.") from None
    if type(loader.sampler) not in (RandomSampler, SequentialSampler):
        raise DataError(
            f"a loader with a {type(loader.sampler).__name__} cannot be split: it chooses samples of "
            "its own. Give val_loader= too."
        )
    train, val = stratified(_labels(loader, count), VALIDATION_SHARE, derive_seed(seed, "split"))
    if len(val) == 0:
        raise DataError("this data set has too few samples to be split. Give val_loader= too.")
    return (
        rebuilt(
            loader,
            Subset(loader.dataset, train.tolist()),
            batch_size=loader.batch_size,
            shuffle=isinstance(loader.sampler, RandomSampler),
            drop_last=loader.drop_last,
        ),
        rebuilt(loader, Subset(loader.dataset, val.tolist()), batch_size=loader.batch_size),
    )


def _labels(loader: DataLoader[Any], count: int) -> np.ndarray[Any, Any]:
    """Return the class of each sample, or one class for all where the data set does not tell."""
    try:
        labels = np.asarray(getattr(loader.dataset, "targets", None))
    except ValueError:  # ragged
        labels = np.empty(0)
    known = labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer)
    return labels if known else np.zeros(count, dtype=int)
