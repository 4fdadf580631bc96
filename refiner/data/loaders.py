"""Tools for any loader: an example input, a validation part, another order."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from refiner.core.batches import inputs_of, is_empty, of_each_batch
from refiner.core.detection_batches import is_detection
from refiner.core.errors import DataError, one_line
from refiner.core.preprocessing import Preprocessing
from refiner.core.randomness import derive_seed, seeded
from refiner.core.types import Batch, Loader
from refiner.data.loader_checks import no_batch
from refiner.data.parts import VALIDATION_SHARE
from refiner.data.split import Indices, stratified
from refiner.data.tensor_loader import TensorLoader

TorchLoader: TypeAlias = DataLoader[Batch]
"""A DataLoader of any batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A training and a validation loader, with what is known about their images."""

    train: Loader
    """Training batches; one pass is one epoch."""
    val: Loader | None
    """Validation batches; None where a user's function returned none."""
    test: Loader | None = None
    """Test batches, which no choice is made on; None where there is no test part."""
    name: str
    classes: tuple[str, ...] = ()
    """Names of the classes, empty if unknown."""
    note: str = ""
    """What a user should know about this data, a sentence a line."""
    mean: torch.Tensor | None = None
    """Mean that was subtracted from each channel, on the scale 0 to 1; None if unknown."""
    std: torch.Tensor | None = None
    """Standard deviation that each channel was divided by; None if unknown."""
    preprocessing: Preprocessing | None = None
    """How a picture becomes an input; None where a user's function loads the data."""


def example_of(loader: Loader) -> Any:
    """Return two samples of the inputs in the loader's first batch, as an example input.

    A list of inputs means positional arguments, since torch's collating turns tuples into lists. In
    batches of detection, the images are a list, which is one argument.

    Raises:
        DataError: the loader gives nothing, or batches whose inputs cannot be identified.
    """
    batch = first_batch(loader)
    if is_detection(batch) and not isinstance(batch[0], torch.Tensor):
        return (list(batch[0][:2]),)
    if isinstance(batch, tuple | list) and len(batch) != 2:
        inputs = batch[0] if batch else batch  # for a user's own task
    else:
        inputs = inputs_of(batch)
    inputs = tuple(inputs) if isinstance(inputs, list) else inputs
    return of_each_batch(inputs, lambda values: values[:2])


def first_batch(loader: Loader) -> Batch:
    """Return the first batch of training data that holds a sample.

    Raises:
        DataError: the loader gives none, or fails.
    """
    with seeded(0, generators_of(loader)):
        try:
            batch = next((batch for batch in loader if not is_empty(batch)), None)
        except Exception as error:
            raise DataError(f"the training loader raised {one_line(error)}") from error
    if batch is None:
        raise no_batch(loader, "training")
    return batch


def generators_of(*loaders: object) -> list[torch.Generator]:
    """Return the generators that loaders draw their order from, each once."""
    found: dict[torch.Generator, None] = {}
    holders = list(loaders)
    for holder in holders:  # grows
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator):
            found[generator] = None
        inner = (getattr(holder, name, None) for name in ("sampler", "batch_sampler"))
        holders += [held for held in inner if held is not None]
    return list(found)


def rebuilt(loader: TorchLoader, dataset: Dataset[Batch], **batches: Any) -> TorchLoader:
    """Return a loader of ``dataset`` with the settings of ``loader``.

    Workers do not outlive an epoch, since each epoch seeds its own.

    Args:
        loader: gives workers, collating, generator and the like.
        dataset: samples of the new loader.
        batches: DataLoader's arguments for batches and their order.
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


def without_lasting_workers(loader: TorchLoader) -> TorchLoader:
    """Return a loader whose workers end with each pass, since each pass seeds its own."""
    if not loader.persistent_workers:
        return loader
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        batches: dict[str, Any] = {"batch_size": loader.batch_size, "drop_last": loader.drop_last}
        if not isinstance(loader.dataset, IterableDataset):
            batches["sampler"] = loader.sampler
        return rebuilt(loader, loader.dataset, **batches)
    return rebuilt(loader, loader.dataset, batch_sampler=loader.batch_sampler)


def mixed(loader: Loader) -> Loader:
    """Return a loader of the same samples in a new random order each pass.

    Validation sets are often sorted by class, as folders are. A batch in that order holds one
    class, and a score on it says little. A loader that cannot be shuffled is returned unchanged.
    """
    if isinstance(loader, TensorLoader):
        return loader.mixed()
    if not isinstance(loader, DataLoader) or type(loader.sampler) is not SequentialSampler:
        return loader
    if loader.batch_size is None:
        return loader
    return rebuilt(loader, loader.dataset, batch_size=loader.batch_size, shuffle=True)


def split_loader(loader: Loader, seed: int) -> tuple[TorchLoader, TorchLoader]:
    """Split a loader's samples: four fifths to train on, a fifth to validate with.

    Where the data set knows its labels (``targets``), every class is split in that proportion.

    Raises:
        DataError: the loader is not a DataLoader over a data set with a length.
    """
    if not isinstance(loader, DataLoader):
        raise DataError(
            f"a loader of type {type(loader).__name__} cannot be split. Give val_loader= too."
        )
    if isinstance(loader.dataset, IterableDataset):
        raise DataError("an IterableDataset cannot be split. Give val_loader= too.")
    if loader.batch_size is None:
        raise DataError(
            "a loader with a batch_sampler of its own, or without batches, cannot be split. Give "
            "val_loader= too."
        )
    try:
        count = len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:
        raise DataError("a data set without len() cannot be split. Give val_loader= too.") from None
    if type(loader.sampler) not in (RandomSampler, SequentialSampler):
        raise DataError(
            f"a loader with a {type(loader.sampler).__name__} cannot be split: its sampler chooses "
            "the samples. Give val_loader= too."
        )
    train, val = stratified(_labels(loader, count), VALIDATION_SHARE, derive_seed(seed, "split"))
    if len(val) == 0:
        raise DataError("this data set has too few samples to split. Give val_loader= too.")
    if loader.drop_last and len(train) < loader.batch_size <= count:
        raise DataError(
            f"the split leaves {len(train)} of {count} samples to train on, fewer than the batch "
            f"size of {loader.batch_size}, and drop_last=True drops them. Use a batch size of at "
            f"most {len(train)}, or drop_last=False, or give val_loader= too."
        )
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


def _labels(loader: TorchLoader, count: int) -> Indices:
    """Return the class of each sample, or one class for all where the data set has no labels."""
    try:
        labels = np.asarray(getattr(loader.dataset, "targets", None))
    except ValueError:  # ragged
        labels = np.empty(0)
    known = labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer)
    return labels if known else np.zeros(count, dtype=int)
