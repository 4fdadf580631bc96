"""Checks of the loaders that a caller gives, before anything is computed with them."""

from collections.abc import Iterable, Iterator, Mapping, Sized

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from refiner.core.batches import batch_size, first_sample
from refiner.core.detection_batches import is_detection
from refiner.core.errors import DataError, ModelError
from refiner.core.inputs import ExampleInput, to_device_of
from refiner.core.surgery import copied
from refiner.core.types import Batch, Loader
from refiner.data.tensor_loader import TensorLoader
from refiner.graph.trace_check import run_original


def check_loader(loader: object, part: str) -> None:
    """Check that a loader can be passed over again and again, and gives batches.

    Args:
        loader: what the caller gave.
        part: of the data, for messages: ``training``, ``validation`` or ``test``.

    Raises:
        DataError: it cannot.
    """
    kind = type(loader).__name__
    if isinstance(loader, Iterator):
        raise DataError(
            f"the {part} loader is an iterator ({kind}), which gives its batches only once. Give "
            "what can be passed over again: the DataLoader itself, or a list."
        )
    if not isinstance(loader, Iterable) or isinstance(loader, str | Mapping | torch.Tensor):
        raise DataError(
            f"the {part} loader is a {kind}, which gives no batches. Give a DataLoader, or any "
            "iterable with len()."
        )
    try:
        count = len(loader)  # type: ignore[arg-type]
    except TypeError:
        raise DataError(_no_length(loader, part)) from None
    if count == 0:
        raise no_batch(loader, part)


def _no_length(loader: object, part: str) -> str:
    """Return the message for a loader without a length."""
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return (
            f"the {part} loader does not know its number of batches, since its "
            f"{type(loader.dataset).__name__} has no len(). Give that a __len__ that returns its "
            "number of samples."
        )
    return (
        f"the {part} loader, a {type(loader).__name__}, has no len(). Give it a __len__ that "
        "returns its number of batches."
    )


def no_batch(loader: object, part: str) -> DataError:
    """Return the error for a loader that gives no batch, with the reason where it is known."""
    start = f"the {part} loader gives no batch"
    if isinstance(loader, DataLoader) and loader.batch_size is not None:
        count = sample_count(loader)
        if count is not None and loader.drop_last and 0 < count < loader.batch_size:
            return DataError(
                f"{start}: it has {count} samples, fewer than its batch size of "
                f"{loader.batch_size}, and drop_last=True drops them. Use a batch size of at most "
                f"{count}, or drop_last=False."
            )
    return DataError(f"{start}. Give it data.")


def sample_count(loader: Loader) -> int | None:
    """Return the number of samples in a pass over a loader, None if it is unknown."""
    if isinstance(loader, TensorLoader):
        return len(loader.images)
    if not isinstance(loader, DataLoader) or loader.batch_size is None:
        return None
    counted = loader.dataset if isinstance(loader.dataset, IterableDataset) else loader.sampler
    try:
        return len(counted) if isinstance(counted, Sized) else None
    except TypeError:
        return None


def least_batch(loader: Loader) -> int | None:
    """Return the number of samples in the shortest batch of a pass, None if it is unknown."""
    if isinstance(loader, list | tuple):
        return min(map(_samples, loader), default=None)
    count = sample_count(loader)
    size: int | None = getattr(loader, "batch_size", None)
    if isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset):
        return 1 if size == 1 else None  # each worker may end with a batch of its own
    if count is None or size is None:
        return None
    drops = loader.train if isinstance(loader, TensorLoader) else getattr(loader, "drop_last", None)
    return size if drops else count % size or size


def _samples(batch: Batch) -> int:
    if is_detection(batch):
        return len(batch[0])
    return batch_size(tuple(batch) if isinstance(batch, list) else batch)


def check_single_samples(model: nn.Module, loader: Loader, example: ExampleInput) -> None:
    """Check that a model can train on a batch of one sample, if the loader gives such a batch.

    A norm over a single value cannot, such as a batch norm after global pooling.

    Args:
        model: it is copied, never changed.
        loader: the training batches.
        example: an example input of the model.

    Raises:
        DataError: it cannot.
    """
    if least_batch(loader) != 1:
        return
    work = copied(model)
    called: list[str] = []

    def begin(module: nn.Module, _inputs: object, name: str) -> None:
        if isinstance(module, nn.modules.batchnorm._NormBase):
            called.append(f"{name} ({type(module).__name__})")

    for name, module in work.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.register_forward_pre_hook(lambda m, i, n=name: begin(m, i, n))
    try:
        run_original(work, first_sample(to_device_of(work, example)), training=True)
    except ModelError as error:
        if "more than 1 value per channel" not in str(error.__cause__):
            return  # it may fail in train mode for any batch
        raise DataError(
            "the training loader gives a batch of one sample, on which "
            f"{called[-1] if called else 'a norm'} cannot train. Use drop_last=True, or another "
            "batch size."
        ) from error
