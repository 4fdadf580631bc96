"""A few batches of a loader, and shorter ones made of them."""

import time
from collections.abc import Iterator, Mapping
from itertools import islice

import torch

from refiner.core.batches import inputs_and_target
from refiner.core.contents import Nested, tensors_in
from refiner.core.detection_batches import is_detection
from refiner.core.errors import DataError
from refiner.core.types import Batch, Loader
from refiner.data.loader_checks import least_batch
from refiner.training.devices import Devices

PART = 64
"""Most images of a part of a batch."""
_BYTES = 2**28
"""Most memory for the inputs of a sample."""


def samples_in(batch: Batch) -> int | None:
    """Return the number of samples of a batch; None where its structure does not tell."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.dim() else None
    if is_detection(batch):
        return len(batch[0])
    try:
        _, target = inputs_and_target(batch)
    except DataError:
        return None
    if isinstance(target, torch.Tensor):
        return len(target) if target.dim() else None
    return len(target) or None if isinstance(target, list) else None


def cut(batch: Batch, begin: int, end: int) -> Batch:
    """Return some samples of a batch whose number :func:`samples_in` knows."""
    count = samples_in(batch)
    if is_detection(batch):
        return type(batch)(part[begin:end] for part in batch)

    def part(value: Nested) -> Nested:
        if isinstance(value, torch.Tensor):
            return value[begin:end] if value.dim() and len(value) == count else value
        if isinstance(value, Mapping):
            return {name: part(each) for name, each in value.items()}
        if isinstance(value, list) and len(value) == count and not _arguments(value, count):
            return value[begin:end]  # one item per sample, as in detection
        if type(value) in (list, tuple):
            return type(value)(map(part, value))
        return value

    if type(batch) in (list, tuple):
        return type(batch)(map(part, batch))
    return part(batch)


def _arguments(values: list[Nested], count: int) -> bool:
    """Return whether a list holds the arguments of a model, each a batch of that size."""
    return all(isinstance(v, torch.Tensor) and v.dim() and len(v) == count for v in values)


def sample(
    loader: Loader, devices: Devices, *, images: int, least: int = 1, seconds: float = 5.0
) -> list[Batch]:
    """Return the first batches of a pass, on the device, in parts of at most ``PART`` images.

    Args:
        loader: as :meth:`Devices.loader` returned it.
        devices: where to.
        images: number of images to stop at.
        least: images to take even if reading them takes longer than ``seconds``.
        seconds: time for reading.
    """
    begun, taken, size = time.monotonic(), 0, 0
    parts: list[Batch] = []
    for batch in devices.batches(loader):
        count = samples_in(batch)
        take = 1 if count is None else min(count, images - taken)
        starts = range(0, take, PART)
        parts += [batch] if count is None else [cut(batch, s, min(s + PART, take)) for s in starts]
        taken += take
        size += sum(t.numel() * t.element_size() for t in tensors_in(batch))
        late = time.monotonic() - begun > seconds and taken >= least
        if taken >= images or size > _BYTES or late:
            break
    # A network may fail on a batch of one; whether such a batch comes is the rehearsal's question.
    return [part for part in parts if samples_in(part) != 1] or parts


def first_batches(loader: Loader, devices: Devices) -> Iterator[Batch]:
    """Yield the first batch of a pass, and one of the shortest length that a pass has.

    Raises:
        DataError: there is no batch.
    """
    first = next(iter(islice(devices.batches(loader), 1)), None)
    if first is None:
        raise DataError("the loader gave no batch. Give it data.")
    yield first
    count, least = samples_in(first), least_batch(loader)
    if count is not None and least is not None and least < count:
        yield cut(first, 0, least)
